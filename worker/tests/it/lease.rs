//! Leases: kept for long calls, given up when they cannot be kept, and a late writer is fenced.

use std::sync::atomic::Ordering;
use std::time::Duration;

use reveille_shared::model::run::RunState;
use reveille_shared::store::{Claim, Store};
use reveille_testkit::{Answer, eventually, eventually_some};
use reveille_worker::Settings;
use serde_json::json;

use crate::fixture::{Fixture, LONG, settings};

fn short_lease() -> Settings {
    Settings { lease: Duration::from_millis(900), ..settings() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_longer_than_its_lease_is_made_once() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(short_lease());
    let _other = fixture.worker(Settings {
        degraded_after: Duration::ZERO,
        degraded_check: Duration::from_millis(100),
        ..short_lease()
    });
    fixture.receiver.script("/long", [Answer::ok().after(Duration::from_millis(2500))]);
    let id = fixture.register_now("/long", json!({})).await;
    let (run, _) = fixture.run_in(id, RunState::Succeeded).await;

    assert_eq!((run.attempt, run.crashes, fixture.receiver.count()), (1, 0, 1));
    let renewals = fixture.store.renewals.load(Ordering::SeqCst);
    assert!((4..=12).contains(&renewals), "{renewals} renewals in 2.5 s at a third of 0.9 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_are_renewed_by_one_statement() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(Settings { concurrency: 150, lease: Duration::from_secs(3), ..settings() });
    let known = fixture.register_now("/known", json!({})).await;
    fixture.run_in(known, RunState::Succeeded).await;
    fixture.receiver.script("/long", [Answer::ok().after(Duration::from_millis(2200))]);
    let documents: Vec<_> = (0..100).map(|_| fixture.document("now", "", "/long", json!({}))).collect();
    fixture.register(&documents).await;
    fixture.receiver.wait_for(101, LONG).await;
    eventually(LONG, "all are answered", || async { fixture.receiver.in_flight("/long") == 0 }).await;
    let renewals = fixture.store.renewals.load(Ordering::SeqCst);
    assert!((1..=6).contains(&renewals), "{renewals} statements for 100 calls");
}

fn claim_of_one() -> Claim {
    Claim { limit: 1, owner: "thief".to_owned(), lease: Duration::from_secs(60), queues: vec!["default".to_owned()] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_cannot_be_renewed_ends_the_call_and_the_run_comes_back() {
    let fixture = Fixture::new().await;
    let looks = Duration::from_millis(200);
    let worker = fixture.worker(Settings { degraded_after: Duration::ZERO, degraded_check: looks, ..short_lease() });
    fixture.store.loses_renewals.store(true, Ordering::SeqCst);
    fixture.receiver.script("/hang", [Answer::hang(), Answer::ok()]);
    let id = fixture.register_now("/hang", json!({})).await;
    let (run, attempts) = fixture.run_in(id, RunState::Succeeded).await;

    assert_eq!((run.attempt, run.crashes, run.lease_token), (2, 1, 2));
    assert!(attempts.is_empty(), "a call that was given up has no outcome: {attempts:?}");
    assert_eq!(worker.metric("worker_runs_total", r#"outcome="lease_lost""#), 1.0);
    let deliveries = fixture.receiver.deliveries();
    assert_eq!(deliveries[0].header("idempotency-key"), deliveries[1].header("idempotency-key"));
    assert_eq!(deliveries[1].header("x-reveille-fencing-token"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_taken_over_ends_the_call_at_the_next_renewal() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(Settings { lease: Duration::from_secs(6), ..settings() });
    fixture.receiver.script("/hang", [Answer::hang()]);
    fixture.register_now("/hang", json!({})).await;
    let called = fixture.receiver.wait_for(1, LONG).await[0].arrived;
    // Somebody to whom the lease has expired.
    let taken = fixture.store_ahead(Duration::from_secs(60)).await.run_claim(&claim_of_one()).await.unwrap();
    assert_eq!(taken.runs.len(), 1);
    worker.metric_reaches("worker_runs_total", r#"outcome="lease_lost""#, 1.0).await;
    eventually(LONG, "the call is cancelled", || async { fixture.receiver.in_flight("/hang") == 0 }).await;
    let took = called.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}: at the renewal after 2 s, not with the trust after 4.8 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_comes_too_late_is_void() {
    let fixture = Fixture::new().await;
    let late = fixture.worker(Settings { name: "late".to_owned(), lease: Duration::from_millis(300), ..settings() });
    fixture.receiver.script("/late", [Answer::status(500), Answer::ok()]);
    fixture.store.holds_settles.send_replace(true);
    let id = fixture.register_now("/late", json!({})).await;
    eventually(LONG, "the settlement is sent", || async { fixture.store.settles.load(Ordering::SeqCst) == 1 }).await;
    let other = fixture.worker(Settings {
        name: "other".to_owned(),
        degraded_after: Duration::ZERO,
        degraded_check: Duration::from_millis(100),
        ..settings()
    });
    let retaken = eventually_some(LONG, "the other has the run", || async {
        fixture.runs(id).await.into_iter().find(|run| run.lease_owner.as_deref() == Some("other"))
    });
    retaken.await;
    fixture.store.holds_settles.send_replace(false);
    late.metric_reaches("worker_settles_total", r#"result="stale""#, 1.0).await;
    other.metric_reaches("worker_settles_total", r#"result="done""#, 1.0).await;

    let (run, attempts) = fixture.run_in(id, RunState::Succeeded).await;
    assert_eq!((run.attempt, run.lease_token), (2, 2));
    assert!(attempts.is_empty(), "the late failure left nothing: {attempts:?}");
}
