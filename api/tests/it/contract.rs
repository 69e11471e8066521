//! The wire contract of published clients, call by call.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use reveille_shared::model::zone::rules;
use serde_json::{Value, json};

use crate::support::{Api, START, document};

#[tokio::test]
async fn registering_answers_name_client_id_and_what_became_of_it() {
    let api = Api::start().await;
    let answer = api.post("/schedules", &document("1", "cron", "30 * * * * *")).await;
    assert_eq!(answer.status, StatusCode::OK);
    let mut keys: Vec<&str> = answer.json.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["change", "client", "id", "name"]);
    assert_eq!(answer.json["client"], document("1", "now", "")["client"]);
    assert_eq!(answer.json["name"], "bbb");
}

/// On both stores: on one of them the statement tells it, and no other asks for it.
#[tokio::test]
async fn a_registration_says_whether_it_created_replaced_or_changed_nothing() {
    for api in [Api::start().await, Api::start_on_postgres().await] {
        let (daily, hourly) = (document("1", "cron", "@daily"), document("1", "cron", "@hourly"));
        let mut id = String::new();
        for (document, expected) in [(&daily, "created"), (&daily, "unchanged"), (&hourly, "replaced")] {
            let answer = api.post("/schedules", document).await;
            assert_eq!(answer.json["change"], expected);
            id = answer.json["id"].as_str().unwrap().to_owned();
        }
        let at = format!("/schedules/{id}/update");
        assert_eq!(api.post(&at, &hourly).await.json["change"], "unchanged");
        assert_eq!(api.post(&at, &daily).await.json["change"], "replaced");
        let now = document("2", "now", "");
        assert_eq!(api.post("/schedules", &now).await.json["change"], "created");
        assert_eq!(api.post("/schedules", &now).await.json["change"], "replaced", "it is armed anew");
    }
}

#[tokio::test]
async fn a_misspelt_client_replaces_nobodys_schedule() {
    let api = Api::start().await;
    let mut nobody = document("", "cron", "@daily");
    nobody["client"] = json!({});
    let id = api.register(&nobody).await;
    let mut misspelt = document("", "cron", "@hourly");
    misspelt["client"] = json!({"app": "w"});
    for path in ["/schedules", &format!("/schedules/{id}/update")] {
        let refused = api.post(path, &misspelt).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        let error = &refused.json["errors"][0];
        assert_eq!((&error["pointer"], &error["code"]), (&json!("/client/app"), &json!("unknown_field")));
    }
    assert_eq!(api.shown(&id).await["schedule"], "@daily");
}

#[tokio::test]
async fn data_that_is_null_is_an_empty_object() {
    let api = Api::start().await;
    let mut document = document("1", "cron", "@daily");
    document["task"]["data"] = Value::Null;
    let id = api.register(&document).await;
    assert_eq!(api.shown(&id).await["task"]["data"], json!({}));
}

