//! PostgreSQL crashes and comes back under a running cluster: what was acknowledged survives, every role
//! recovers by itself, and every occurrence still has one run.

use std::collections::HashSet;

use reveille_testkit::{Postgres, eventually};

use super::{Cluster, QUICK, SOON};

#[tokio::test(flavor = "multi_thread")]
async fn every_role_lives_through_a_crash_of_the_database() {
    // Durable, unlike the shared server of the other tests; it ends with the test process.
    let postgres: &'static Postgres = Box::leak(Box::new(Postgres::start_with(&["fsync=on"]).await));
    let cluster = Cluster::start_on(postgres, QUICK).await;
    let monitor = cluster.monitor(QUICK).await;
    let worker = cluster.worker(QUICK).await;
    let tick = cluster.client.register(&cluster.document("tick", "cron", "* * * * * *")).await;
    let far = cluster.client.register(&cluster.document("far", "date", "2090-01-01T00:00:00")).await;
    let seen = |path: &'static str| cluster.receiver.deliveries_to(path).len();
    eventually(SOON, "it ticks", || async { seen("/tick") >= 2 }).await;

    postgres.restart().await; // immediate: connections break, nothing is written, recovery at the start
    let before = seen("/tick");
    eventually(SOON, "it ticks on", || async { seen("/tick") >= before + 3 }).await;
    eventually(SOON, "registrations are taken again", || async {
        let answer = cluster.client.try_register(&cluster.document("after", "now", "")).await;
        answer.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    eventually(SOON, "and fire", || async { seen("/after") >= 1 }).await;

    let shown = cluster.client.get(&format!("/schedules/{far}")).await;
    assert_eq!(shown[0]["task"]["status"], "idle", "what was acknowledged is there");
    let runs = cluster.client.runs(&tick).await;
    let instants: HashSet<&str> = runs.iter().filter_map(|run| run["nominal_at"].as_str()).collect();
    assert_eq!(instants.len(), runs.len(), "one run per occurrence");
    for member in [&monitor, &worker] {
        assert!(member.process.is_running());
        eventually(SOON, "it is ready", || async {
            let answer = reqwest::get(format!("http://{}/readyz", member.ops)).await;
            answer.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }
}
