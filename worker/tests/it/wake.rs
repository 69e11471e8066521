//! When a worker looks into the database, and when it does not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reveille_shared::bus::redis::RedisBus;
use reveille_shared::bus::{Beat, BusEvent};
use reveille_shared::model::UnixMs;
use reveille_shared::model::run::RunState;
use reveille_shared::runtime::clock::{SystemClock, TestClock};
use reveille_shared::runtime::lifecycle::Lifecycle;
use reveille_shared::store::Store;
use reveille_testkit::{Answer, eventually, free_port};
use serde_json::json;

use crate::fixture::{Fixture, LONG, Worker, registration, settings};

/// Beats as a monitor and waits until the worker has heard it: then its clock shows what was told.
async fn beat(fixture: &Fixture, worker: &Worker, db_ms: UnixMs) {
    fixture.bus.elect("monitor", Duration::from_secs(6)).await.unwrap();
    let known = fixture.bus.read().await.unwrap();
    let beat = Beat {
        id: "monitor".to_owned(),
        epoch: 1,
        ttl: Duration::from_secs(6),
        db_ms,
        seen_nonce: known.as_ref().map_or(0, |state| state.nonce),
        seen_seq: known.as_ref().map_or(0, |state| state.seq),
    };
    fixture.bus.beat(&beat).await.unwrap().unwrap();
    eventually(LONG, "the heartbeat is heard", || async { worker.context.clock.now_ms() == db_ms }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_sends_no_statement() {
    let fixture = Fixture::new().await;
    let clock = TestClock::new();
    let worker = fixture.worker_on(Arc::new(clock.clone()), settings());
    worker.metric_reaches("worker_claims_total", r#"result="empty""#, 1.0).await;
    let far = fixture.document("delay", "100000", "/later", json!({}));
    fixture.register(&[far]).await;

    let before = fixture.store.statements();
    let start = fixture.store.ping().await.unwrap();
    for second in (0..7200).step_by(5) {
        clock.advance(Duration::from_secs(5));
        // Not what the worker expects its clock to show by then: so it shows it because it heard.
        beat(&fixture, &worker, start + second * 1001 + 1).await;
    }
    assert_eq!(fixture.store.statements() - before, 1, "the ping above is the only statement of two hours");
    assert_eq!(fixture.store.claims.load(Ordering::SeqCst), 1);
    assert_eq!(worker.metric("worker_degraded", ""), 0.0);
}

/// The published instant stays one that has passed: no monitor is there to move it on, and by the worker's clock,
/// which stands still, nothing else would make it look.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_at_once_is_claimed_while_the_published_instant_is_over() {
    let fixture = Fixture::new().await;
    let clock = TestClock::new();
    let worker = fixture.worker_on(Arc::new(clock.clone()), settings());
    worker.metric_reaches("worker_claims_total", r#"result="empty""#, 1.0).await;
    let passed = fixture.bus.lower(1, 0).await.unwrap();
    worker.metric_reaches("worker_claims_total", r#"result="empty""#, 2.0).await;

    for number in 1..=10 {
        let now = fixture.store.ping().await.unwrap();
        let due = registration(&fixture.document("now", "", "/at-once", json!({})).to_string(), now);
        let upserted = fixture.store.schedule_upsert(&[due]).await.unwrap();
        let due_at = upserted.armed_min.unwrap();
        worker.context.hints.hint(due_at, due_at);
        fixture.run_in(upserted.schedules[0].id, RunState::Succeeded).await;
        assert_eq!(fixture.store.claims.load(Ordering::SeqCst), 2 + number, "one claim each");
        clock.advance(Duration::from_millis(10)); // settles are gathered for less than that
    }
    let state = fixture.bus.read().await.unwrap().unwrap();
    assert_eq!((state.seq, state.next_ms), (passed.seq, passed.next_ms));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_at_once_is_told_to_other_workers_while_the_published_instant_is_over() {
    let fixture = Fixture::new().await;
    fixture.bus.lower(1, 0).await.unwrap();
    let _worker = fixture.worker(settings());
    fixture.receiver.script("/again", [Answer::status(500), Answer::ok()]);
    let now = fixture.store.ping().await.unwrap();
    let task = json!({"failed_policy": "retry", "retry_wait": 0});
    let document = fixture.document("now", "", "/again", task).to_string();
    let upserted = fixture.store.schedule_upsert(&[registration(&document, now)]).await.unwrap();
    let mut others = fixture.bus.subscribe();
    fixture.bus.lower(upserted.armed_min.unwrap(), 0).await.unwrap(); // silent: nobody says what time it is
    fixture.bus.nudge().await.unwrap();
    let told = async { while !matches!(others.recv().await, Some(BusEvent::Soon(_))) {} };
    tokio::time::timeout(LONG, told).await.expect("the retry is told");
    fixture.run_in(upserted.schedules[0].id, RunState::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_heartbeats_it_looks_by_itself_until_they_are_back() {
    let fixture = Fixture::new().await;
    let clock = TestClock::new();
    let worker = fixture.worker_on(Arc::new(clock.clone()), settings());
    worker.metric_reaches("worker_claims_total", r#"result="empty""#, 1.0).await;
    // Stored by somebody whose hint is lost.
    let now = fixture.store.ping().await.unwrap();
    let unhinted = registration(&fixture.document("now", "", "/unhinted", json!({})).to_string(), now);
    let id = fixture.store.schedule_upsert(&[unhinted]).await.unwrap().schedules[0].id;

    clock.advance(Duration::from_millis(9999));
    beat(&fixture, &worker, now).await;
    clock.advance(Duration::from_millis(9999));
    assert_eq!(worker.metric("worker_degraded", ""), 0.0);
    clock.advance(Duration::from_millis(1));
    worker.metric_reaches("worker_degraded", "", 1.0).await;
    clock.advance(Duration::from_secs(30));
    fixture.run_in(id, RunState::Succeeded).await;

    for look in 2..5_u32 {
        clock.advance(Duration::from_secs(36));
        worker.metric_reaches("worker_wakes_total", r#"reason="degraded""#, f64::from(look)).await;
    }
    let answered = || worker.metric("worker_claims_total", "");
    let sent = || worker.metric("worker_wakes_total", "");
    eventually(LONG, "the last claim is answered", || async { answered() >= sent() }).await;
    let looked = fixture.store.claims.load(Ordering::SeqCst);
    beat(&fixture, &worker, now + 1_000_000).await;
    assert_eq!(worker.metric("worker_degraded", ""), 0.0, "left by the heartbeat");
    clock.advance(Duration::from_millis(9999));
    beat(&fixture, &worker, now + 2_000_000).await;
    assert_eq!(fixture.store.claims.load(Ordering::SeqCst), looked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_a_bus_claims_by_itself() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let lifecycle = Lifecycle::new();
    let bus = RedisBus::connect(&url, "test", Arc::new(SystemClock::new()), &lifecycle).unwrap();
    let fixture = Fixture::on(Arc::new(bus)).await;
    let now = fixture.store.ping().await.unwrap();
    let due = registration(&fixture.document("now", "", "/due", json!({})).to_string(), now);
    fixture.store.schedule_upsert(&[due]).await.unwrap();
    let worker = fixture.worker(settings());
    fixture.receiver.wait_for(1, Duration::from_secs(5)).await;
    worker.metric_reaches("worker_claims_total", r#"result="rows""#, 1.0).await;
    lifecycle.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_tried_until_it_is_up() {
    let fixture = Fixture::new().await;
    fixture.store.is_down.store(true, Ordering::SeqCst);
    let worker = fixture.worker(settings());
    let id = fixture.register_now("/patient", json!({})).await;
    worker.metric_reaches("worker_claims_total", r#"result="error""#, 3.0).await;
    assert_eq!(fixture.receiver.count(), 0);
    fixture.store.is_down.store(false, Ordering::SeqCst);
    fixture.run_in(id, RunState::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_during_a_claim_is_not_lost() {
    let fixture = Fixture::new().await;
    fixture.store.holds_claims.send_replace(true);
    let _worker = fixture.worker(settings());
    eventually(LONG, "a claim is sent", || async { fixture.store.claims.load(Ordering::SeqCst) == 1 }).await;
    // Whether the claim held saw it or not, the wake came after that was sent.
    let id = fixture.register_now("/meanwhile", json!({})).await;
    fixture.store.holds_claims.send_replace(false);
    fixture.run_in(id, RunState::Succeeded).await;
}
