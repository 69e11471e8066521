//! What the workers are scaled by: any monitor says how much is waiting and coming, and it costs the database
//! nothing to be asked.

use std::collections::BTreeMap;
use std::time::Duration;

use reveille_testkit::eventually;
use serde_json::Value;

use super::{Cluster, Member, QUICK, SOON, date_in};

/// What a scaler reads is at most so old; the other half is for a busy machine.
const AT_MOST: Duration = Duration::from_secs(4);

/// The backlog as this monitor tells it, once it does.
async fn backlog(member: &Member) -> Option<BTreeMap<String, i64>> {
    let answer = reqwest::get(format!("http://{}/backlog", member.ops)).await.expect("an answer");
    if answer.status() == 503 {
        return None;
    }
    assert_eq!(answer.status(), 200);
    let told: BTreeMap<String, Value> = answer.json().await.expect("JSON");
    Some(told.into_iter().map(|(name, value)| (name, value.as_i64().expect("a number"))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_monitor_tells_the_backlog_and_asks_the_database_seldom() {
    let cluster = Cluster::start(QUICK).await;
    // No worker: what is due stays due.
    for key in ["a", "b"] {
        cluster.client.register(&cluster.document(key, "now", "")).await;
    }
    cluster.client.register(&cluster.document("c", "date", &date_in(50_000))).await;
    cluster.client.register(&cluster.document("d", "date", &date_in(200_000))).await;
    let leader = cluster.monitor(QUICK).await;
    eventually(SOON, "it leads", || async { leader.metric("reveille_monitor_leader", "").await == 1.0 }).await;
    let standby = cluster.monitor(QUICK).await;
    for member in [&leader, &standby] {
        eventually(SOON, "the backlog is told", || async { backlog(member).await.is_some() }).await;
        let told = backlog(member).await.expect("still told");
        let counts =
            ["overdue_runs", "running_runs", "due_next_minute", "due_next_five_minutes"].map(|name| told[name]);
        assert_eq!(counts, [2, 0, 1, 2]);
    }
    // The standby asks the leader, and the leader the database once in two seconds.
    let statements = async || {
        let name = "reveille_store_statements_total";
        standby.metric(name, "").await + leader.metric(name, "").await
    };
    let (before, began) = (statements().await, std::time::Instant::now());
    for _ in 0..50 {
        backlog(&standby).await;
    }
    // Both also nudge for what nobody takes, at ever longer intervals, and recheck.
    let permitted = 2.0 * began.elapsed().as_secs_f64() + 4.0;
    assert!(statements().await - before <= permitted);
}

/// With the intervals of production: nothing but a question makes the leader look.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_scaler_reads_is_two_seconds_behind_a_registration_at_most() {
    let cluster = Cluster::start(&[]).await;
    let leader = cluster.monitor(&[]).await;
    eventually(SOON, "it leads", || async { leader.metric("reveille_monitor_leader", "").await == 1.0 }).await;
    let standby = cluster.monitor(&[]).await;
    eventually(SOON, "the backlog is told", || async { backlog(&standby).await.is_some() }).await;
    cluster.client.register(&cluster.document("a", "date", &date_in(40_000))).await;
    for count in 2..5 {
        let key = count.to_string();
        cluster.client.register(&cluster.document(&key, "date", &date_in(45_000))).await;
        let what = format!("{count} are told");
        eventually(AT_MOST, &what, || async {
            backlog(&standby).await.is_some_and(|told| told["due_next_minute"] == count)
        })
        .await;
    }
}
