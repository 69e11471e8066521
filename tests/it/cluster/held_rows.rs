//! Somebody holds the row of one schedule, or of one of its runs, for longer than a lease: that schedule waits, the others
//! fire, and nobody is called twice.

use std::collections::{BTreeMap, HashSet};

use reveille_testkit::eventually;
use sqlx::{Connection, PgConnection};

use super::{Cluster, QUICK, SOON};

const CRONS: usize = 6;
/// Longer than the lease.
const INSTANTS: usize = 8;

/// The instants at which each path was called, in seconds.
fn instants(cluster: &Cluster, path: &str) -> Vec<i64> {
    let deliveries = cluster.receiver.deliveries_to(path);
    let instant = |text: &str| chrono::DateTime::parse_from_rfc3339(text).expect("a time").timestamp();
    deliveries.iter().map(|delivery| instant(delivery.header("x-reveille-nominal-time"))).collect()
}

async fn check(lock: &str) {
    let cluster = Cluster::start(QUICK).await;
    let _monitor = cluster.monitor(QUICK).await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(cluster.worker(QUICK).await);
    }
    let mut ids = Vec::new();
    for number in 0..CRONS {
        ids.push(cluster.client.register(&cluster.document(&number.to_string(), "cron", "* * * * * *")).await);
    }
    let paths: Vec<String> = (0..CRONS).map(|number| format!("/{number}")).collect();
    let counts = || paths.iter().map(|path| instants(&cluster, path).len()).collect::<Vec<usize>>();
    eventually(SOON, "all tick", || async { counts().iter().all(|count| *count >= 2) }).await;

    let mut somebody = PgConnection::connect(&cluster.database).await.expect("connect");
    let mut held = somebody.begin().await.expect("begin");
    sqlx::query(sqlx::AssertSqlSafe(lock.to_owned()))
        .bind(ids[0].parse::<uuid::Uuid>().expect("an id"))
        .execute(&mut *held)
        .await
        .expect("the row is held");
    let before = counts();
    eventually(SOON, "the others go on", || async {
        counts().iter().zip(&before).skip(1).all(|(now, before)| *now >= before + INSTANTS)
    })
    .await;
    let during: Vec<Vec<i64>> = paths.iter().map(|path| instants(&cluster, path)).collect();
    held.rollback().await.expect("the row is free");
    for (path, seen) in paths.iter().zip(&during).skip(1) {
        let seen = &seen[seen.len() - INSTANTS..];
        let span = seen[INSTANTS - 1] - seen[0] + 1;
        assert!(INSTANTS as f64 >= 0.9 * span as f64 - 1.0, "{path} fired {INSTANTS} times in {span} s");
    }
    let last = during[0].len();
    eventually(SOON, "it ticks on", || async { instants(&cluster, &paths[0]).len() >= last + 2 }).await;

    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for delivery in cluster.receiver.deliveries() {
        *runs.entry(delivery.header("idempotency-key").to_owned()).or_default() += 1;
    }
    let twice: HashSet<&String> = runs.iter().filter(|(_, times)| **times > 1).map(|(run, _)| run).collect();
    assert!(twice.is_empty(), "called twice: {twice:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_somebody_holds_waits_alone() {
    check("SELECT 1 FROM schedules WHERE id = $1 FOR UPDATE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_somebody_holds_waits_alone() {
    check("SELECT 1 FROM runs WHERE schedule_id = $1 AND state = 0 FOR UPDATE").await;
}
