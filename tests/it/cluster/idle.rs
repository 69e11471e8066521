//! Idle costs nothing, whatever the number of workers and schedules: by counting the statements that
//! reach PostgreSQL, per role, in a window of 60 seconds with the default settings.

use std::time::Duration;

use reveille_testkit::eventually;

use super::{Cluster, SOON};
use crate::bulk;

const WORKERS: usize = 8;
const SCHEDULES: usize = 10_000;
const WINDOW: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn idle_workers_send_no_statement_and_the_cluster_three_a_minute() {
    let cluster = Cluster::start(&[]).await;
    let monitor = cluster.monitor(&[]).await;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(cluster.worker(&[]).await);
    }
    let store = cluster.store().await;
    bulk::register_far_future(&*store, SCHEDULES).await;
    // One run through the whole path first: connections are warm and everybody has settled down.
    cluster.client.register(&cluster.document("warm", "now", "")).await;
    eventually(SOON, "the path is warm", || async { !cluster.receiver.deliveries_to("/warm").is_empty() }).await;
    eventually(SOON, "the next wake is far away", || async {
        monitor.metric("reveille_monitor_next_wake_timestamp_seconds", "").await > bulk::FAR_FUTURE_S as f64 - 1.0
    })
    .await;

    let roles = [&cluster.roles.worker, &cluster.roles.monitor, &cluster.roles.api];
    let before = cluster_statements(cluster.postgres, roles).await;
    tokio::time::sleep(WINDOW).await; // the window is what is measured
    let after = cluster_statements(cluster.postgres, roles).await;
    let spent: Vec<i64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    let texts = cluster.postgres.statements(&cluster.roles.worker).await;
    assert_eq!(spent[0], 0, "statements of {WORKERS} idle workers; all of theirs so far: {texts:?}");
    assert!(spent.iter().sum::<i64>() <= 3, "statements of workers, monitor, API: {spent:?}");
    drop(workers);
}

async fn cluster_statements(postgres: &reveille_testkit::Postgres, roles: [&String; 3]) -> [i64; 3] {
    let mut counts = [0; 3];
    for (count, role) in counts.iter_mut().zip(roles) {
        *count = postgres.statement_count(role).await;
    }
    counts
}
