//! All five timings, several workers, one run per occurrence.

use std::collections::HashSet;

use reveille_shared::runtime::clock::wall_ms;
use reveille_testkit::eventually;

use super::{Cluster, QUICK, SOON, date_in};

#[tokio::test(flavor = "multi_thread")]
async fn five_timings_fire_once_per_occurrence_and_never_early() {
    let cluster = Cluster::start(QUICK).await;
    let _monitors = [cluster.monitor(QUICK).await, cluster.monitor(QUICK).await];
    let _workers = [cluster.worker(QUICK).await, cluster.worker(QUICK).await, cluster.worker(QUICK).await];
    let client = &cluster.client;

    client.register(&cluster.document("now", "now", "")).await;
    client.register(&cluster.document("delay", "delay", "1")).await;
    client.register(&cluster.document("date", "date", &date_in(1_500))).await;
    client.register(&cluster.document("past", "date", "2020-02-02T02:02:02")).await;
    let cron = client.register(&cluster.document("cron", "cron", "* * * * * *")).await;
    client.register(&cluster.document("recur", "delay-recur", "1")).await;

    let seen = |path: &'static str| cluster.receiver.deliveries_to(path);
    eventually(SOON, "the recurring ones fire again and again", || async {
        seen("/cron").len() >= 4 && seen("/recur").len() >= 2 && !seen("/date").is_empty() && !seen("/delay").is_empty()
    })
    .await;
    for path in ["/now", "/delay", "/date", "/past"] {
        assert_eq!(seen(path).len(), 1, "{path}");
    }
    let deliveries = cluster.receiver.deliveries();
    let keys: HashSet<&str> = deliveries.iter().map(|delivery| delivery.header("idempotency-key")).collect();
    assert_eq!(keys.len(), deliveries.len(), "one delivery per run");
    for delivery in &deliveries {
        let nominal = chrono::DateTime::parse_from_rfc3339(delivery.header("x-reveille-nominal-time"))
            .unwrap_or_else(|error| panic!("{error}: {:?}", delivery.headers));
        assert!(delivery.arrived_ms >= nominal.timestamp_millis(), "early: {delivery:?}");
    }

    // Deleted: what was claimed may still arrive, nothing after it.
    let answer = client.delete(&format!("/schedules/{cron}")).await;
    assert_eq!(answer["count"], 1);
    let deleted_at = wall_ms();
    client.register(&cluster.document("canary", "delay", "3")).await;
    eventually(SOON, "the canary fires", || async { !seen("/canary").is_empty() }).await;
    for delivery in seen("/cron") {
        let nominal = chrono::DateTime::parse_from_rfc3339(delivery.header("x-reveille-nominal-time")).expect("a time");
        assert!(nominal.timestamp_millis() <= deleted_at, "fired after its deletion: {delivery:?}");
    }
}
