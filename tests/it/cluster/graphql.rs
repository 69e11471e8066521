//! Watching runs through one process that happen in another.

use reveille_testkit::{Subscriber, eventually};
use serde_json::{Value, json};

use super::{Cluster, QUICK, SOON};

const STAGES: &str = "subscription($application: String) { runStages(application: $application) {
    runId scheduleId attempt stage state outcome missed } }";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_registers_and_watches_its_runs_from_claim_to_settle() {
    let cluster = Cluster::start(QUICK).await;
    let _monitor = cluster.monitor(QUICK).await;
    let worker = cluster.worker(QUICK).await;
    let mut subscriber = Subscriber::start(cluster.client.listen(), Value::Null).await;

    // Nobody watches: nothing is sent, and the channel has no subscriber.
    let unseen = cluster.client.register(&cluster.document("unseen", "now", "")).await;
    cluster.client.run_in_state(&unseen, "succeeded").await;
    let redis = redis::Client::open(cluster.redis.url()).expect("a url");
    let subscribers = async || {
        let mut connection = redis.get_multiplexed_async_connection().await.expect("redis");
        let mut command = redis::cmd("PUBSUB");
        command.arg("NUMSUB").arg("{reveille}:stages");
        let (_, count): (String, i64) = command.query_async(&mut connection).await.expect("a count");
        count
    };
    assert_eq!(subscribers().await, 0);

    subscriber.subscribe("stages", STAGES, json!({"application": "test"})).await;
    let register = "mutation($document: JSON) { registerSchedule(document: $document) { id userErrors { code } } }";
    let document = cluster.document("recurring", "delay-recur", "1");
    subscriber.subscribe("register", register, json!({"document": document})).await;
    let registered = subscriber.next_of("register").await["registerSchedule"].clone();
    assert_eq!(registered["userErrors"], json!([]));
    let id = registered["id"].as_str().expect("an id").to_owned();

    // The first runs may pass before the worker heard that somebody watches.
    let mut stages = Vec::new();
    while stages.len() < 6 {
        let stage = subscriber.next_of("stages").await["runStages"].clone();
        assert_eq!(stage["scheduleId"], id, "of the unseen run nothing is told");
        if !stages.is_empty() || stage["stage"] == "CLAIMED" {
            stages.push(stage);
        }
    }
    for told in stages.chunks(3) {
        let run = &told[0]["runId"];
        let check = |index: usize, stage: &str, state: &str, outcome: Value| {
            let expected = json!({"runId": run, "scheduleId": id, "attempt": 1, "stage": stage, "state": state,
                "outcome": outcome, "missed": told[index]["missed"]});
            assert_eq!(told[index], expected);
        };
        check(0, "CLAIMED", "RUNNING", Value::Null);
        check(1, "DISPATCHED", "RUNNING", Value::Null);
        check(2, "SETTLED", "SUCCEEDED", json!("ok"));
        let truth = cluster.client.get(&format!("/runs/{}", run.as_str().expect("an id"))).await;
        assert_eq!(truth["state"], "succeeded");
    }
    assert_eq!(worker.metric("reveille_worker_stages_dropped_total", "").await, 0.0);

    drop(subscriber);
    eventually(SOON, "the channel is left", || async { subscribers().await == 0 }).await;
}
