//! The history and the timelines of runs in GraphQL: the same that REST tells.

use reveille_shared::model::access::Scope;
use reveille_shared::model::run::{OutcomeCode, RunState};
use serde_json::json;

use super::ask;
use crate::access::key;
use crate::support::{Api, document, finish};

const HISTORY: &str = "query($filter: HistoryFilterInput, $ascending: Boolean! = false, $first: Int, $after: String) {
    history(filter: $filter, ascending: $ascending, first: $first, after: $after) {
        edges { cursor node { kind scheduleId runId name client { application key } outcome state } }
        pageInfo { hasNextPage endCursor } } }";

#[tokio::test]
async fn history_and_timeline_are_told_as_rest_tells_them() {
    let api = Api::start().await;
    let mut registered = document("1", "now", "");
    registered["task"]["history_check"] = json!(true);
    let id = api.register(&registered).await;
    let run = api.claim().await.remove(0);
    api.settle(&run, finish(RunState::Succeeded, OutcomeCode::Ok, None)).await;
    api.delete(&format!("/schedules/{id}")).await;

    let all = ask(&api, HISTORY, json!({"filter": {"scheduleId": id}})).await.json["data"]["history"].clone();
    let kinds: Vec<_> = all["edges"].as_array().unwrap().iter().map(|edge| edge["node"]["kind"].clone()).collect();
    assert_eq!(kinds, ["DELETED", "EXECUTED", "REGISTERED"], "{all}");
    let executed = &all["edges"][1]["node"];
    assert_eq!(
        (&executed["runId"], &executed["outcome"], &executed["state"]),
        (&json!(run.id), &json!("ok"), &json!("SUCCEEDED"))
    );
    assert_eq!(executed["client"], json!({"application": "chef", "key": "1"}));

    let first = ask(&api, HISTORY, json!({"ascending": true, "first": 1})).await.json["data"]["history"].clone();
    assert_eq!(
        (&first["edges"][0]["node"]["kind"], &first["pageInfo"]["hasNextPage"]),
        (&json!("REGISTERED"), &json!(true))
    );
    let after = &first["pageInfo"]["endCursor"];
    let second = ask(&api, HISTORY, json!({"ascending": true, "first": 1, "after": after})).await;
    assert_eq!(second.json["data"]["history"]["edges"][0]["node"]["kind"], "EXECUTED");
    let filtered = ask(&api, HISTORY, json!({"filter": {"kind": "EXECUTED", "outcome": "timeout"}})).await;
    assert_eq!(filtered.json["data"]["history"]["edges"], json!([]));
    let bad = ask(&api, HISTORY, json!({"filter": {"outcome": "nonsense"}})).await;
    assert_eq!(bad.json["data"], json!(null), "{}", bad.json);

    let timeline = "query($id: ID!) { run(id: $id) { lateCause timeline { dueAt claimedAt dispatchedAt settledAt } } }";
    let shown = ask(&api, timeline, json!({"id": run.id})).await.json["data"]["run"].clone();
    for instant in ["dueAt", "claimedAt", "dispatchedAt", "settledAt"] {
        assert!(shown["timeline"][instant].is_string(), "{instant}: {shown}");
    }
}

#[tokio::test]
async fn a_caller_limited_to_an_application_reads_no_others_history() {
    let api = Api::start().await;
    let mut registered = document("1", "cron", "@daily");
    registered["task"]["history_check"] = json!(true);
    let id = api.register(&registered).await;
    let (_, bakery) = key(&api, Scope::Read, Some("bakery"), None).await;
    let body = json!({"query": HISTORY, "variables": {"filter": {"scheduleId": id}}}).to_string();
    let request =
        axum::http::Request::builder().method("POST").uri("/graphql").header("content-type", "application/json");
    let request = request.header("authorization", format!("Bearer {bakery}")).body(body.into()).unwrap();
    assert_eq!(api.send(request).await.json["data"]["history"]["edges"], json!([]));
}
