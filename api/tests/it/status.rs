//! `task.status`, `next`, `iteration` and `retry_count`, row by row.

use std::time::Duration;

use reveille_shared::model::run::{Exit, Outcome, OutcomeCode, RunState, Successor};
use serde_json::{Value, json};

use crate::support::{Api, START, document, finish};

fn with_policy(kind: &str, schedule: &str, policy: &str) -> Value {
    let mut document = document("1", kind, schedule);
    document["task"]["failed_policy"] = json!(policy);
    document
}

/// Registers, claims, settles as told and answers the shown task.
async fn after(document: &Value, exit: Option<Exit>) -> Value {
    let api = Api::start().await;
    let id = api.register(document).await;
    api.pass(Duration::from_secs(60));
    let run = api.claim().await.remove(0);
    if let Some(exit) = exit {
        api.settle(&run, exit).await;
    }
    api.shown(&id).await["task"].clone()
}

#[tokio::test]
async fn each_status_has_its_row() {
    let failed = |state| finish(state, OutcomeCode::HttpStatus, None);
    let retry = Exit::Retry { wait_ms: 5_000, outcome: Outcome::new(OutcomeCode::Timeout, "slow") };
    let next = Some(Successor::At(START + 120_000));
    let cron = |policy| with_policy("cron", "0 * * * * *", policy);
    let now = |policy| with_policy("now", "", policy);
    let table = [
        ("running", now("ignore"), None, "processing"),
        ("succeeded", now("ignore"), Some(finish(RunState::Succeeded, OutcomeCode::Ok, None)), "done"),
        ("failed, policy ignore", now("ignore"), Some(failed(RunState::Failed)), "failed"),
        ("waiting for a retry", now("retry"), Some(retry), "failed"),
        ("retries exhausted", now("retry"), Some(failed(RunState::Failed)), "invalidity"),
        ("dead letter", now("retry_dlq"), Some(failed(RunState::Dead)), "invalidity"),
        ("refused", now("ignore"), Some(finish(RunState::Failed, OutcomeCode::Refused, None)), "invalidity"),
        (
            "its worker died, at most once",
            now("retry"),
            Some(finish(RunState::Failed, OutcomeCode::Unknown, None)),
            "failed",
        ),
        ("expired", now("retry"), Some(failed(RunState::Expired)), "failed"),
        ("recurring, between runs", cron("ignore"), Some(finish(RunState::Succeeded, OutcomeCode::Ok, next)), "idle"),
        (
            "recurring, after a failure",
            cron("ignore"),
            Some(finish(RunState::Failed, OutcomeCode::Timeout, next)),
            "idle",
        ),
        ("recurring, running", cron("ignore"), None, "processing"),
        ("handed back", now("ignore"), Some(Exit::HandBack { wait_ms: 0, late_cause: None }), "idle"),
    ];
    for (row, document, exit, expected) in table {
        assert_eq!(after(&document, exit).await["status"], expected, "{row}");
    }
}

#[tokio::test]
async fn iteration_counts_successes_and_retry_count_the_current_runs_retries() {
    let api = Api::start().await;
    let id = api.register(&with_policy("cron", "0 * * * * *", "retry")).await;
    for attempt in 1..=3 {
        api.pass(Duration::from_secs(if attempt == 1 { 60 } else { 1 }));
        let run = api.claim().await.remove(0);
        assert_eq!(run.attempt, attempt);
        assert_eq!(api.shown(&id).await["task"]["retry_count"], attempt - 1);
        let exit = match attempt {
            3 => finish(RunState::Succeeded, OutcomeCode::Ok, Some(Successor::At(START + 120_000))),
            _ => Exit::Retry { wait_ms: 1_000, outcome: Outcome::new(OutcomeCode::Timeout, "slow") },
        };
        api.settle(&run, exit).await;
    }
    let task = api.shown(&id).await["task"].clone();
    assert_eq!((&task["iteration"], &task["retry_count"]), (&json!(1), &json!(0)));
    assert_eq!(task["next"], START / 1000 + 120);
}

#[tokio::test]
async fn finished_one_shots_are_listed_only_when_asked_for() {
    let api = Api::start().await;
    let id = api.register(&document("1", "now", "")).await;
    let run = api.claim().await.remove(0);
    api.settle(&run, finish(RunState::Succeeded, OutcomeCode::Ok, None)).await;
    let ids = async |path: &str| api.get(path).await.json.as_array().map_or(0, Vec::len);
    assert_eq!(ids("/schedules").await, 0);
    for (state, expected) in [("finished", 1), ("done", 1), ("all", 1), ("active", 0), ("idle", 0), ("failed", 0)] {
        assert_eq!(ids(&format!("/schedules?state={state}")).await, expected, "{state}");
    }
    assert_eq!(api.shown(&id).await["task"]["next"], START / 1000, "its instant stays visible");
}

#[tokio::test]
async fn a_failed_runs_attempts_can_be_read() {
    let api = Api::start().await;
    api.register(&with_policy("now", "", "retry")).await;
    let run = api.claim().await.remove(0);
    api.settle(&run, Exit::Retry { wait_ms: 0, outcome: Outcome::new(OutcomeCode::Timeout, "slow") }).await;
    let shown = api.get(&format!("/runs/{}", run.id)).await.json;
    assert_eq!(shown["state"], "pending");
    assert_eq!(shown["attempts"][0]["outcome"], "timeout");
    assert_eq!(shown["attempts"][0]["detail"], "slow");
}