#[tokio::test]
async fn a_compressed_body_is_refused_as_such() {
    let api = Api::start().await;
    // `gzip` of "{}".
    let gzipped = [31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 171, 174, 5, 0, 67, 191, 166, 163, 2, 0, 0, 0];
    for path in ["/schedules", "/schedules/preview", "/graphql"] {
        let request = Request::post(path).header("content-encoding", "gzip").header("content-type", "application/json");
        let refused = api.send(request.body(Body::from(gzipped.to_vec())).unwrap()).await;
        assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path}");
        assert_eq!(refused.json["code"], "unsupported_content_encoding");
        assert_eq!(refused.headers["accept-encoding"], "identity");
    }
    let document = document("1", "cron", "@daily").to_string();
    let plain = Request::post("/schedules").header("content-encoding", "identity").body(Body::from(document)).unwrap();
    assert_eq!(api.send(plain).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_list_of_runs_refuses_a_parameter_that_nobody_knows() {
    let api = Api::start().await;
    let id = api.register(&document("1", "cron", "@daily")).await;
    assert_eq!(api.get(&format!("/schedules/{id}/runs?limit=&cursor=")).await.status, StatusCode::OK);
    let refused = api.get(&format!("/schedules/{id}/runs?state=dead")).await;
    assert_eq!((refused.status, refused.json["code"].as_str()), (StatusCode::BAD_REQUEST, Some("bad_query")));
}

#[tokio::test]
async fn a_schedule_is_shown_as_an_array_of_one_with_the_servers_fields() {
    let api = Api::start().await;
    let id = api.register(&document("1", "cron", "30 * * * * *")).await;
    let answer = api.get(&format!("/schedules/{id}")).await;
    assert_eq!(answer.json.as_array().unwrap().len(), 1);
    let shown = &answer.json[0];
    assert_eq!(shown["id"], id.as_str());
    assert_eq!(shown["schedule"], "30 * * * * *");
    assert_eq!(shown["timezone"], "UTC");
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["task"]["status"], "idle");
    assert_eq!(shown["task"]["next"], START / 1000 + 30);
    assert_eq!(shown["task"]["iteration"], 0);
    assert_eq!(shown["task"]["retry_count"], 0);
    assert_eq!(shown["task"]["data"], json!({"a": 1}));
}

#[tokio::test]
async fn a_returned_document_sent_back_changes_nothing() {
    let api = Api::start().await;
    let id = api.register(&document("1", "cron", "30 * * * * *")).await;
    let shown = api.shown(&id).await;
    let answer = api.post(&format!("/schedules/{id}/update"), &shown).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    assert_eq!(answer.json.get("warnings"), None);
    assert_eq!(api.shown(&id).await, shown);
}

