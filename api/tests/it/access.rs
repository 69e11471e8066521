//! Who may do what: keys, scopes, applications, rates and quotas.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use reveille_api::auth::key::NewKey;
use reveille_api::{Access, Limits, Settings};
use reveille_shared::bus::Bus;
use reveille_shared::bus::local::LocalBus;
use reveille_shared::bus::presence::{Trouble, TroubleKind, WorkerPresence};
use reveille_shared::model::access::Scope;
use reveille_shared::store::ApiKey;
use serde_json::{Value, json};

use crate::support::{Answer, Api, START, document};

/// Makes a key and answers what its holder sends.
pub(crate) async fn key(
    api: &Api,
    scope: Scope,
    application: Option<&str>,
    expires_at: Option<i64>,
) -> (uuid::Uuid, String) {
    let new = NewKey::random().unwrap();
    let key = ApiKey {
        id: new.id,
        digest: new.digest,
        scope,
        application: application.map(str::to_owned),
        name: String::new(),
        created_at: START,
        expires_at,
        revoked_at: None,
    };
    api.store.api_key_create(&key).await.unwrap();
    (new.id, new.text)
}

async fn ask(api: &Api, key: Option<&str>, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    api.send(request.body(body.map_or_else(Body::empty, |body| Body::from(body.to_string()))).unwrap()).await
}

