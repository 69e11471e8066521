//! A recurring schedule survives the death of its worker at every point between claim and settle.

use std::collections::HashSet;

use reveille_testkit::eventually;

use super::{Cluster, QUICK, SOON};

/// Every fault point of the worker, and whether the target has seen the run by then.
const POINTS: [(&str, bool); 5] = [
    ("worker.claimed", false),
    ("worker.dispatching", false),
    ("worker.dispatched", true),
    ("worker.settling", true),
    ("worker.settled", true),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_recurring_schedule_survives_a_crash_at_every_point() {
    let checks = POINTS.map(|(point, delivered)| check(point, delivered));
    futures_util::future::join_all(checks).await;
}

async fn check(point: &str, delivered: bool) {
    let cluster = Cluster::start(QUICK).await;
    let _monitor = cluster.monitor(QUICK).await;
    let fault = format!("{point}=abort");
    let dying = cluster.worker(&[QUICK, &["--fault", &fault]].concat()).await;
    let id = cluster.client.register(&cluster.document("tick", "cron", "* * * * * *")).await;
    let status = dying.process.wait_exit(SOON).await;
    assert!(!status.success(), "{point}: {status}");
    assert_eq!(cluster.receiver.count() > 0, delivered, "{point}: what the target saw");

    let _living = cluster.worker(QUICK).await;
    eventually(SOON, &format!("{point}: it goes on"), || async {
        cluster.client.runs(&id).await.iter().filter(|run| run["state"] == "succeeded").count() >= 3
    })
    .await;
    let runs = cluster.client.runs(&id).await;
    let instants: HashSet<&str> = runs.iter().filter_map(|run| run["nominal_at"].as_str()).collect();
    assert_eq!(instants.len(), runs.len(), "{point}: one run per occurrence");
    let open = runs.iter().filter(|run| run["state"] == "pending" || run["state"] == "running").count();
    assert_eq!(open, 1, "{point}: exactly one armed run: {runs:?}");
    let repeated = runs.iter().find(|run| run["crashes"] == 1);
    assert_eq!(repeated.is_some(), point != "worker.settled", "{point}: the run that was held came back");
}
