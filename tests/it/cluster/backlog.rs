//! What the workers are scaled by: any monitor says how much is waiting and coming, and it costs the database
//! nothing to be asked.

use std::collections::BTreeMap;

use reveille_testkit::eventually;
use serde_json::Value;

use super::{Cluster, Member, QUICK, SOON, date_in};

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
async fn any_monitor_tells_the_backlog_without_asking_the_database() {
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
    let before = standby.metric("reveille_store_statements_total", "").await;
    for _ in 0..50 {
        backlog(&standby).await;
    }
    assert_eq!(standby.metric("reveille_store_statements_total", "").await, before);
}
