//! A burst: thousands of runs due at one instant through one worker. Counters decide; the rate is printed.

use std::collections::HashSet;

use reveille_shared::runtime::clock::wall_ms;
use reveille_testkit::eventually;

use super::{Cluster, PATIENT, SOON};
use crate::bulk;

const RUNS: usize = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_runs_due_at_once_drain_with_few_statements() {
    let cluster = Cluster::start(PATIENT).await;
    let _monitor = cluster.monitor(PATIENT).await;
    let worker = cluster.worker(PATIENT).await;
    let store = cluster.store().await;
    let due_at = wall_ms() + 5_000;
    bulk::register_at(&*store, &cluster.receiver.url("/burst"), due_at, RUNS).await;
    // They went around the API: one registration through it tells the cluster about the instant.
    cluster.client.register(&cluster.document("herald", "date", &super::date_at(due_at))).await;

    let before = cluster.postgres.statement_count(&cluster.roles.worker).await;
    let deliveries = cluster.receiver.wait_for(RUNS + 1, SOON).await;
    eventually(SOON, "all are settled", || async {
        worker.metric("reveille_worker_runs_total", "outcome=\"ok\"").await >= (RUNS + 1) as f64
    })
    .await;
    let after = cluster.postgres.statement_count(&cluster.roles.worker).await;

    let keys: HashSet<&str> = deliveries.iter().map(|delivery| delivery.header("idempotency-key")).collect();
    assert_eq!(keys.len(), RUNS + 1, "each run once");
    assert!(deliveries.iter().all(|delivery| delivery.arrived_ms >= due_at), "none early");
    let per_run = (after - before) as f64 / RUNS as f64;
    let last = deliveries.iter().map(|delivery| delivery.arrived_ms).max().unwrap_or(due_at);
    println!("{RUNS} runs delivered in {} ms, {per_run:.4} statements per run", last - due_at);
    assert!(per_run < 0.1, "{per_run} statements per run");
}
