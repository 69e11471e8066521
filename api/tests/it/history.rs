//! The history of schedules: what is shown, as JSON and as CSV, and what is refused.

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use reveille_api::{Caller, Service, Settings};
use reveille_shared::model::access::Scope;
use reveille_shared::model::history::HistoryKind;
use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_shared::store::{HistoryFilter, HistoryPage};
use serde_json::{Value, json};

use crate::support::{Api, document, finish};

/// A document whose history is kept.
fn kept(key: &str, kind: &str, schedule: &str) -> Value {
    let mut document = document(key, kind, schedule);
    document["task"]["history_check"] = json!(true);
    document
}

fn kinds(history: &Value) -> Vec<&str> {
    history.as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect()
}

async fn csv(api: &Api, request: Request<Body>) -> String {
    let response = api.begin(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8; header=present");
    assert_eq!(response.headers()["content-disposition"], "attachment; filename=\"history.csv\"");
    String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

async fn csv_at(api: &Api, path: &str) -> String {
    csv(api, Request::get(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_deleted_schedules_history_is_told_newest_first() {
    let api = Api::start().await;
    let id = api.register(&kept("1", "now", "")).await;
    let run = api.claim().await.remove(0);
    api.settle(&run, finish(RunState::Failed, OutcomeCode::HttpStatus, None)).await;
    api.post(&format!("/schedules/{id}/update"), &kept("1", "cron", "@daily")).await;
    assert_eq!(api.delete(&format!("/schedules/{id}")).await.status, StatusCode::OK);

    let told = api.get(&format!("/schedules/{id}/history")).await;
    assert_eq!(told.status, StatusCode::OK);
    assert_eq!(kinds(&told.json), ["deleted", "updated", "executed", "registered"]);
    let executed = &told.json[2];
    assert_eq!(executed["schedule_id"], id.as_str());
    assert_eq!(executed["run_id"], run.id.to_string());
    assert_eq!(executed["client"], document("1", "now", "")["client"]);
    assert_eq!(executed["at"], "2027-01-15T08:00:00.000Z");
    let facts = ["name", "attempt", "outcome", "state", "lag_ms", "duration_ms", "detail", "worker", "late_cause"];
    let facts: Vec<&Value> = facts.iter().map(|name| &executed[name]).collect();
    assert_eq!(
        json!(facts),
        json!(["bbb", 1, "http_status", "failed", 0, 0, "as the test says", "test", "slots_busy"])
    );
    let oldest = api.get(&format!("/history?schedule_id={id}&order=asc&limit=1")).await;
    assert_eq!(kinds(&oldest.json), ["registered"]);
}

#[tokio::test]
async fn a_schedule_without_history_has_an_empty_one_and_nobody_has_none() {
    let api = Api::start().await;
    let id = api.register(&document("1", "cron", "@daily")).await;
    let empty = api.get(&format!("/schedules/{id}/history")).await;
    assert_eq!((empty.status, empty.json), (StatusCode::OK, json!([])));
    let nobody = "/schedules/00000000-0000-0000-0000-000000000000/history";
    assert_eq!(api.get(nobody).await.status, StatusCode::NOT_FOUND);
    assert_eq!(api.get(&format!("{nobody}?format=csv")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(api.get("/schedules/x/history").await.status, StatusCode::NOT_FOUND);
    let all = api.get("/history").await;
    assert_eq!((all.status, all.json), (StatusCode::OK, json!([])));
    // There is history of it, only none that is asked for.
    let id = api.register(&kept("2", "cron", "@daily")).await;
    api.delete(&format!("/schedules/{id}")).await;
    let filtered = api.get(&format!("/schedules/{id}/history?kind=executed")).await;
    assert_eq!((filtered.status, filtered.json), (StatusCode::OK, json!([])));
}

#[tokio::test]
async fn pages_are_linked_and_csv_is_whole() {
    let api = Api::start().await;
    // Longer than a chunk of the export.
    for number in 0..520 {
        api.register(&kept(&number.to_string(), "cron", "@daily")).await;
    }
    let mut seen = Vec::new();
    let mut path = Some("/history?application=chef&limit=200&order=asc".to_owned());
    while let Some(current) = path {
        let answer = api.get(&current).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        seen.extend(answer.json.as_array().unwrap().iter().map(|entry| entry["id"].as_i64().unwrap()));
        let link = answer.headers.get("link").map(|link| link.to_str().unwrap().to_owned());
        path = link.map(|link| link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned());
    }
    assert_eq!(seen.len(), 520);
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));

    let ids = |text: &str| -> Vec<i64> {
        text.split("\r\n").skip(1).filter_map(|line| line.split(',').next()?.parse().ok()).collect()
    };
    assert_eq!(ids(&csv_at(&api, "/history?format=csv&order=asc").await), seen);
    assert_eq!(ids(&csv_at(&api, "/history?format=csv&order=asc&limit=510").await), seen[..510]);
    assert_eq!(ids(&csv_at(&api, "/history?format=csv&order=asc&limit=500").await), seen[..500]);
    assert!(ids(&csv_at(&api, "/history?format=csv&group=nobody").await).is_empty());
}

#[tokio::test]
async fn csv_is_quoted_and_no_formula() {
    let api = Api::start().await;
    let mut hostile = kept("@SUM(A1)", "now", "");
    hostile["name"] = json!("=HYPERLINK(\"http://evil\",\"x\")");
    hostile["client"]["group"] = json!("two\nlines");
    hostile["client"]["operation"] = json!("-1+1");
    hostile["client"]["application"] = json!("\tübel");
    let id = api.register(&hostile).await;
    let request = Request::get("/history").header("accept", "text/csv;q=0.9, application/json;q=0.5");
    let text = csv(&api, request.body(Body::empty()).unwrap()).await;
    let (head, rest) = text.split_once("\r\n").unwrap();
    assert_eq!(
        head,
        "id,at,kind,schedule_id,run_id,application,group,key,operation,type,name,revision,attempt,outcome,state,\
         http_status,lag_ms,duration_ms,late_cause,detail,worker"
    );
    let run_id = api.claim().await[0].id;
    assert_eq!(
        rest,
        format!(
            "1,2027-01-15T08:00:00.000Z,registered,{id},{run_id},'\tübel,\"two\nlines\",'@SUM(A1),'-1+1,scheduler,\
             \"'=HYPERLINK(\"\"http://evil\"\",\"\"x\"\")\",1,,,,,,,,,\r\n"
        )
    );
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_by_name() {
    let api = Api::start().await;
    let id = api.register(&kept("1", "cron", "@daily")).await;
    for (query, name) in [
        ("kind=exploded", "kind"),
        ("outcome=fine", "outcome"),
        ("schedule_id=7", "schedule_id"),
        ("run_id=x", "run_id"),
        ("from=yesterday", "from"),
        ("to=2027-01-15", "to"),
        ("order=up", "order"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("format=csv&limit=-1", "limit"),
        ("cursor=1", "cursor"),
        ("cursor=1_x", "cursor"),
        ("format=xml", "format"),
        ("applications=chef", "applications"),
        ("group=a%00b", "group"),
        ("group=a&group=b", "group"),
    ] {
        for path in ["/history".to_owned(), format!("/schedules/{id}/history")] {
            let answer = api.get(&format!("{path}?{query}")).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{query}");
            assert_eq!(answer.json["errors"][0]["pointer"], name, "{query}: {}", answer.json);
        }
    }
    assert_eq!(api.get(&format!("/schedules/{id}/history?schedule_id={id}")).await.status, StatusCode::BAD_REQUEST);
    for query in ["", "kind=&limit=&cursor=&from=", "from=2027-01-15T08:00:00+00:00", "to=2028-01-15T17:00:00%2B09:00"]
    {
        assert_eq!(kinds(&api.get(&format!("/history?{query}")).await.json), ["registered"], "{query}");
    }
    for query in ["from=2027-01-15T08:00:00.001Z", "to=2027-01-15T08:00:00Z", "cursor=0_0", "type=x"] {
        assert_eq!(api.get(&format!("/history?{query}")).await.json, json!([]), "{query}");
    }
}

#[tokio::test]
async fn a_caller_sees_the_history_of_his_application_alone() {
    let api = Api::start().await;
    let id = api.register(&kept("1", "cron", "@daily")).await;
    let operator = Service::new(api.context.clone(), &Settings::default());
    let acting = |application: &str| {
        operator.acting_for(Caller { scope: Scope::Read, application: Some(application.to_owned()), key: None })
    };
    let page = HistoryPage { after: None, ascending: false, limit: 10 };
    let chef = Some("chef".to_owned());
    for (caller, filter, expected) in [
        ("chef", HistoryFilter::default(), 1),
        ("chef", HistoryFilter { application: chef.clone(), ..HistoryFilter::default() }, 1),
        ("waiter", HistoryFilter::default(), 0),
        ("waiter", HistoryFilter { application: chef, ..HistoryFilter::default() }, 0),
        ("", HistoryFilter::default(), 0),
        ("waiter", HistoryFilter { kind: Some(HistoryKind::Registered), ..HistoryFilter::default() }, 0),
    ] {
        assert_eq!(acting(caller).history(&filter, &page).await.unwrap().len(), expected, "{caller} {filter:?}");
    }
    let own = acting("chef").schedule_history(id.parse().unwrap(), &HistoryFilter::default(), &page).await.unwrap();
    assert_eq!(own.len(), 1);
}

#[tokio::test]
async fn an_export_that_breaks_off_is_not_taken_for_a_whole_one() {
    let api = Api::start().await;
    for number in 0..520 {
        api.register(&kept(&number.to_string(), "cron", "@daily")).await;
    }
    let response = api.begin(Request::get("/history?format=csv").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    api.store.close().await;
    assert!(to_bytes(response.into_body(), usize::MAX).await.is_err());
}

#[tokio::test]
async fn a_run_shows_its_timeline() {
    let api = Api::start().await;
    let id = api.register(&document("1", "now", "")).await;
    let timeline = async || {
        let run = api.get(&format!("/schedules/{id}/runs")).await.json[0]["id"].as_str().unwrap().to_owned();
        let shown = api.get(&format!("/runs/{run}")).await.json;
        let known = |name: &str| shown["timeline"][name].as_str().map(str::to_owned);
        let names = ["due_at", "woken_at", "claimed_at", "dispatched_at", "first_byte_at", "settled_at"];
        (names.map(|name| known(name).is_some()), shown["late_cause"].clone(), shown["late_reason"].clone())
    };
    assert_eq!(timeline().await, ([true, false, false, false, false, false], Value::Null, Value::Null));
    let run = api.claim().await.remove(0);
    assert_eq!(timeline().await.0, [true, false, true, false, false, false]);
    api.settle(&run, finish(RunState::Succeeded, OutcomeCode::Ok, None)).await;
    let (known, cause, reason) = timeline().await;
    assert_eq!(known, [true; 6]);
    assert_eq!(cause, "slots_busy");
    assert!(reason.as_str().unwrap().contains("concurrency"), "{reason}");
}
