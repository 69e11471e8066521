//! Redis killed, flushed, or never there: lateness at most, never a lost run.

use reveille_testkit::eventually;
use serde_json::Value;

use super::{Cluster, PATIENT, QUICK, SOON, date_in};

/// Registers a date and waits until its instant is the published next wake.
async fn armed(cluster: &Cluster, key: &str) {
    let id = cluster.client.register(&cluster.document(key, "date", &date_in(3_000))).await;
    let documents = cluster.client.get(&format!("/schedules/{id}")).await;
    let due_s = documents[0]["task"]["next"].as_i64().expect("its instant");
    eventually(SOON, "the wake state names it", || async {
        let wake: Value = cluster.client.get("/wake").await;
        wake["next_ms"].as_i64().is_some_and(|next_ms| next_ms / 1000 == due_s)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_known_fires_without_redis() {
    let cluster = Cluster::start(PATIENT).await;
    let _monitor = cluster.monitor(PATIENT).await;
    let _worker = cluster.worker(PATIENT).await;
    armed(&cluster, "cut").await;
    cluster.redis.kill();
    eventually(SOON, "it fires", || async { !cluster.receiver.deliveries_to("/cut").is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_redis_loses_nothing() {
    let cluster = Cluster::start(PATIENT).await;
    let _monitor = cluster.monitor(PATIENT).await;
    let _worker = cluster.worker(PATIENT).await;
    armed(&cluster, "flushed").await;
    let mut redis = redis_connection(&cluster).await;
    redis::cmd("FLUSHALL").query_async::<()>(&mut redis).await.expect("FLUSHALL");
    cluster.client.register(&cluster.document("after", "delay", "1")).await;
    for path in ["/after", "/flushed"] {
        eventually(SOON, path, || async { !cluster.receiver.deliveries_to(path).is_empty() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_without_redis_is_accepted_and_hinted_when_it_is_back() {
    let cluster = Cluster::start(PATIENT).await;
    let _monitor = cluster.monitor(PATIENT).await;
    let _worker = cluster.worker(PATIENT).await;
    armed(&cluster, "before").await;
    cluster.redis.kill();
    cluster.client.register(&cluster.document("meanwhile", "now", "")).await;
    cluster.redis.restart().await;
    for path in ["/meanwhile", "/before"] {
        eventually(SOON, path, || async { !cluster.receiver.deliveries_to(path).is_empty() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_workers_check_by_themselves_and_say_so() {
    let cluster = Cluster::start(QUICK).await;
    let worker = cluster.worker(QUICK).await;
    cluster.redis.kill();
    eventually(SOON, "the worker is degraded", || async { worker.metric("reveille_worker_degraded", "").await == 1.0 })
        .await;
    cluster.client.register(&cluster.document("degraded", "now", "")).await;
    eventually(SOON, "it fires", || async { !cluster.receiver.deliveries_to("/degraded").is_empty() }).await;
    cluster.redis.restart().await;
    let _monitor = cluster.monitor(QUICK).await;
    eventually(SOON, "the worker recovers", || async { worker.metric("reveille_worker_degraded", "").await == 0.0 })
        .await;
}

async fn redis_connection(cluster: &Cluster) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(cluster.redis.url()).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("Redis")
}