async fn start(access: Access, limits: Limits) -> Api {
    Api::start_with(Settings { access, limits, ..Settings::default() }, std::sync::Arc::new(LocalBus::new())).await
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.json["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn the_first_key_closes_what_was_open_to_this_machines_users() {
    let api = start(Access::default(), Limits::default()).await;
    assert_eq!(ask(&api, None, Method::GET, "/schedules", None).await.status, StatusCode::NOT_FOUND);
    let (id, text) = key(&api, Scope::Admin, None, None).await;
    api.pass(Duration::from_secs(31));
    let refused = ask(&api, None, Method::GET, "/schedules", None).await;
    assert_eq!(
        (code(&refused), &refused.headers["www-authenticate"]),
        ((401, "unauthorized"), &"Bearer".parse().unwrap())
    );
    assert_eq!(ask(&api, Some(&text), Method::GET, "/schedules", None).await.status, StatusCode::NOT_FOUND);
    api.store.api_key_revoke(id).await.unwrap();
    api.pass(Duration::from_secs(31));
    assert_eq!(code(&ask(&api, Some(&text), Method::GET, "/schedules", None).await), (401, "unauthorized"));
}

#[tokio::test]
async fn a_credential_that_is_sent_is_verified_also_where_none_is_needed() {
    let api = start(Access::default(), Limits::default()).await;
    let unknown = NewKey::random().unwrap().text;
    for wrong in ["nonsense", "rvl_1_2", &unknown] {
        assert_eq!(
            code(&ask(&api, Some(wrong), Method::GET, "/schedules", None).await),
            (401, "unauthorized"),
            "{wrong}"
        );
    }
    let (_, mut text) = key(&api, Scope::Admin, None, None).await;
    let last = if text.ends_with('0') { '1' } else { '0' };
    text.pop();
    text.push(last);
    assert_eq!(code(&ask(&api, Some(&text), Method::GET, "/schedules", None).await), (401, "unauthorized"));
    let basic = Request::builder().uri("/schedules").header("authorization", "Basic eDp5").body(Body::empty()).unwrap();
    assert_eq!(code(&api.send(basic).await), (401, "unauthorized"));
}

#[tokio::test]
async fn a_closed_api_opens_for_the_operators_token_and_for_keys() {
    let access = Access { token: Some("the-operators-token".to_owned()), closed: true };
    let api = start(access, Limits::default()).await;
    assert_eq!(code(&ask(&api, None, Method::GET, "/schedules", None).await), (401, "unauthorized"));
    assert_eq!(
        ask(&api, Some("the-operators-token"), Method::GET, "/schedules", None).await.status,
        StatusCode::NOT_FOUND
    );
    let (_, expiring) = key(&api, Scope::Read, None, Some(START + 40_000)).await;
    assert_eq!(ask(&api, Some(&expiring), Method::GET, "/schedules", None).await.status, StatusCode::NOT_FOUND);
    api.pass(Duration::from_secs(40));
    assert_eq!(code(&ask(&api, Some(&expiring), Method::GET, "/schedules", None).await), (401, "unauthorized"));
}

#[tokio::test]
async fn a_scope_reaches_so_far() {
    let api = start(Access::default(), Limits::default()).await;
    let (_, admin) = key(&api, Scope::Admin, None, None).await;
    let registered = ask(&api, Some(&admin), Method::POST, "/schedules", Some(&document("1", "cron", "@daily"))).await;
    let id = registered.json["id"].as_str().unwrap().to_owned();
    let at = |path: &str| path.replace("ID", &id);
    let preview = serde_json::json!({"type": "cron", "schedule": "@daily"});
    let registration = document("1", "cron", "@daily");
    let table: [(Method, &str, Option<&Value>, Scope); 13] = [
        (Method::GET, "/schedules", None, Scope::Read),
        (Method::GET, "/schedules/ID", None, Scope::Read),
        (Method::GET, "/schedules/ID/runs", None, Scope::Read),
        (Method::GET, "/wake", None, Scope::Read),
        (Method::GET, "/workers", None, Scope::Read),
        (Method::POST, "/schedules/preview", Some(&preview), Scope::Read),
        (Method::POST, "/schedules", Some(&registration), Scope::Write),
        (Method::POST, "/schedules/ID/update", Some(&registration), Scope::Write),
        (Method::POST, "/schedules/ID/pause", None, Scope::Write),
        (Method::POST, "/schedules/ID/resume", None, Scope::Write),
        (Method::POST, "/schedules/ID/trigger", None, Scope::Write),
        (Method::DELETE, "/schedules?application=nobody", None, Scope::Write),
        (Method::DELETE, "/schedules/ID", None, Scope::Write),
    ];
    for (held, reaches) in [(Scope::Read, Scope::Read), (Scope::Write, Scope::Write)] {
        let (_, text) = key(&api, held, None, None).await;
        for (method, path, body, needed) in &table {
            let answer = ask(&api, Some(&text), method.clone(), &at(path), *body).await;
            let refused = code(&answer) == (403, "insufficient_scope");
            assert_eq!(refused, *needed > reaches, "{held:?} {method} {path}: {}", answer.json);
            assert_eq!(answer.headers.contains_key("www-authenticate"), refused);
        }
    }
}

#[tokio::test]
async fn other_applications_are_not_there() {
    let api = start(Access::default(), Limits::default()).await;
    let (_, admin) = key(&api, Scope::Admin, None, None).await;
    let (_, chef) = key(&api, Scope::Admin, Some("chef"), None).await;
    let mut others = document("theirs", "now", "");
    others["client"]["application"] = "bakery".into();
    let theirs = ask(&api, Some(&admin), Method::POST, "/schedules", Some(&others)).await;
    let theirs = theirs.json["id"].as_str().unwrap().to_owned();
    let run = api.claim().await.remove(0).id;

    for application in [Value::from("bakery"), Value::from(""), Value::Null] {
        let mut foreign = document("1", "cron", "@daily");
        foreign["client"]["application"] = application;
        let refused = ask(&api, Some(&chef), Method::POST, "/schedules", Some(&foreign)).await;
        assert_eq!(code(&refused), (403, "wrong_application"));
        assert_eq!(refused.json["errors"][0]["pointer"], "/client/application");
    }
    let own = document("own", "cron", "@daily");
    for (method, path, body) in [
        (Method::GET, "/schedules/ID", None),
        (Method::GET, "/schedules/ID/runs", None),
        (Method::POST, "/schedules/ID/update", Some(&own)),
        (Method::POST, "/schedules/ID/pause", None),
        (Method::POST, "/schedules/ID/resume", None),
        (Method::POST, "/schedules/ID/trigger", None),
        (Method::DELETE, "/schedules/ID", None),
        (Method::DELETE, "/schedules?application=bakery", None),
        (Method::DELETE, "/schedules?key=theirs", None),
        (Method::GET, "/schedules?application=bakery", None),
        (Method::GET, "/schedules", None),
    ] {
        let answer = ask(&api, Some(&chef), method.clone(), &path.replace("ID", &theirs), body).await;
        assert_eq!(code(&answer), (404, "not_found"), "{method} {path}: {}", answer.json);
    }
    assert_eq!(code(&ask(&api, Some(&chef), Method::GET, &format!("/runs/{run}"), None).await), (404, "not_found"));
    assert_eq!(ask(&api, Some(&admin), Method::GET, &format!("/runs/{run}"), None).await.status, StatusCode::OK);

    let registered = ask(&api, Some(&chef), Method::POST, "/schedules", Some(&own)).await;
    assert_eq!(registered.status, StatusCode::OK, "{}", registered.json);
    let listed = ask(&api, Some(&chef), Method::GET, "/schedules", None).await;
    assert_eq!(listed.json.as_array().unwrap().len(), 1);
    let id = listed.json[0]["id"].as_str().unwrap();
    let mut moved = own.clone();
    moved["client"]["application"] = "bakery".into();
    let moved = ask(&api, Some(&chef), Method::POST, &format!("/schedules/{id}/update"), Some(&moved)).await;
    assert_eq!(code(&moved), (403, "wrong_application"));
    let all = ask(&api, Some(&admin), Method::GET, "/schedules?state=active", None).await;
    assert_eq!(all.json.as_array().unwrap().len(), 2, "nothing of the other's was touched: {}", all.json);
}

#[tokio::test]
async fn a_flood_of_wrong_keys_and_a_key_that_is_known_cost_no_statements() {
    let api = start(Access::default(), Limits::default()).await;
    let (_, text) = key(&api, Scope::Read, None, None).await;
    let wrong = NewKey::random().unwrap().text;
    for text in [&text, &wrong] {
        ask(&api, Some(text), Method::GET, "/no/such/path", None).await;
    }
    let before = api.store.statements();
    for _ in 0..50 {
        ask(&api, Some(&text), Method::GET, "/no/such/path", None).await;
        ask(&api, Some(&wrong), Method::GET, "/no/such/path", None).await;
    }
    assert_eq!(api.store.statements(), before);
}

#[tokio::test]
async fn an_application_gets_no_more_than_its_share() {
    let limits = Limits { schedules: 2, due_per_minute: 3, requests_per_second: 0 };
    let api = start(Access::default(), limits).await;
    for key in ["1", "2"] {
        api.register(&document(key, "cron", "@daily")).await;
    }
    let third = api.post("/schedules", &document("3", "cron", "@daily")).await;
    assert_eq!((code(&third), &third.headers["retry-after"]), ((429, "quota_exceeded"), &"1".parse().unwrap()));
    api.register(&document("2", "cron", "@hourly")).await; // one that is there already
    let mut other = document("1", "cron", "@daily");
    other["client"]["application"] = "bakery".into();
    api.register(&other).await;

    let limits = Limits { due_per_minute: 2, ..Limits::default() };
    let api = start(Access::default(), limits).await;
    for key in ["1", "2"] {
        api.register(&document(key, "date", "2030-01-01T00:00:30")).await;
    }
    assert_eq!(
        code(&api.post("/schedules", &document("3", "date", "2030-01-01T00:00:59")).await),
        (429, "quota_exceeded")
    );
    api.register(&document("3", "date", "2030-01-01T00:01:00")).await;

    let api = start(Access::default(), Limits { requests_per_second: 2, ..Limits::default() }).await;
    for _ in 0..4 {
        assert_eq!(api.get("/schedules").await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(code(&api.get("/schedules").await), (429, "rate_limited"));
    api.pass(Duration::from_secs(1));
    assert_eq!(api.get("/schedules").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn workers_are_listed_and_whose_targets_are_in_trouble_is_not_told_to_everybody() {
    let bus = Arc::new(LocalBus::new());
    let api = Api::start_with(Settings::default(), bus.clone()).await;
    let (_, admin) = key(&api, Scope::Admin, None, None).await;
    let (_, chef) = key(&api, Scope::Read, Some("chef"), None).await;
    assert_eq!(ask(&api, Some(&admin), Method::GET, "/workers", None).await.json, json!([]));
    let worker = WorkerPresence {
        id: "1".to_owned(),
        name: "w1".to_owned(),
        version: "0.1.0".to_owned(),
        zone_rules: "2026f".to_owned(),
        queues: vec!["default".to_owned()],
        slots: 4,
        in_flight: 1,
        draining: false,
        started_at: START,
        told_at: START + 10_000,
        targets: vec![Trouble { target: "https://partner.example:443".to_owned(), kind: TroubleKind::Congested }],
    };
    bus.worker_tell(&worker).await.unwrap();
    let mut expected = json!([{
        "name": "w1", "version": "0.1.0", "zone_rules": "2026f", "queues": ["default"], "slots": 4, "in_flight": 1, "draining": false,
        "started_at": "2027-01-15T08:00:00.000Z", "told_at": "2027-01-15T08:00:10.000Z",
        "targets": [{"target": "https://partner.example:443", "kind": "congested"}],
    }]);
    assert_eq!(ask(&api, Some(&admin), Method::GET, "/workers", None).await.json, expected);
    let query =
        json!({"query": "{ workers { name queues slots inFlight draining startedAt targets { target kind } } }"});
    let answer = ask(&api, Some(&admin), Method::POST, "/graphql", Some(&query)).await;
    let shown = &answer.json["data"]["workers"][0];
    assert_eq!(
        shown["targets"],
        json!([{"target": "https://partner.example:443", "kind": "CONGESTED"}]),
        "{}",
        answer.json
    );
    assert_eq!((&shown["name"], &shown["slots"], &shown["inFlight"]), (&json!("w1"), &json!(4), &json!(1)));
    expected[0]["targets"] = json!([]);
    assert_eq!(ask(&api, Some(&chef), Method::GET, "/workers", None).await.json, expected);
}
