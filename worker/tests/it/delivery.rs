//! The path of a run: registered, woken, claimed, delivered, settled, and what recurs comes again.

use std::time::Duration;

use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_shared::model::schedule::ScheduleState;
use reveille_shared::model::task::BodyMode;
use reveille_shared::store::Store;
use reveille_testkit::{Answer, eventually_some};
use reveille_worker::Settings;
use serde_json::json;

use crate::fixture::{Fixture, LONG, registration, settings};

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_run_reaches_its_target_once_with_its_identity() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    let id = fixture.register_now("/hook", json!({"connection": {"headers": {"Authorization": "Bearer x"}}})).await;

    let delivery = fixture.receiver.wait_for(1, LONG).await.remove(0);
    let (run, attempts) = fixture.run_in(id, RunState::Succeeded).await;

    assert_eq!(delivery.method, "POST");
    assert_eq!(delivery.header("idempotency-key"), run.id.to_string());
    assert_eq!(delivery.header("webhook-id"), run.id.to_string());
    assert_eq!(delivery.header("x-reveille-schedule-id"), id.to_string());
    assert_eq!(delivery.header("x-reveille-attempt"), "1");
    assert_eq!(delivery.header("x-reveille-fencing-token"), run.lease_token.to_string());
    let nominal: chrono::DateTime<chrono::Utc> = delivery.header("x-reveille-nominal-time").parse().unwrap();
    assert_eq!(nominal.timestamp_millis(), run.nominal_at);
    assert!(delivery.header("x-reveille-nominal-time").ends_with('Z'));
    assert!(delivery.header("user-agent").starts_with("reveille/"));
    assert_eq!(delivery.header("authorization"), "Bearer x");
    assert_eq!(delivery.header("content-type"), "application/json");
    assert_eq!(run.outcome, Some(OutcomeCode::Ok));
    assert_eq!(run.http_status, Some(200));
    assert_eq!(run.lease_owner.as_deref(), Some("worker"));
    assert!(attempts.is_empty(), "only failed attempts are kept");
    let schedule = fixture.store.schedule_get(id).await.unwrap().unwrap();
    assert_eq!((schedule.state, schedule.iterations), (ScheduleState::Finished, 1));
    worker.stop().await;
    assert_eq!(fixture.receiver.count(), 1);
    assert_eq!(worker.metric("worker_runs_total", r#"outcome="ok""#), 1.0);
    assert_eq!(worker.metric("worker_settles_total", r#"result="done""#), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_reaches_the_target_byte_for_byte() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    // Numbers beyond a float, key order, an escape that a re-serialisation would resolve.
    let data = r#"{"z":1.10,"a":12345678901234567890123,"text":"\u0041\/"}"#;
    let mut document = fixture.document("now", "", "/data", json!({})).to_string();
    document = document.replace(r#""task":{"#, &format!(r#""task":{{"data":{data},"#));
    let registration = registration(&document, 0);
    fixture.store_and_hint(&[registration]).await;

    let delivery = fixture.receiver.wait_for(1, LONG).await.remove(0);
    assert_eq!(std::str::from_utf8(&delivery.body).unwrap(), data);
}

async fn check_body(default_body: BodyMode, asked: Option<&str>, is_document: bool) {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(Settings { default_body, ..settings() });
    let id = fixture.register_now("/body", json!({"data": {"n": 1}, "connection": {"body": asked}})).await;

    let body = fixture.receiver.wait_for(1, LONG).await[0].json();
    if is_document {
        assert_eq!(body["id"], id.to_string());
        assert_eq!(
            (&body["type"], &body["name"], &body["task"]["data"]["n"]),
            (&json!("now"), &json!("/body"), &json!(1))
        );
    } else {
        assert_eq!(body, json!({"n": 1}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_is_what_the_document_or_else_the_server_says() {
    check_body(BodyMode::Data, None, false).await;
    check_body(BodyMode::Data, Some("schedule"), true).await;
    check_body(BodyMode::Schedule, None, true).await;
    check_body(BodyMode::Schedule, Some("data"), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_carries_no_body() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    fixture.register_now("/get", json!({"connection": {"method": "get"}, "data": {"n": 1}})).await;

    let delivery = fixture.receiver.wait_for(1, LONG).await.remove(0);
    assert_eq!((delivery.method.as_str(), delivery.body.len()), ("GET", 0));
    assert_eq!(delivery.header("content-type"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dated_run_is_never_early_and_hardly_late() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    worker.metric_reaches("worker_claims_total", "empty", 1.0).await;
    let due = fixture.store.ping().await.unwrap() + 400;
    let date = chrono::DateTime::from_timestamp_millis(due).unwrap().format("%Y-%m-%dT%H:%M:%S%.3f").to_string();
    fixture.register(&[fixture.document("date", &date, "/date", json!({}))]).await;

    let late_ms = fixture.receiver.wait_for(1, LONG).await[0].arrived_ms - due;
    assert!((0..250).contains(&late_ms), "{late_ms} ms after the due instant");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_fires_every_second_without_help_from_a_monitor() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    let id = fixture.register(&[fixture.document("cron", "* * * * * *", "/cron", json!({}))]).await[0];

    fixture.receiver.wait_for(3, LONG).await;
    let mut runs = fixture.runs(id).await;
    runs.reverse();
    let nominals: Vec<i64> = runs.iter().map(|run| run.nominal_at).take(3).collect();
    assert!(nominals.iter().all(|at| at % 1000 == 0), "{nominals:?}");
    assert!(nominals.is_sorted_by(|one, next| one < next), "{nominals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recurring_delay_counts_from_the_end_of_the_run() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    fixture.receiver.script("/recur", [Answer::ok().after(Duration::from_millis(300))]);
    fixture.register(&[fixture.document("delay-recur", "1", "/recur", json!({}))]).await;

    let deliveries = fixture.receiver.wait_for(2, LONG).await;
    let between = deliveries[1].arrived_ms - deliveries[0].arrived_ms;
    assert!((1300..2300).contains(&between), "{between} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn instants_that_pass_during_a_run_are_counted_and_not_made_up() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    fixture.receiver.script("/slow", [Answer::ok().after(Duration::from_millis(2100))]);
    let id = fixture.register(&[fixture.document("cron", "* * * * * *", "/slow", json!({}))]).await[0];

    let first = eventually_some(LONG, "the first run is over", || async {
        fixture.runs(id).await.into_iter().find(|run| run.state == RunState::Succeeded)
    });
    let first = first.await;
    assert_eq!((first.coalesced, first.skipped), (0, 2), "{first:?}");
    let next = fixture.runs(id).await.into_iter().map(|run| run.nominal_at).find(|at| *at > first.nominal_at);
    assert_eq!(next, Some(first.nominal_at + 3000));
}
