//! The same client again, unchanged and changed, row by row of the contract's table.

use std::time::Duration;

use reveille_shared::model::run::{OutcomeCode, RunState, Successor};
use serde_json::{Value, json};

use crate::support::{Api, START, document, finish};

/// A date document for so many seconds after the start.
fn date(key: &str, offset_s: i64) -> Value {
    let at = chrono::DateTime::from_timestamp_millis(START + offset_s * 1000).unwrap();
    document(key, "date", &at.format("%Y-%m-%dT%H:%M:%S").to_string())
}

fn changed(document: &Value) -> Value {
    let mut changed = document.clone();
    changed["task"]["data"] = json!({"a": 2});
    changed
}

/// Registers again after 10 s and answers (id unchanged, when it is armed in seconds after the start).
async fn again(api: &Api, first: &Value, second: &Value) -> (bool, i64) {
    let id = api.register(first).await;
    api.pass(Duration::from_secs(10));
    let same = api.register(second).await == id;
    (same, api.shown(&id).await["task"]["next"].as_i64().unwrap() - START / 1000)
}

#[tokio::test]
async fn pending_ones_follow_the_table() {
    let cron = document("1", "cron", "0 * * * * *");
    let recur = document("2", "delay-recur", "60");
    let (future, past) = (date("3", 3600), date("4", -3600));
    let (now, delay) = (document("5", "now", ""), document("6", "delay", "60"));
    let other_cron = document("1", "cron", "30 * * * * *");
    let table = [
        ("cron, unchanged: nothing", &cron, cron.clone(), 60),
        ("cron, other data: the same next instant", &cron, changed(&cron), 60),
        ("cron, other expression: its next instant from now", &cron, other_cron, 30),
        ("delay-recur, unchanged: nothing", &recur, recur.clone(), 60),
        ("delay-recur, changed: now + delay", &recur, changed(&recur), 70),
        ("date to come, unchanged: nothing", &future, future.clone(), 3600),
        ("date to come, changed: re-armed", &future, date("3", 7200), 7200),
        ("past date, unchanged: armed anew, due now", &past, past.clone(), 10),
        ("past date, changed: armed anew, due now", &past, changed(&past), 10),
        ("now, unchanged: armed anew", &now, now.clone(), 10),
        ("now, changed: armed anew", &now, changed(&now), 10),
        ("delay, unchanged: armed anew", &delay, delay.clone(), 70),
        ("delay, changed: armed anew", &delay, changed(&delay), 70),
    ];
    for (row, first, second, expected) in table {
        let api = Api::start().await;
        assert_eq!(again(&api, first, &second).await, (true, expected), "{row}");
        assert_eq!(open_runs(&api).await, 1, "{row}: the one before is replaced");
    }
}

async fn open_runs(api: &Api) -> usize {
    let id = api.get("/schedules?state=all").await.json[0]["id"].as_str().unwrap().to_owned();
    let runs = api.get(&format!("/schedules/{id}/runs")).await.json;
    runs.as_array().unwrap().iter().filter(|run| run["state"] == "pending").count()
}

#[tokio::test]
async fn finished_one_shots_are_armed_anew_under_the_same_id() {
    for document in [document("1", "now", ""), date("1", -5), document("1", "delay", "0")] {
        let api = Api::start().await;
        let id = api.register(&document).await;
        let run = api.claim().await.remove(0);
        api.settle(&run, finish(RunState::Succeeded, OutcomeCode::Ok, None)).await;
        assert_eq!(api.shown(&id).await["state"], "finished");
        assert_eq!(api.register(&document).await, id);
        let second = api.claim().await.remove(0);
        assert_ne!(second.id, run.id, "another occurrence has another idempotency key");
    }
}

#[tokio::test]
async fn waiting_retries_go_with_a_changed_document_and_stay_with_an_unchanged_one() {
    let retry = reveille_shared::model::run::Exit::Retry {
        wait_ms: 20_000,
        outcome: reveille_shared::model::run::Outcome::new(OutcomeCode::HttpStatus, "no"),
    };
    let cron = document("1", "cron", "0 * * * * *");
    for (document, expected) in [(cron.clone(), 80), (changed(&cron), 120)] {
        let api = Api::start().await;
        let id = api.register(&cron).await;
        api.pass(Duration::from_secs(60));
        let run = api.claim().await.remove(0);
        api.settle(&run, retry.clone()).await;
        assert_eq!(api.shown(&id).await["task"]["status"], "failed");
        api.register(&document).await;
        assert_eq!(api.shown(&id).await["task"]["next"], START / 1000 + expected);
    }
}

#[tokio::test]
async fn a_run_in_flight_finishes_and_arms_nothing_when_the_document_changed() {
    let api = Api::start().await;
    let cron = document("1", "cron", "0 * * * * *");
    let id = api.register(&cron).await;
    api.pass(Duration::from_secs(60));
    let run = api.claim().await.remove(0);
    api.register(&document("1", "cron", "30 * * * * *")).await;
    api.settle(&run, finish(RunState::Succeeded, OutcomeCode::Ok, Some(Successor::At(START + 120_000)))).await;
    let shown = api.shown(&id).await;
    assert_eq!(shown["task"]["next"], START / 1000 + 90);
    assert_eq!(shown["task"]["iteration"], 1, "its outcome is recorded");
    assert_eq!(open_runs(&api).await, 1);
}

#[tokio::test]
async fn a_deleted_schedules_key_gets_a_new_id() {
    let api = Api::start().await;
    let document = document("1", "cron", "@daily");
    let first = api.register(&document).await;
    api.delete(&format!("/schedules/{first}")).await;
    assert_ne!(api.register(&document).await, first);
}
