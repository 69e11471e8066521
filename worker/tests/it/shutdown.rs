//! A stop: nothing more is claimed, calls in flight may finish, the rest is handed back.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_testkit::{Answer, eventually};
use reveille_worker::Settings;
use serde_json::{Value, json};

use crate::fixture::{Fixture, LONG, settings};

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_finish_and_are_settled() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    fixture.receiver.script("/last", [Answer::ok().after(Duration::from_millis(500))]);
    let id = fixture.register_now("/last", json!({})).await;
    fixture.receiver.wait_for(1, LONG).await;
    worker.stop().await;
    assert_eq!(fixture.runs(id).await[0].state, RunState::Succeeded);

    let claims = fixture.store.claims.load(Ordering::SeqCst);
    fixture.register_now("/too-late", json!({})).await;
    assert_eq!((fixture.store.claims.load(Ordering::SeqCst), fixture.receiver.count()), (claims, 1));
}

async fn cut_short(task: Value) -> (Fixture, reveille_shared::store::RunRow) {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(Settings { drain: Duration::from_millis(300), ..settings() });
    fixture.receiver.script("/endless", [Answer::hang(), Answer::ok()]);
    let id = fixture.register_now("/endless", task).await;
    fixture.receiver.wait_for(1, LONG).await;
    let began = Instant::now();
    worker.stop().await;
    assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&began.elapsed()), "{:?}", began.elapsed());
    let run = fixture.runs(id).await.remove(0);
    (fixture, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_longer_than_the_drain_is_handed_back() {
    let (fixture, run) = cut_short(json!({})).await;
    assert_eq!((run.state, run.attempt, run.crashes), (RunState::Pending, 0, 0));
    let _next = fixture.worker(settings());
    let (run, _) = fixture.run_in(run.schedule_id, RunState::Succeeded).await;
    assert_eq!((run.attempt, run.crashes, run.lease_token), (1, 0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_be_made_at_most_once_is_not_handed_back() {
    let (_, run) = cut_short(json!({"delivery": "at_most_once"})).await;
    assert_eq!((run.state, run.outcome), (RunState::Failed, Some(OutcomeCode::Unknown)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_claim_takes_during_the_stop_is_handed_back_undispatched() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    worker.metric_reaches("worker_claims_total", r#"result="empty""#, 1.0).await;
    fixture.store.holds_claims.send_replace(true);
    let id = fixture.register_now("/never", json!({})).await;
    eventually(LONG, "the run is taken", || async { fixture.runs(id).await[0].state == RunState::Running }).await;
    worker.context.lifecycle.stop();
    fixture.store.holds_claims.send_replace(false);
    worker.stop().await;

    let run = fixture.runs(id).await.remove(0);
    assert_eq!((run.state, run.attempt), (RunState::Pending, 0));
    assert_eq!(fixture.receiver.count(), 0);
    let hinted = fixture.bus.read().await.unwrap().unwrap();
    assert!(hinted.next_ms <= run.due_at, "others are told that it is due");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_in_time_though_the_store_is_away() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(Settings { drain: Duration::from_millis(200), ..settings() });
    fixture.receiver.script("/stuck", [Answer::ok().held()]);
    fixture.register_now("/stuck", json!({})).await;
    fixture.receiver.wait_for(1, LONG).await;
    fixture.store.is_down.store(true, Ordering::SeqCst);
    fixture.receiver.release("/stuck");
    let began = Instant::now();
    worker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}
