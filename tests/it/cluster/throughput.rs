//! A burst: thousands of runs due at one instant through one worker, also through a pooler. Counters decide; the rate is
//! printed.

use std::collections::HashSet;

use reveille_shared::runtime::clock::wall_ms;
use reveille_testkit::{PgBouncer, eventually};

use super::{Cluster, Member, PATIENT, SOON};
use crate::bulk;

const RUNS: usize = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_runs_due_at_once_drain_with_few_statements() {
    let cluster = Cluster::start(PATIENT).await;
    let _monitor = cluster.monitor(PATIENT).await;
    let worker = cluster.worker(PATIENT).await;
    let before = cluster.postgres.statement_count(&cluster.roles.worker).await;
    let took = burst(&cluster, &worker, RUNS).await;
    let after = cluster.postgres.statement_count(&cluster.roles.worker).await;
    let per_run = (after - before) as f64 / RUNS as f64;
    println!("{RUNS} runs delivered in {took} ms, {per_run:.4} statements per run");
    assert!(per_run < 0.1, "{per_run} statements per run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_goes_through_a_pooler_in_either_mode() {
    for mode in ["session", "transaction"] {
        let cluster = Cluster::start(PATIENT).await;
        let _monitor = cluster.monitor(PATIENT).await;
        let pooler = PgBouncer::start(cluster.postgres, &[&format!("pool_mode={mode}")]).await;
        let worker = cluster.worker_through(&pooler, PATIENT).await;
        let took = burst(&cluster, &worker, RUNS / 5).await;
        println!("{} runs delivered in {took} ms through a pooler in {mode} mode", RUNS / 5);
    }
}

/// So many runs due at one instant arrive once each and not early.
///
/// Answers after how many milliseconds the last one did.
async fn burst(cluster: &Cluster, worker: &Member, runs: usize) -> i64 {
    let store = cluster.store().await;
    let due_at = wall_ms() + 5_000;
    bulk::register_at(&*store, &cluster.receiver.url("/burst"), due_at, runs).await;
    // They went around the API: one registration through it tells the cluster about the instant.
    cluster.client.register(&cluster.document("herald", "date", &super::date_at(due_at))).await;

    let deliveries = cluster.receiver.wait_for(runs + 1, SOON).await;
    eventually(SOON, "all are settled", || async {
        worker.metric("reveille_worker_settles_total", "result=\"done\"").await >= (runs + 1) as f64
    })
    .await;
    let keys: HashSet<&str> = deliveries.iter().map(|delivery| delivery.header("idempotency-key")).collect();
    assert_eq!((deliveries.len(), keys.len()), (runs + 1, runs + 1), "each run once");
    assert!(deliveries.iter().all(|delivery| delivery.arrived_ms >= due_at), "none early");
    deliveries.iter().map(|delivery| delivery.arrived_ms).max().unwrap_or(due_at) - due_at
}
