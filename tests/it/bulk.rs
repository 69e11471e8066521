//! Thousands of schedules at once, through the store: what no user does one request at a time.

use reveille_shared::model::schedule::{ClientKey, DEFAULT_QUEUE};
use reveille_shared::model::timing::{ArmAt, Arming, OnUnchanged};
use reveille_shared::store::{Registration, Store};
use serde_json::json;
use uuid::Uuid;

/// When the far-future schedules are due: 2090, in unix seconds.
pub(crate) const FAR_FUTURE_S: i64 = 3_786_912_000;

/// Registers `count` schedules that are due in decades.
pub(crate) async fn register_far_future(store: &dyn Store, count: usize) {
    register(store, "http://127.0.0.1:9/never", FAR_FUTURE_S * 1000, 60_000, count).await;
}

/// Registers `count` one-shot schedules that are all due at `due_at` and call `url`.
pub(crate) async fn register_at(store: &dyn Store, url: &str, due_at: i64, count: usize) {
    register(store, url, due_at, 0, count).await;
}

async fn register(store: &dyn Store, url: &str, first_at: i64, apart_ms: i64, count: usize) {
    let batch: Vec<Registration> = (0..count)
        .map(|number| registration(url, first_at + apart_ms * i64::try_from(number).expect("small"), number))
        .collect();
    for chunk in batch.chunks(1_000) {
        store.schedule_upsert(chunk).await.expect("registered");
    }
}

fn registration(url: &str, at: i64, number: usize) -> Registration {
    let client = ClientKey { group: "bulk".to_owned(), key: number.to_string(), ..ClientKey::default() };
    let payload = json!({
        "name": "bulk", "client": client, "type": "date", "schedule": crate::cluster::date_at(at), "timezone": "UTC",
        "task": {"type": "rest", "connection": {"host": url}, "data": {"number": number}, "retry_wait": 60}
    });
    Registration {
        id: Uuid::now_v7(),
        client,
        name: "bulk".to_owned(),
        fingerprint: payload.to_string(),
        payload: payload.to_string(),
        queue: DEFAULT_QUEUE.to_owned(),
        priority: 0,
        arming: Arming { at: ArmAt::At(at), calendar: false, unchanged: OnUnchanged::KeepWhileFuture },
        run_id: Uuid::now_v7(),
        history_check: false,
    }
}
