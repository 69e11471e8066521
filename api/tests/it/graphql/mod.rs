//! GraphQL over HTTP: the same schedules as REST, refusals by field, limits.

mod history;
mod limits;
mod page;
mod published;
mod schema;
mod socket;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use reveille_shared::model::run::{Exit, Outcome, OutcomeCode, RunState};
use serde_json::{Value, json};

use crate::support::{Answer, Api, document, finish};

/// Sends a request and answers its data; errors of the request fail the test.
async fn data(api: &Api, query: &str, variables: Value) -> Value {
    let answer = ask(api, query, variables).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json["errors"], Value::Null, "{query}");
    answer.json["data"].clone()
}

pub(crate) async fn ask(api: &Api, query: &str, variables: Value) -> Answer {
    post(api, "application/json", &json!({"query": query, "variables": variables}).to_string()).await
}

async fn post(api: &Api, kind: &str, body: &str) -> Answer {
    let request = Request::builder().method(Method::POST).uri("/graphql").header("content-type", kind);
    api.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

const REGISTER: &str = "mutation($document: JSON, $strict: Boolean! = false) {
    registerSchedule(document: $document, strict: $strict) {
        id name respId change warnings client { application key } schedule { id type state task { status data } }
        userErrors { pointer code message } } }";

/// Registers and answers the id.
async fn register(api: &Api, document: &Value) -> String {
    let data = data(api, REGISTER, json!({"document": document})).await;
    assert_eq!(data["registerSchedule"]["userErrors"], json!([]));
    data["registerSchedule"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_schedule_is_registered_by_one_surface_and_read_by_the_other() {
    let api = Api::start().await;
    let answer = data(&api, REGISTER, json!({"document": document("1", "cron", "30 * * * * *")})).await;
    let payload = &answer["registerSchedule"];
    assert_eq!(payload["change"], "CREATED");
    let id = payload["id"].as_str().unwrap();
    assert_eq!(payload["respId"], id);
    assert_eq!(payload["client"], json!({"application": "chef", "key": "1"}));
    let task = json!({"status": "IDLE", "data": {"a": 1}});
    assert_eq!(payload["schedule"], json!({"id": id, "type": "cron", "state": "ACTIVE", "task": task}));

    let query = "query($id: ID!) { schedule(id: $id) { document timezone revision createdAt task { next } } }";
    let read = data(&api, query, json!({"id": id})).await["schedule"].clone();
    let shown = api.shown(id).await;
    assert_eq!(read["document"], shown);
    assert_eq!((&read["timezone"], &read["task"]["next"]), (&shown["timezone"], &shown["task"]["next"]));

    let other = api.register(&document("2", "delay", "50")).await;
    assert_eq!(data(&api, query, json!({"id": other})).await["schedule"]["document"], api.shown(&other).await);
    for nobody in ["", "not-an-id", &uuid::Uuid::now_v7().to_string()] {
        assert_eq!(data(&api, query, json!({"id": nobody})).await["schedule"], Value::Null);
    }
}

#[tokio::test]
async fn what_is_registered_as_text_stays_that_text() {
    let api = Api::start().await;
    let data_text = r#"{"z":1.10, "a":123456789012345678901234567890,"e":1E5}"#;
    let text = document("1", "cron", "@daily").to_string().replace(r#"{"a":1}"#, data_text);
    assert!(text.contains(data_text));
    let id = register(&api, &json!(text)).await;
    let query = json!({"query": format!("{{ schedule(id: \"{id}\") {{ document task {{ data }} }} }}")});
    let request = Request::builder().method(Method::POST).uri("/graphql").header("content-type", "application/json");
    let response = api.begin(request.body(Body::from(query.to_string())).unwrap()).await;
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let answer = String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(answer.matches(&format!("\"data\":{data_text}")).count(), 2, "{answer}");
}

#[tokio::test]
async fn refusals_name_their_fields_and_store_nothing() {
    let api = Api::start().await;
    let check = async |variables: Value, pointers: &[(&str, &str)]| {
        let answer = data(&api, REGISTER, variables.clone()).await;
        let payload = &answer["registerSchedule"];
        assert_eq!((&payload["id"], &payload["schedule"]), (&Value::Null, &Value::Null));
        let errors = payload["userErrors"].as_array().unwrap();
        let found: Vec<(&str, &str)> =
            errors.iter().map(|e| (e["pointer"].as_str().unwrap(), e["code"].as_str().unwrap())).collect();
        assert_eq!(found, pointers, "{variables}");
        assert!(errors.iter().all(|error| error["message"] != ""));
    };
    let mut wrong = document("1", "cron", "nonsense");
    wrong["task"]["connection"]["host"] = json!(7);
    let rest = api.post("/schedules", &wrong).await.json;
    let told: Vec<(&str, &str)> = rest["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["pointer"].as_str().unwrap(), error["code"].as_str().unwrap()))
        .collect();
    assert_eq!(told.len(), 2);
    check(json!({"document": wrong}), &told).await;
    check(json!({"document": "{"}), &[("", "malformed_json")]).await;
    check(json!({}), &[("registration", "query")]).await;
    let mut unknown = document("1", "cron", "@daily");
    unknown["tsk"] = json!(1);
    check(json!({"document": unknown, "strict": true}), &[("/tsk", "unknown_field")]).await;
    assert_eq!(api.get("/schedules?state=all").await.status, StatusCode::NOT_FOUND);
    let lenient = data(&api, REGISTER, json!({"document": unknown})).await;
    assert_eq!(lenient["registerSchedule"]["warnings"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn whoever_does_not_ask_for_user_errors_gets_an_error() {
    let api = Api::start().await;
    let query = "mutation { registerSchedule(document: {type: \"cron\"}) { id } }";
    let answer = ask(&api, query, json!({})).await;
    assert_eq!(answer.json["data"], Value::Null);
    let extensions = &answer.json["errors"][0]["extensions"];
    assert_eq!((&extensions["code"], &extensions["status"]), (&json!("invalid_document"), &json!(422)));
    assert_eq!(extensions["errors"][0]["pointer"], "/client");
}

#[tokio::test]
async fn a_schedule_is_changed_and_deleted() {
    let api = Api::start().await;
    let id = register(&api, &document("1", "cron", "@daily")).await;
    let taken = register(&api, &document("2", "cron", "@daily")).await;
    let act = async |mutation: &str| {
        let query = format!("mutation {{ done: {mutation} }}");
        data(&api, &query, json!({})).await["done"].clone()
    };
    let errors = "userErrors { pointer code }";
    let paused = act(&format!("pauseSchedule(id: \"{id}\") {{ id schedule {{ state }} {errors} }}")).await;
    assert_eq!(paused, json!({"id": id, "schedule": {"state": "PAUSED"}, "userErrors": []}));
    let refused = act(&format!("triggerSchedule(id: \"{id}\") {{ runId {errors} }}")).await;
    assert_eq!(refused, json!({"runId": null, "userErrors": [{"pointer": "", "code": "wrong_state"}]}));
    let resumed = act(&format!("resumeSchedule(id: \"{id}\") {{ schedule {{ state }} {errors} }}")).await;
    assert_eq!(resumed["schedule"]["state"], "ACTIVE");
    let triggered =
        act(&format!("triggerSchedule(id: \"{id}\") {{ runId dueAt run {{ id armed state }} {errors} }}")).await;
    assert_eq!(triggered["run"], json!({"id": triggered["runId"], "armed": false, "state": "PENDING"}));

    let update = "mutation($id: ID!, $document: JSON) { updateSchedule(id: $id, document: $document) {
        id schedule { schedule } userErrors { code } } }";
    let changed = data(&api, update, json!({"id": id, "document": document("1", "cron", "@hourly")})).await;
    assert_eq!(changed["updateSchedule"], json!({"id": id, "schedule": {"schedule": "@hourly"}, "userErrors": []}));
    let check = async |id: &str, key: &str, code: &str| {
        let answer = data(&api, update, json!({"id": id, "document": document(key, "cron", "@daily")})).await;
        assert_eq!(answer["updateSchedule"]["userErrors"], json!([{"code": code}]));
    };
    check(&id, "2", "client_key_taken").await;
    check("nobody", "3", "not_found").await;

    let counted = "count inFlight userErrors { pointer code }";
    let nothing = act(&format!("deleteSchedules(filter: {{application: \"\"}}) {{ {counted} }}")).await;
    assert_eq!(nothing["userErrors"], json!([{"pointer": "filter", "code": "query"}]));
    let one = act(&format!("deleteSchedule(id: \"{taken}\") {{ {counted} }}")).await;
    assert_eq!(one, json!({"count": 1, "inFlight": 0, "userErrors": []}));
    let gone = act(&format!("deleteSchedule(id: \"{taken}\") {{ {counted} }}")).await;
    assert_eq!(gone["userErrors"][0]["code"], "not_found");
    let all = act(&format!("deleteSchedules(filter: {{application: \"chef\"}}) {{ {counted} }}")).await;
    assert_eq!(all["count"], 1);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let api = Api::start().await;
    let mut ids = Vec::new();
    for key in 0..5 {
        ids.push(register(&api, &document(&key.to_string(), "cron", "@daily")).await);
    }
    let query = "query($first: Int, $after: String, $group: String, $standing: Standing) {
        schedules(first: $first, after: $after, filter: {group: $group}, standing: $standing) {
            edges { cursor node { id } } nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";
    let page = async |variables: Value| data(&api, query, variables).await["schedules"].clone();
    let mut seen = Vec::new();
    let mut after = Value::Null;
    loop {
        let page = page(json!({"first": 2, "after": after})).await;
        seen.extend(page["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap().to_owned()));
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    ids.sort();
    assert_eq!(seen, ids);
    assert_eq!(page(json!({"group": "other"})).await["edges"], json!([]));
    assert_eq!(page(json!({"standing": "PAUSED"})).await["edges"], json!([]));
    assert_eq!(page(json!({"standing": "IDLE"})).await["edges"].as_array().unwrap().len(), 5);
    for wrong in [json!({"first": 0}), json!({"first": 201}), json!({"after": "x"}), json!({"group": "\0"})] {
        let answer = ask(&api, query, wrong.clone()).await;
        assert_eq!(answer.json["errors"][0]["extensions"]["code"], "bad_query", "{wrong}");
    }
}

#[tokio::test]
async fn runs_tell_how_they_went() {
    let api = Api::start().await;
    let mut document = document("1", "now", "");
    document["task"]["failed_policy"] = json!("retry");
    let id = register(&api, &document).await;
    let claimed = api.claim().await;
    let outcome = Outcome { http_status: Some(503), ..Outcome::new(OutcomeCode::HttpStatus, "the target is busy") };
    api.settle(&claimed[0], Exit::Retry { wait_ms: 0, outcome }).await;
    let claimed = api.claim().await;
    api.settle(&claimed[0], finish(RunState::Succeeded, OutcomeCode::Ok, None)).await;
    let query = "query($id: ID!) { schedule(id: $id) { state task { status iteration } runs(first: 1) {
        edges { cursor node { id state attempt outcome lagMs schedule { name } attempts { attempt outcome httpStatus } } }
        pageInfo { hasNextPage } } } }";
    let shown = data(&api, query, json!({"id": id})).await["schedule"].clone();
    assert_eq!((&shown["state"], &shown["task"]["status"]), (&json!("FINISHED"), &json!("DONE")));
    let run = &shown["runs"]["edges"][0]["node"];
    assert_eq!((&run["state"], &run["attempt"]), (&json!("SUCCEEDED"), &json!(2)));
    assert_eq!(run["schedule"]["name"], "bbb");
    assert_eq!(run["attempts"][0], json!({"attempt": 1, "outcome": "http_status", "httpStatus": 503}));
    assert_eq!(shown["runs"]["pageInfo"]["hasNextPage"], false);
    let query = "query($id: ID!) { run(id: $id) { id scheduleId attempts { attempt } } }";
    let read = data(&api, query, json!({"id": run["id"]})).await["run"].clone();
    assert_eq!((&read["id"], &read["scheduleId"]), (&run["id"], &json!(id)));
    let after = json!({"id": id, "after": shown["runs"]["edges"][0]["cursor"]});
    let query = "query($id: ID!, $after: String) { schedule(id: $id) { runs(after: $after) { nodes { id } } } }";
    assert_eq!(data(&api, query, after).await["schedule"]["runs"]["nodes"], json!([]));
}

#[tokio::test]
async fn timings_are_previewed_and_the_wake_state_is_shown() {
    let api = Api::start().await;
    let query = "query($timing: PreviewInput!) { preview(timing: $timing) { occurrences { at local note } }
        wake { known nextMs nextAt } }";
    let timing = json!({"type": "cron", "schedule": "0 9 * * *", "timezone": "Asia/Seoul", "count": 2,
        "from": "2026-01-01T00:00:00Z"});
    let rest = api.post("/schedules/preview", &timing).await.json;
    let answer = data(&api, query, json!({"timing": timing})).await;
    let local: Vec<&Value> =
        answer["preview"]["occurrences"].as_array().unwrap().iter().map(|one| &one["local"]).collect();
    let told: Vec<&Value> = rest["occurrences"].as_array().unwrap().iter().map(|one| &one["local"]).collect();
    assert_eq!(local, told);
    assert_eq!(answer["wake"], json!({"known": false, "nextMs": null, "nextAt": null}));
    let wrong = ask(&api, query, json!({"timing": {"type": "cron", "schedule": "x"}})).await;
    assert_eq!(wrong.json["errors"][0]["extensions"]["errors"][0]["pointer"], "/schedule");
}

#[tokio::test]
async fn a_database_that_is_away_is_an_error_of_the_request() {
    let api = Api::start().await;
    api.get("/schedules").await; // whoever asks is known by now: the database is not needed for that
    api.store.close().await;
    let answer = ask(&api, REGISTER, json!({"document": document("1", "cron", "@daily")})).await;
    assert_eq!(answer.json["errors"][0]["extensions"]["code"], "database_unavailable");
    assert_eq!(answer.json["data"], Value::Null);
}
