//! What the store does to a worker, and what a stored document may do: nothing is lost, nothing is done twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reveille_shared::model::ScheduleId;
use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_shared::runtime::clock::TestClock;
use reveille_shared::runtime::fault::FaultAction;
use reveille_shared::store::Store;
use reveille_testkit::{Answer, eventually, eventually_some};
use reveille_worker::Settings;
use serde_json::json;

use crate::fixture::{Fixture, LONG, registration, settings};

/// Settings of a worker that looks for due runs and expired leases by itself, many times a second.
fn looking_often() -> Settings {
    Settings { degraded_after: Duration::ZERO, degraded_check: Duration::from_millis(50), ..settings() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settle_whose_answer_is_lost_is_sent_again_and_counts_once() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    fixture.store.lost_settles.store(2, Ordering::SeqCst);
    let id = fixture.register_now("/doubt", json!({})).await;
    worker.metric_reaches("worker_settles_total", r#"result="done""#, 1.0).await;

    assert_eq!(fixture.store.settles.load(Ordering::SeqCst), 3);
    fixture.run_in(id, RunState::Succeeded).await;
    assert_eq!(fixture.store.schedule_get(id).await.unwrap().unwrap().iterations, 1);
    assert_eq!(worker.metric("worker_settles_total", r#"result="stale""#), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_wait_for_a_store_that_is_away() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    fixture.receiver.script("/held", [Answer::ok().held()]);
    let id = fixture.register_now("/held", json!({})).await;
    fixture.receiver.wait_for(1, LONG).await;
    fixture.store.is_down.store(true, Ordering::SeqCst);
    fixture.receiver.release("/held");
    eventually(LONG, "settling fails", || async { fixture.store.settles.load(Ordering::SeqCst) >= 3 }).await;
    fixture.store.is_down.store(false, Ordering::SeqCst);
    fixture.run_in(id, RunState::Succeeded).await;
    worker.stop().await;
    assert_eq!(fixture.receiver.count(), 1);
}

/// Waits until the database's clock shows that the lease of a schedule's run has been over for a while.
async fn lease_is_long_over(fixture: &Fixture, id: ScheduleId) {
    let lease_until = fixture.runs(id).await[0].lease_until.unwrap();
    eventually(LONG, "the lease is over", || async { fixture.store.ping().await.unwrap() > lease_until + 500 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_outcomes_cannot_be_recorded_nothing_is_claimed_and_no_call_is_made_twice() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(Settings { lease: Duration::from_millis(500), ..looking_often() });
    fixture.store.refuses_settles.store(true, Ordering::SeqCst);
    // Some end while the first of them are being settled.
    let documents: Vec<_> = (0..6).map(|_| fixture.document("now", "", "/once", json!({}))).collect();
    let mut ids = fixture.register(&documents).await;
    fixture.receiver.wait_for(6, LONG).await;
    eventually(LONG, "settling fails", || async { fixture.store.settles.load(Ordering::SeqCst) >= 2 }).await;
    let other = fixture.register_now("/other", json!({})).await;
    for id in &ids {
        lease_is_long_over(&fixture, *id).await;
        assert_eq!(fixture.runs(*id).await[0].lease_token, 1, "the worker knows how it ended");
    }
    assert_eq!(fixture.runs(other).await[0].state, RunState::Pending, "left to who can record how it ends");

    fixture.store.refuses_settles.store(false, Ordering::SeqCst);
    ids.push(other);
    for id in ids {
        let (run, _) = fixture.run_in(id, RunState::Succeeded).await;
        assert_eq!((run.attempt, run.crashes), (1, 0));
    }
    worker.stop().await;
    assert_eq!(fixture.receiver.count(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_answered_too_late_is_no_crash_of_the_run() {
    let fixture = Fixture::new().await;
    let clock = TestClock::new();
    let worker = fixture.worker_on(Arc::new(clock.clone()), settings());
    worker.metric_reaches("worker_claims_total", r#"result="empty""#, 1.0).await;
    fixture.store.holds_claims.send_replace(true);
    let id = fixture.register_now("/late", json!({})).await;
    let is = |state| {
        clock.advance(Duration::from_millis(20));
        let runs = fixture.runs(id);
        async move { runs.await[0].state == state }
    };
    eventually(LONG, "the run is taken", || is(RunState::Running)).await;
    // By the worker's clock, while its lease goes on by the database's.
    clock.advance(settings().lease);
    fixture.store.holds_claims.send_replace(false);
    eventually(LONG, "the run succeeds", || is(RunState::Succeeded)).await;
    let run = fixture.runs(id).await.remove(0);
    assert_eq!((run.attempt, run.crashes, run.lease_token), (1, 0, 2), "nobody was called before");
    assert_eq!(fixture.receiver.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_cannot_be_read_postpones_its_run_and_nothing_else() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    for payload in ["", "{", "[]", r#"{"name":"x"}"#] {
        let mut broken = registration(&fixture.document("now", "", "/broken", json!({})).to_string(), 0);
        broken.payload = payload.to_owned();
        let id = fixture.store_and_hint(&[broken]).await[0];
        let run = eventually_some(LONG, "the run is postponed", || async {
            fixture.runs(id).await.into_iter().find(|run| run.outcome == Some(OutcomeCode::Refused))
        })
        .await;
        assert_eq!((run.state, run.attempt), (RunState::Pending, 0), "{payload}");
        assert!(run.due_at >= run.nominal_at + 60_000, "not a hot loop: {run:?}");
    }
    let id = fixture.register_now("/sound", json!({})).await;
    fixture.run_in(id, RunState::Succeeded).await;
    worker.stop().await;
    assert_eq!(fixture.receiver.count(), 1);
}

async fn check_hang(point: &str, deliveries: usize) {
    let fixture = Fixture::new().await;
    let lease = Duration::from_millis(500);
    let stopped = fixture.worker(Settings { lease, name: "stopped".to_owned(), ..settings() });
    stopped.metric_reaches("worker_claims_total", r#"result="empty""#, 1.0).await;
    stopped.context.faults.arm(point, FaultAction::Hang);
    let id = fixture.register_now("/hang", json!({"timeout": 1.0})).await;
    let degraded_check = Duration::from_millis(100);
    let _other = fixture.worker(Settings { degraded_after: Duration::ZERO, degraded_check, ..settings() });
    let (run, _) = fixture.run_in(id, RunState::Succeeded).await;
    assert_eq!((run.attempt, run.crashes), (2, 1), "stopped at {point}");
    assert_eq!(fixture.receiver.count(), deliveries, "stopped at {point}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_worker_stops_the_run_goes_on_elsewhere() {
    check_hang("worker.claimed", 1).await;
    check_hang("worker.dispatching", 1).await;
    check_hang("worker.dispatched", 2).await;
    check_hang("worker.settling", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settling_that_stands_still_is_told_by_the_liveness_probe() {
    let fixture = Fixture::new().await;
    let clock = TestClock::new();
    let worker = fixture.worker_on(Arc::new(clock.clone()), settings());
    let silent = || worker.context.metrics.silent(worker.context.clock.clock().monotonic());
    fixture.store.holds_settles.send_replace(true);
    let id = fixture.register_now("/stuck", json!({})).await;
    eventually(LONG, "the settlement is sent", || async { fixture.store.settles.load(Ordering::SeqCst) == 1 }).await;
    eventually(LONG, "settling alone is silent", || async {
        clock.advance(Duration::from_secs(1)); // the loop turns, the settlement does not come back
        silent() == ["worker settling"]
    })
    .await;
    fixture.store.holds_settles.send_replace(false);
    fixture.run_in(id, RunState::Succeeded).await;
    eventually(LONG, "nothing is silent", || async { silent().is_empty() }).await;
}
