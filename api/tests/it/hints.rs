//! Commit, then hint: whatever may have been committed is hinted, and nothing else.

use std::time::Duration;

use axum::http::StatusCode;
use reveille_shared::bus::{BusEvent, Subscription};
use reveille_testkit::eventually;
use serde_json::json;

use crate::support::{Api, START, document};

const SOON: Duration = Duration::from_secs(10);

async fn next_ms(api: &Api) -> Option<i64> {
    api.get("/wake").await.json["next_ms"].as_i64()
}

#[tokio::test]
async fn a_caller_that_hangs_up_after_the_commit_does_not_cost_the_hint() {
    let api = Api::start().await;
    let committed = api.faults.hold("api.committed");
    let document = document("1", "cron", "30 * * * * *");
    tokio::select! {
        answer = api.post("/schedules", &document) => panic!("answered {}", answer.status),
        () = committed.reached(1) => {}
    }
    assert_eq!(api.get("/schedules").await.status, StatusCode::OK, "it is stored");
    drop(committed);
    eventually(SOON, "it is hinted", || async { next_ms(&api).await == Some(START + 30_000) }).await;
}

#[tokio::test]
async fn a_commit_in_doubt_is_hinted() {
    let api = Api::start().await;
    api.get("/schedules").await; // whoever asks is known by now: the database is not needed for that
    api.store.close().await;
    let answer = api.post("/schedules", &document("1", "delay", "50")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json["code"], "database_unavailable");
    assert!(answer.headers.contains_key("retry-after"));
    eventually(SOON, "it is hinted", || async { next_ms(&api).await.is_some() }).await;
}

#[tokio::test]
async fn what_was_not_written_is_not_hinted() {
    let api = Api::start().await;
    let nobody = format!("/schedules/{}/update", uuid::Uuid::now_v7());
    assert_eq!(api.post(&nobody, &document("1", "date", "2020-01-01T00:00:00")).await.status, StatusCode::NOT_FOUND);
    api.register(&document("2", "cron", "30 * * * * *")).await;
    // An instant that was hinted before would be the earlier one and stay.
    eventually(SOON, "the next is known", || async { next_ms(&api).await.is_some() }).await;
    assert_eq!(next_ms(&api).await, Some(START + 30_000));
}

/// A monitor finds nothing scheduled: what is known next was hinted after that.
async fn forget(api: &Api) {
    let marked = api.bus.mark("monitor", 1).await.unwrap();
    assert!(api.bus.set("monitor", marked.nonce, None).await.unwrap().is_some());
    assert_eq!(next_ms(api).await, None);
}

#[tokio::test]
async fn registering_again_triggering_and_resuming_hint() {
    let api = Api::start().await;
    let cron = document("1", "cron", "30 * * * * *");
    let id = api.register(&cron).await;
    let hinted = async |at| eventually(SOON, "it is hinted", || async { next_ms(&api).await == Some(at) }).await;
    let act = async |action: &str| api.post(&format!("/schedules/{id}/{action}"), &json!({})).await.status;
    hinted(START + 30_000).await;

    forget(&api).await;
    api.register(&cron).await;
    hinted(START + 30_000).await; // unchanged, and all the same: the hint before may have been lost

    forget(&api).await;
    assert_eq!(act("trigger").await, StatusCode::OK);
    hinted(START).await;

    assert_eq!(act("pause").await, StatusCode::OK);
    api.pass(Duration::from_secs(60));
    forget(&api).await;
    assert_eq!(act("resume").await, StatusCode::OK);
    hinted(START + 90_000).await;
}

async fn soon(workers: &mut Subscription) -> i64 {
    let told = async {
        loop {
            if let BusEvent::Soon(at) = workers.recv().await.unwrap() {
                return at;
            }
        }
    };
    tokio::time::timeout(SOON, told).await.unwrap()
}

/// This API knows the database's clock from nothing but the answers to what it wrote.
#[tokio::test]
async fn what_is_due_at_once_is_told_while_the_published_instant_is_over() {
    let api = Api::start().await;
    let id = api.register(&document("1", "now", "")).await;
    let mut workers = api.bus.subscribe();
    let act = async |action: &str| api.post(&format!("/schedules/{id}/{action}"), &json!({})).await.status;
    eventually(SOON, "it is hinted", || async { next_ms(&api).await == Some(START) }).await;

    api.pass(Duration::from_millis(50));
    for at_once in [document("2", "now", ""), document("3", "date", "2020-01-01T00:00:00")] {
        api.register(&at_once).await;
        assert_eq!(soon(&mut workers).await, 0);
    }
    assert_eq!(act("trigger").await, StatusCode::OK);
    assert_eq!(soon(&mut workers).await, 0);
    assert_eq!(act("pause").await, StatusCode::OK);
    assert_eq!(act("resume").await, StatusCode::OK);
    assert_eq!(soon(&mut workers).await, 0);

    for number in 0..10 {
        api.register(&document(&format!("far {number}"), "delay", "10")).await;
    }
    api.register(&document("4", "now", "")).await;
    assert_eq!(soon(&mut workers).await, 0);
    assert_eq!(workers.try_recv(), None, "what lies ahead is told by the monitor");
    assert_eq!(next_ms(&api).await, Some(START));
}

/// Known a little late, as it always is, the clock tells of nothing that has passed.
#[tokio::test]
async fn what_lies_ahead_is_told_to_nobody() {
    let api = Api::start().await;
    api.register(&document("1", "delay", "50")).await;
    eventually(SOON, "it is hinted", || async { next_ms(&api).await == Some(START + 50_000) }).await;
    let mut workers = api.bus.subscribe();
    assert!(matches!(workers.recv().await, Some(BusEvent::Connected(_))));
    for (key, kind, schedule) in [("2", "delay", "60"), ("2", "delay-recur", "60"), ("2", "delay-recur", "60")] {
        api.now.advance(5);
        api.register(&document(key, kind, schedule)).await;
    }
    eventually(SOON, "all are hinted", || async { api.context.hints.pending().is_none() }).await;
    assert_eq!(workers.try_recv(), None);
}
