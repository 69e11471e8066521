//! Workers that die, stop or are told to end while they hold a run.

use reveille_testkit::{Answer, eventually};
use serde_json::json;

use super::{Cluster, PATIENT, QUICK, SOON};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_run_comes_back_with_the_same_key_and_a_higher_token() {
    let cluster = Cluster::start(QUICK).await;
    let _monitor = cluster.monitor(QUICK).await;
    let first = cluster.worker(QUICK).await;
    cluster.receiver.script("/killed", [Answer::ok().held(), Answer::ok()]);
    let id = cluster.client.register(&cluster.document("killed", "now", "")).await;
    eventually(SOON, "the first worker calls", || async { cluster.receiver.in_flight("/killed") == 1 }).await;

    first.process.kill9();
    let _second = cluster.worker(QUICK).await;
    let run = cluster.client.run_in_state(&id, "succeeded").await;

    let deliveries = cluster.receiver.deliveries_to("/killed");
    assert_eq!(deliveries.len(), 2);
    let header = |at: usize, name: &str| deliveries[at].header(name).to_owned();
    assert_eq!(header(0, "idempotency-key"), header(1, "idempotency-key"));
    assert_eq!(run["id"], header(0, "idempotency-key").as_str());
    assert_eq!(header(0, "x-reveille-fencing-token"), "1");
    assert_eq!(header(1, "x-reveille-fencing-token"), "2");
    assert_eq!(run["crashes"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_workers_late_result_changes_nothing() {
    let cluster = Cluster::start(QUICK).await;
    let _monitor = cluster.monitor(QUICK).await;
    let first = cluster.worker(QUICK).await;
    // The first answer is a refusal that would end the run as failed if it counted.
    cluster.receiver.script("/stopped", [Answer::status(500).held(), Answer::ok()]);
    let id = cluster.client.register(&cluster.document("stopped", "now", "")).await;
    eventually(SOON, "the first worker calls", || async { cluster.receiver.in_flight("/stopped") == 1 }).await;

    first.process.sigstop();
    let _second = cluster.worker(QUICK).await;
    let before = cluster.client.run_in_state(&id, "succeeded").await;
    cluster.receiver.release("/stopped");
    first.process.sigcont();

    // It noticed: the call was given up or its settle refused; its slot is free again and it works on.
    eventually(SOON, "the first worker lets go", || async {
        first.metric("reveille_worker_slots_busy", "").await == 0.0
    })
    .await;
    assert_eq!(cluster.client.runs(&id).await, vec![before.clone()]);
    assert_eq!(before["lease_token"], 2);
    assert_eq!(cluster.receiver.deliveries_to("/stopped").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_deleted_while_its_run_is_claimed_never_fires_again() {
    let cluster = Cluster::start(QUICK).await;
    let _monitor = cluster.monitor(QUICK).await;
    let _worker = cluster.worker(QUICK).await;
    let mut document = cluster.document("deleted", "cron", "* * * * * *");
    document["task"]["failed_policy"] = json!("retry");
    document["task"]["retry_wait"] = json!(0);
    cluster.receiver.script("/deleted", [Answer::status(500).held(), Answer::ok()]);
    let id = cluster.client.register(&document).await;
    eventually(SOON, "it is being called", || async { cluster.receiver.in_flight("/deleted") == 1 }).await;

    assert_eq!(cluster.client.delete(&format!("/schedules/{id}")).await["count"], 1);
    cluster.receiver.release("/deleted");
    cluster.client.register(&cluster.document("canary", "delay", "3")).await;
    eventually(SOON, "the canary fires", || async { !cluster.receiver.deliveries_to("/canary").is_empty() }).await;
    assert_eq!(cluster.receiver.deliveries_to("/deleted").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_worker_finishes_what_it_holds_and_exits_cleanly() {
    let cluster = Cluster::start(PATIENT).await;
    let _monitor = cluster.monitor(PATIENT).await;
    let worker = cluster.worker(PATIENT).await;
    cluster.receiver.script("/drained", [Answer::ok().held()]);
    let id = cluster.client.register(&cluster.document("drained", "now", "")).await;
    eventually(SOON, "it is being called", || async { cluster.receiver.in_flight("/drained") == 1 }).await;

    worker.process.sigterm();
    worker.process.wait_output("stopping", SOON).await;
    cluster.receiver.release("/drained");
    let status = worker.process.wait_exit(SOON).await;
    assert!(status.success(), "{status}");
    let runs = cluster.client.runs(&id).await;
    assert_eq!(runs[0]["state"], "succeeded", "{runs:?}");
    assert_eq!(cluster.receiver.deliveries_to("/drained").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_a_queue_nobody_serves_delays_no_other() {
    let cluster = Cluster::start(PATIENT).await;
    let _monitor = cluster.monitor(PATIENT).await;
    let worker = cluster.worker(PATIENT).await;
    let mut stuck = cluster.document("stuck", "now", "");
    stuck["queue"] = json!("nobody");
    cluster.client.register(&stuck).await;
    eventually(SOON, "the monitor has given up on it for a while", || async {
        worker.metric("reveille_worker_wakes_total", "reason=\"nudge\"").await >= 4.0
    })
    .await;
    for number in 0..5 {
        let path = format!("/other{number}");
        cluster.client.register(&cluster.document(&path[1..], "now", "")).await;
        eventually(SOON, "the other fires", || async { !cluster.receiver.deliveries_to(&path).is_empty() }).await;
    }
    let due = worker.metric("reveille_worker_wakes_total", "reason=\"due\"").await;
    // A nudge may have come first for one of them; for five, ever more slowly, it cannot.
    assert!(due >= 3.0, "heard of by their own hints, not by nudges: {due}");
    assert!(cluster.receiver.deliveries_to("/stuck").is_empty());
}
