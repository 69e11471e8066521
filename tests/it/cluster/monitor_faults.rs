//! Monitors that die, and registrars that die before they told anyone.

use reveille_testkit::eventually;

use super::{Cluster, Member, PATIENT, QUICK, SOON, date_in};

async fn leads(member: &Member) -> bool {
    member.metric("reveille_monitor_leader", "").await == 1.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_followed_by_the_standby() {
    let cluster = Cluster::start(QUICK).await;
    let first = cluster.monitor(QUICK).await;
    eventually(SOON, "the first monitor leads", || async { leads(&first).await }).await;
    let second = cluster.monitor(QUICK).await;
    let _worker = cluster.worker(QUICK).await;
    assert!(!leads(&second).await);
    let epoch = first.metric("reveille_monitor_epoch", "").await;

    cluster.client.register(&cluster.document("known", "date", &date_in(2_000))).await;
    first.process.kill9();
    eventually(SOON, "the standby leads", || async { leads(&second).await }).await;
    assert!(second.metric("reveille_monitor_epoch", "").await > epoch);
    eventually(SOON, "what was known fires", || async { !cluster.receiver.deliveries_to("/known").is_empty() }).await;
    cluster.client.register(&cluster.document("later", "delay", "1")).await;
    eventually(SOON, "what comes later fires", || async { !cluster.receiver.deliveries_to("/later").is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_known_fires_on_time_without_any_monitor() {
    let cluster = Cluster::start(PATIENT).await;
    let monitor = cluster.monitor(PATIENT).await;
    let _worker = cluster.worker(PATIENT).await;
    eventually(SOON, "the monitor leads", || async { leads(&monitor).await }).await;
    cluster.client.register(&cluster.document("known", "date", &date_in(2_000))).await;
    monitor.process.kill9();
    // Nobody follows for ten minutes: only the instant that the worker armed by itself can do it.
    eventually(SOON, "it fires", || async { !cluster.receiver.deliveries_to("/known").is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_at_once_fires_at_once_without_any_monitor() {
    let cluster = Cluster::start(PATIENT).await;
    let monitor = cluster.monitor(PATIENT).await;
    let _workers = [cluster.worker(PATIENT).await, cluster.worker(PATIENT).await];
    eventually(SOON, "the monitor leads", || async { leads(&monitor).await }).await;
    monitor.process.kill9();
    // From the second one on the published instant has passed, and for ten minutes nobody moves it on.
    for number in 0..20 {
        let key = format!("now-{number}");
        cluster.client.register(&cluster.document(&key, "now", "")).await;
        let path = format!("/{key}");
        eventually(SOON, "it fires", || async { !cluster.receiver.deliveries_to(&path).is_empty() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_exits_hands_over_at_once() {
    let cluster = Cluster::start(PATIENT).await;
    let first = cluster.monitor(PATIENT).await;
    eventually(SOON, "the first monitor leads", || async { leads(&first).await }).await;
    let second = cluster.monitor(PATIENT).await;
    first.process.sigterm();
    assert!(first.process.wait_exit(SOON).await.success());
    // Leadership would last ten minutes had it not been given up.
    eventually(SOON, "the second leads", || async { leads(&second).await }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registrar_that_dies_before_its_hint_delays_the_run_until_the_recheck() {
    let cluster = Cluster::start(QUICK).await;
    let _monitor = cluster.monitor(QUICK).await;
    let _worker = cluster.worker(QUICK).await;
    let dying = [QUICK, &["--fault", "api.committed=abort"]].concat();
    let (api, client) = cluster.another_api(&dying).await;
    let answer = client.try_register(&cluster.document("orphan", "now", "")).await;
    assert!(answer.is_err(), "it died before it could answer");
    api.process.wait_exit(SOON).await;
    eventually(SOON, "the recheck finds it", || async { !cluster.receiver.deliveries_to("/orphan").is_empty() }).await;
}
