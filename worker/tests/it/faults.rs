//! What the store does to a worker, and what a stored document may do: nothing is lost, nothing is done twice.

use std::sync::atomic::Ordering;

use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_shared::runtime::fault::FaultAction;
use reveille_shared::store::Store;
use reveille_testkit::{Answer, eventually};
use reveille_worker::Settings;
use serde_json::json;

use crate::fixture::{Fixture, LONG, registration, settings};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_cannot_be_read_ends_its_run_and_nothing_else() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    for payload in ["", "{", "[]", r#"{"name":"x"}"#] {
        let mut broken = registration(&fixture.document("now", "", "/broken", json!({})).to_string(), 0);
        broken.payload = payload.to_owned();
        let id = fixture.store_and_hint(&[broken]).await[0];
        let (run, _) = fixture.run_in(id, RunState::Dead).await;
        assert_eq!((run.outcome, run.attempt), (Some(OutcomeCode::Refused), 1), "{payload}");
    }
    let id = fixture.register_now("/sound", json!({})).await;
    fixture.run_in(id, RunState::Succeeded).await;
    worker.stop().await;
    assert_eq!(fixture.receiver.count(), 1);
}

async fn check_hang(point: &str, deliveries: usize) {
    let fixture = Fixture::new().await;
    let lease = std::time::Duration::from_millis(500);
    let stopped = fixture.worker(Settings { lease, name: "stopped".to_owned(), ..settings() });
    stopped.metric_reaches("worker_claims_total", r#"result="empty""#, 1.0).await;
    stopped.context.faults.arm(point, FaultAction::Hang);
    let id = fixture.register_now("/hang", json!({"timeout": 1.0})).await;
    let degraded_check = std::time::Duration::from_millis(100);
    let _other = fixture.worker(Settings { degraded_after: std::time::Duration::ZERO, degraded_check, ..settings() });
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
