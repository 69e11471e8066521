//! The history of a schedule from its registration to after its deletion, and late runs that say why.

use std::time::Duration;

use reveille_testkit::{Answer, eventually};
use serde_json::{Value, json};

use super::{Cluster, QUICK, SOON};

/// A document of this deployment whose history is kept.
fn kept(cluster: &Cluster, key: &str) -> Value {
    let mut document = cluster.document(key, "now", "");
    document["task"]["history_check"] = json!(true);
    document
}

fn column<'a>(history: &'a Value, name: &str) -> Vec<&'a Value> {
    history.as_array().expect("a list").iter().map(|entry| &entry[name]).collect()
}

async fn csv(cluster: &Cluster, path: &str) -> String {
    let request = cluster.client.http.get(format!("{}{path}", cluster.client.base)).header("accept", "text/csv");
    request.send().await.expect("an answer").text().await.expect("text")
}

/// Longer than a second after its due time: from here on it is late.
async fn until_late() {
    let from = reveille_shared::runtime::clock::wall_ms();
    eventually(SOON, "it is late", || async { reveille_shared::runtime::clock::wall_ms() > from + 1_500 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedules_story_is_told_after_its_end() {
    let cluster = Cluster::start(QUICK).await;
    let _monitor = cluster.monitor(QUICK).await;
    let _worker = cluster.worker(&[QUICK, &["--worker-name", "w1"]].concat()).await;
    cluster.receiver.script("/story", [Answer::status(500), Answer::status(503), Answer::ok()]);
    let mut document = kept(&cluster, "story");
    document["name"] = json!("=story");
    document["task"]["failed_policy"] = json!("retry");
    document["task"]["retry_wait"] = json!(0);
    let id = cluster.client.register(&document).await;
    let run = cluster.client.run_in_state(&id, "succeeded").await;
    document["type"] = json!("cron");
    document["schedule"] = json!("@yearly");
    assert_eq!(cluster.client.register(&document).await, id);
    assert_eq!(cluster.client.delete(&format!("/schedules/{id}")).await["count"], 1);

    let told = cluster.client.get(&format!("/schedules/{id}/history?order=asc")).await;
    let kinds = ["registered", "executed", "reexecuted", "reexecuted", "updated", "deleted"];
    assert_eq!(column(&told, "kind"), kinds);
    assert_eq!(json!(column(&told, "http_status")), json!([null, 500, 503, 200, null, null]));
    assert_eq!(json!(column(&told, "outcome")), json!([null, "http_status", "http_status", "ok", null, null]));
    assert_eq!(json!(column(&told, "state")), json!([null, "pending", "pending", "succeeded", null, null]));
    assert_eq!(json!(column(&told, "attempt")), json!([null, 1, 2, 3, null, null]));
    assert_eq!(json!(column(&told, "worker")), json!([null, "w1", "w1", "w1", null, null]));
    for entry in &told.as_array().expect("a list")[1..4] {
        assert_eq!(entry["run_id"], run["id"]);
        assert!(entry["lag_ms"].is_u64() && entry["duration_ms"].is_u64(), "{entry}");
    }
    assert_eq!(told[1]["detail"], "the target answered 500 Internal Server Error");
    let failures = cluster.client.get("/history?application=test&outcome=http_status").await;
    assert_eq!(column(&failures, "attempt"), [2, 1]);

    let table = csv(&cluster, "/history?order=asc").await;
    let lines: Vec<&str> = table.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 1 + kinds.len(), "{table}");
    assert!(lines[0].starts_with("id,at,kind,"), "{table}");
    for (line, kind) in lines[1..].iter().zip(kinds) {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!((cells[2], cells[3], cells[10]), (kind, id.as_str(), "'=story"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_dead_worker_held_is_executed_again_and_says_so() {
    let cluster = Cluster::start(QUICK).await;
    let _monitor = cluster.monitor(QUICK).await;
    let first = cluster.worker(QUICK).await;
    cluster.receiver.script("/killed", [Answer::ok().held(), Answer::ok()]);
    let id = cluster.client.register(&kept(&cluster, "killed")).await;
    eventually(SOON, "the first worker calls", || async { cluster.receiver.in_flight("/killed") == 1 }).await;
    first.process.kill9();
    let _second = cluster.worker(QUICK).await;
    let run = cluster.client.run_in_state(&id, "succeeded").await;
    assert_eq!(run["late_cause"], "lease_expired", "{run}");
    let told = cluster.client.get(&format!("/history?run_id={}&order=asc", run["id"].as_str().expect("an id"))).await;
    assert_eq!(column(&told, "kind"), ["registered", "reexecuted"]);
    assert_eq!(told[1]["late_cause"], "lease_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_a_worker_is_why_its_run_was_late() {
    let cluster = Cluster::start(QUICK).await;
    let _monitor = cluster.monitor(QUICK).await;
    let _other = cluster.worker(QUICK).await;
    let mut document = kept(&cluster, "nightly");
    document["queue"] = json!("nightly");
    let id = cluster.client.register(&document).await;
    until_late().await;
    let worker = cluster.worker(&[QUICK, &["--queues", "nightly"]].concat()).await;
    let run = cluster.client.run_in_state(&id, "succeeded").await;
    assert_eq!(run["late_cause"], "no_worker", "{run}");
    assert!(run["late_reason"].as_str().expect("a sentence").contains("no worker"), "{run}");
    assert_eq!(worker.metric("reveille_worker_late_runs_total", "cause=\"no_worker\"").await, 1.0);
    let told = cluster.client.get(&format!("/schedules/{id}/history?kind=executed")).await;
    assert_eq!(told[0]["late_cause"], "no_worker");
    assert!(told[0]["lag_ms"].as_i64().expect("a lag") > 1_000, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_slots_are_why_a_run_was_late() {
    let cluster = Cluster::start(QUICK).await;
    let _monitor = cluster.monitor(QUICK).await;
    let _worker = cluster.worker(&[QUICK, &["--concurrency", "1"]].concat()).await;
    cluster.receiver.script("/slow", [Answer::ok().after(Duration::from_secs(2))]);
    cluster.client.register(&cluster.document("slow", "now", "")).await;
    eventually(SOON, "the slot is taken", || async { cluster.receiver.in_flight("/slow") == 1 }).await;
    let id = cluster.client.register(&cluster.document("waiting", "now", "")).await;
    let run = cluster.client.run_in_state(&id, "succeeded").await;
    assert_eq!(run["late_cause"], "slots_busy", "{run}");
    let way = ["due_at", "woken_at", "claimed_at", "dispatched_at", "first_byte_at"];
    let way: Vec<&str> = way.iter().map(|name| run["timeline"][name].as_str().expect("an instant")).collect();
    assert!(way.is_sorted(), "{run}");
    assert_eq!(run["timeline"]["settled_at"], run["finished_at"]);
}
