//! Many runs at once: each delivered once, a statement serves many of them, nothing waits for nothing.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reveille_shared::model::run::RunState;
use reveille_shared::store::Store;
use reveille_testkit::{Answer, Receiver, eventually};
use reveille_worker::Settings;
use serde_json::json;

use crate::fixture::{Fixture, LONG, settings};

const BURST: usize = 5000;

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_drains_in_batches_and_reaches_each_target_once() {
    let fixture = Fixture::new().await;
    let due = chrono::DateTime::from_timestamp_millis(fixture.store.ping().await.unwrap() - 1).unwrap();
    let date = due.format("%Y-%m-%dT%H:%M:%S%.3f").to_string();
    let documents: Vec<_> = (0..BURST).map(|_| fixture.document("date", &date, "/burst", json!({}))).collect();
    for part in documents.chunks(1000) {
        fixture.register(part).await;
    }
    let before = fixture.store.statements();
    let began = Instant::now();
    let worker = fixture.worker(Settings::default());
    worker.metric_reaches("worker_settles_total", r#"result="done""#, 5000.0).await;
    let took = began.elapsed();
    let statements = fixture.store.statements() - before;
    worker.stop().await;

    let deliveries = fixture.receiver.deliveries();
    let keys: HashSet<_> = deliveries.iter().map(|delivery| delivery.header("idempotency-key")).collect();
    assert_eq!((deliveries.len(), keys.len()), (BURST, BURST));
    println!("{BURST} runs in {took:?}: {statements} statements");
    assert!(statements < 500, "{statements} statements for {BURST} runs");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(fixture.receiver.peak_in_flight("/burst") <= 256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_that_finds_all_slots_busy_is_served_when_one_is_free() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(Settings { concurrency: 2, ..settings() });
    // Of two targets, so that neither takes more than its share.
    let other = Receiver::start().await;
    fixture.receiver.script("/busy", [Answer::hang()]);
    other.script("/busy", [Answer::hang()]);
    fixture.register_now("/busy", json!({})).await;
    fixture.register_now("/busy", json!({"connection": {"host": other.url("/busy")}})).await;
    fixture.receiver.wait_for(1, LONG).await;
    other.wait_for(1, LONG).await;
    let claims = fixture.store.claims.load(Ordering::SeqCst);
    let id = fixture.register_now("/waiting", json!({})).await;
    worker.metric_reaches("worker_slots_busy", "", 2.0).await;
    assert_eq!(fixture.store.claims.load(Ordering::SeqCst), claims, "no slot, no claim");

    fixture.receiver.release("/busy");
    fixture.run_in(id, RunState::Succeeded).await;
    assert_eq!(fixture.receiver.deliveries_to("/waiting").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slot_takes_one_run_after_the_other_in_order_of_priority() {
    let fixture = Fixture::new().await;
    let documents: Vec<_> = [-1, 5, 0, 9]
        .map(|priority| {
            let mut document = fixture.document("now", "", &format!("/{priority}"), json!({}));
            document["priority"] = json!(priority);
            document
        })
        .into();
    fixture.register(&documents).await;
    let _worker = fixture.worker(Settings { concurrency: 1, ..settings() });
    let deliveries = fixture.receiver.wait_for(4, LONG).await;
    let paths: Vec<_> = deliveries.iter().map(|delivery| delivery.path.as_str()).collect();
    assert_eq!(paths, ["/9", "/5", "/0", "/-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_work_without_a_double_delivery() {
    let fixture = Fixture::new().await;
    let documents: Vec<_> = (0..1000).map(|_| fixture.document("now", "", "/shared", json!({}))).collect();
    fixture.register(&documents).await;
    let workers = [fixture.worker(settings()), fixture.worker(settings())];
    let done = || workers.iter().map(|worker| worker.metric("worker_settles_total", r#"result="done""#)).sum::<f64>();
    eventually(LONG, "all are settled", || async { done() >= 1000.0 }).await;
    let deliveries = fixture.receiver.deliveries();
    let keys: HashSet<_> = deliveries.iter().map(|delivery| delivery.header("idempotency-key")).collect();
    assert_eq!((deliveries.len(), keys.len()), (1000, 1000));
}