#[tokio::test]
async fn update_goes_by_the_paths_id() {
    let api = Api::start().await;
    let first = api.register(&document("1", "cron", "30 * * * * *")).await;
    let second = api.register(&document("2", "cron", "30 * * * * *")).await;

    let renamed = api.post(&format!("/schedules/{first}/update"), &document("3", "cron", "15 * * * * *")).await;
    assert_eq!((renamed.status, renamed.json["id"].as_str()), (StatusCode::OK, Some(first.as_str())));
    assert_eq!(api.shown(&first).await["client"]["key"], "3");
    assert_eq!(api.shown(&first).await["task"]["next"], START / 1000 + 15);

    let taken = api.post(&format!("/schedules/{first}/update"), &document("2", "cron", "15 * * * * *")).await;
    assert_eq!(taken.status, StatusCode::CONFLICT);
    assert_eq!(taken.json["code"], "client_key_taken");
    assert_eq!(api.shown(&second).await["schedule"], "30 * * * * *");

    let nobody = uuid::Uuid::now_v7();
    let missing = api.post(&format!("/schedules/{nobody}/update"), &document("9", "now", "")).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn filters_select_and_empty_ones_are_ignored() {
    let api = Api::start().await;
    let mut other = document("a,b", "cron", "@daily");
    other["client"]["group"] = json!("system,x");
    api.register(&document("1", "cron", "@daily")).await;
    api.register(&other).await;
    let count = async |path: &str| match api.get(path).await {
        answer if answer.status == StatusCode::OK => answer.json.as_array().unwrap().len(),
        answer => {
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
            0
        }
    };
    assert_eq!(count("/schedules").await, 2);
    assert_eq!(count("/schedules?application=chef&group=&key=").await, 2);
    assert_eq!(count("/schedules?key=a,b").await, 1);
    assert_eq!(count("/schedules?group=system&type=scheduler&operation=op%231").await, 1);
    assert_eq!(count("/schedules?key=a").await, 0);
    assert_eq!(count("/schedules?group=x").await, 0);
    let unknown = api.get("/schedules?colour=red").await;
    assert_eq!((unknown.status, unknown.json["code"].as_str()), (StatusCode::BAD_REQUEST, Some("bad_query")));
}

#[tokio::test]
async fn a_comma_in_a_client_field_is_part_of_it() {
    let api = Api::start().await;
    let with = |group: &str, key: &str| {
        let mut document = document(key, "cron", "@daily");
        document["client"]["group"] = json!(group);
        document
    };
    let first = api.register(&with("a,b", "c")).await;
    let second = api.register(&with("a", "b,c")).await;
    assert_ne!(first, second);
}

#[tokio::test]
async fn deletions_count_and_need_a_filter() {
    let api = Api::start().await;
    let id = api.register(&document("1", "cron", "@daily")).await;
    api.register(&document("2", "cron", "@daily")).await;
    api.register(&document("3", "cron", "@daily")).await;

    let one = api.delete(&format!("/schedules/{id}")).await;
    assert_eq!((one.status, one.json), (StatusCode::OK, json!({"count": 1})));
    assert_eq!(api.delete(&format!("/schedules/{id}")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(api.get(&format!("/schedules/{id}")).await.status, StatusCode::NOT_FOUND);

    for filterless in ["/schedules", "/schedules?application=", "/schedules?app=chef"] {
        assert_eq!(api.delete(filterless).await.status, StatusCode::BAD_REQUEST, "{filterless}");
    }
    let misspelt = api.delete("/schedules?application=chef&groups=system").await;
    assert_eq!(misspelt.status, StatusCode::BAD_REQUEST, "a misspelt filter deletes nothing");
    let rest = api.delete("/schedules?application=chef").await;
    assert_eq!((rest.status, rest.json), (StatusCode::OK, json!({"count": 2})));
    assert_eq!(api.delete("/schedules?application=chef").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_run_in_flight_is_named_by_the_deletion() {
    let api = Api::start().await;
    let id = api.register(&document("1", "now", "")).await;
    assert_eq!(api.claim().await.len(), 1);
    let answer = api.delete(&format!("/schedules/{id}")).await;
    assert_eq!(answer.json, json!({"count": 1, "in_flight": 1}));
}

#[tokio::test]
async fn unknown_fields_are_named_and_refused_when_strict() {
    let api = Api::start().await;
    let mut unknown = document("1", "now", "");
    unknown["colour"] = json!("red");
    unknown["task"]["speed"] = json!(3);
    let answer = api.post("/schedules", &unknown).await;
    assert_eq!(answer.status, StatusCode::OK);
    let warnings = answer.json["warnings"].to_string();
    assert!(warnings.contains("/colour") && warnings.contains("/task/speed"), "{warnings}");
    let strict = Request::post("/schedules").header("Prefer", "respond-async, handling=strict");
    let answer = api.send(strict.body(Body::from(unknown.to_string())).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let pointers: Vec<&Value> = answer.json["errors"].as_array().unwrap().iter().map(|e| &e["pointer"]).collect();
    assert!(pointers.contains(&&json!("/colour")) && pointers.contains(&&json!("/task/speed")), "{pointers:?}");
}

#[tokio::test]
async fn what_is_lenient_in_the_reference_is_lenient_here() {
    let api = Api::start().await;
    let mut lenient = document("1", "delay", "");
    lenient["schedule"] = json!(50);
    lenient["timezone"] = json!(null);
    lenient["client"]["operation"] = json!(null);
    lenient["task"]["retry_wait"] = json!(null);
    lenient["task"].as_object_mut().unwrap().remove("data");
    let shown = api.shown(&api.register(&lenient).await).await;
    assert_eq!(shown["schedule"], "50");
    assert_eq!(shown["client"]["operation"], "");
    assert_eq!(shown["task"]["data"], json!({}));
    assert_eq!(shown["task"]["retry_wait"], 60);
    assert_eq!(shown["task"]["next"], START / 1000 + 50);

    let mut alias = document("2", "delay", "50");
    alias["task"]["retry_period"] = json!(7);
    assert_eq!(api.shown(&api.register(&alias).await).await["task"]["retry_wait"], 7);
}

#[tokio::test]
async fn pause_resume_and_trigger() {
    let api = Api::start().await;
    let id = api.register(&document("1", "cron", "30 * * * * *")).await;
    let post = async |action: &str| api.post(&format!("/schedules/{id}/{action}"), &json!({})).await;
    assert_eq!(post("trigger").await.status, StatusCode::OK);
    assert_eq!(api.claim().await.len(), 1, "the triggered run, not the armed one");
    assert_eq!(post("pause").await.json["state"], "paused");
    assert_eq!(post("pause").await.status, StatusCode::OK, "again is the same");
    assert_eq!(api.shown(&id).await["state"], "paused");
    assert_eq!(post("trigger").await.status, StatusCode::CONFLICT);
    api.pass(std::time::Duration::from_secs(60));
    assert!(api.claim().await.iter().all(|run| run.reclaimed), "nothing new while paused");
    assert_eq!(post("resume").await.status, StatusCode::OK);
    assert_eq!(api.shown(&id).await["task"]["next"], START / 1000 + 90);
    let runs = api.get(&format!("/schedules/{id}/runs")).await;
    assert_eq!(runs.json.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn preview_names_the_next_instants() {
    let api = Api::start().await;
    let asked = json!({"type": "cron", "schedule": "30 2 * * *", "timezone": "Europe/Berlin",
                       "from": "2027-03-27T12:00:00Z", "count": 2});
    let answer = api.post("/schedules/preview", &asked).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    let occurrences = answer.json["occurrences"].as_array().unwrap();
    assert_eq!(occurrences[0]["at"], "2027-03-28T01:00:00.000Z");
    assert!(occurrences[0]["local"].as_str().unwrap().contains("03:00:00"), "{occurrences:?}");
    assert!(occurrences[0]["note"].is_string(), "the gap is explained");
    assert_eq!(occurrences[1]["at"], "2027-03-29T00:30:00.000Z");
    assert_eq!(occurrences[1]["note"], Value::Null);
    for refused in
        [json!({"type": "cron", "schedule": "0 0 31 2 *"}), json!({"type": "cron", "schedule": "61 * * * *"})]
    {
        assert_eq!(api.post("/schedules/preview", &refused).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[tokio::test]
async fn the_wake_state_is_shown() {
    let api = Api::start().await;
    api.register(&document("1", "cron", "30 * * * * *")).await;
    reveille_testkit::eventually(std::time::Duration::from_secs(10), "the hint arrives", || async {
        api.get("/wake").await.json["next_ms"] == START + 30_000
    })
    .await;
}

#[tokio::test]
async fn time_zones_are_listed_with_the_rules_they_are_read_by() {
    let api = Api::start().await;
    let shown = api.get("/timezones").await.json;
    let (version, origin) = (shown["version"].as_str().unwrap(), shown["origin"].as_str().unwrap());
    assert_eq!((version, origin), (rules::current().version().to_string().as_str(), "bundled"));
    let zones = shown["zones"].as_array().unwrap();
    let named = |name: &str| zones.iter().find(|zone| zone["name"] == name).unwrap().clone();
    assert_eq!(named("Asia/Kathmandu")["offset"], "+05:45");
    let berlin = json!({
        "name": "Europe/Berlin", "offset": "+01:00", "next_change_at": "2027-03-28T01:00:00.000Z", "next_offset": "+02:00",
    });
    assert_eq!(named("Europe/Berlin"), berlin);
    let vancouver =
        json!({"name": "America/Vancouver", "offset": "-07:00", "next_change_at": null, "next_offset": null});
    assert_eq!(named("America/Vancouver"), vancouver);
    let preview = json!({"type": "cron", "schedule": "0 9 * * *", "timezone": "America/Vancouver", "from": "2027-01-15T08:00:00Z"});
    let preview = api.post("/schedules/preview", &preview).await.json;
    assert_eq!(
        (preview["zone_rules"].as_str(), &preview["occurrences"][0]["at"]),
        (Some(version), &json!("2027-01-15T16:00:00.000Z"))
    );
}
