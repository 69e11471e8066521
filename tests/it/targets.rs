//! Targets that are no HTTP endpoints, met as a user meets them: the binary, a real broker, a real Redis, and readers
//! that are not the product's.

use std::path::Path;

use futures_util::StreamExt;
use reveille_testkit::{Process, Redis, eventually};
use serde_json::{Value, json};

use crate::cluster::{Client, SOON};

fn serve(data: &Path, settings: &[&str]) -> Process {
    let builder = Process::builder(env!("CARGO_BIN_EXE_reveille"));
    builder
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .args([data])
        .args(settings)
        .with_ready_file()
        .start()
}

async fn client(process: &Process) -> Client {
    Client::new(&process.wait_ready(SOON).await.listen.expect("an API listener"))
}

fn document(key: &str, task: Value) -> Value {
    json!({"name": key, "client": {"application": "test", "key": key}, "type": "now", "schedule": "", "task": task})
}

#[cfg(feature = "kafka")]
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_holds_exactly_what_was_registered_also_after_the_broker_was_away() {
    let kafka = reveille_testkit::Kafka::start().await;
    let data = tempfile::tempdir().expect("a folder");
    let connections = data.path().join("connections.toml");
    let text = format!("[orders]\ntype = \"kafka\"\nhost = \"{}\"\n", kafka.bootstrap());
    std::fs::write(&connections, text).expect("write the connections");
    let process = serve(data.path(), &["--connections", connections.to_str().expect("text")]);
    let client = client(&process).await;

    let plain = json!({"type": "kafka", "connection": {"host": kafka.bootstrap(), "topic": "orders"},
                       "data": {"order": 12345678901234567890_u64, "text": "grüße"}});
    let id = client.register(&document("plain", plain)).await;
    let read = || kafka.read("orders", "%k|%h|%s\n");
    eventually(SOON, "kcat reads a record", || async { read().await.len() == 1 }).await;
    let record = read().await.remove(0);
    let (head, value) = record.rsplit_once('|').expect("three parts");
    assert_eq!(value, r#"{"order":12345678901234567890,"text":"grüße"}"#);
    let run = client.get(&format!("/schedules/{id}/runs")).await[0]["id"].as_str().expect("a run").to_owned();
    assert!(head.starts_with(&format!("{run}|")), "{head}");
    assert!(head.contains(&format!("reveille-run-id={run}")), "{head}");

    kafka.kill();
    let retried = json!({"type": "kafka", "connection": {"name": "orders", "topic": "orders", "key": "k"},
                         "data": {"n": 2}, "timeout": 2, "failed_policy": "retry", "retry_wait": 0});
    let id = client.register(&document("retried", retried)).await;
    let retries = || async { client.get(&format!("/schedules/{id}")).await[0]["task"]["retry_count"].as_i64() };
    eventually(SOON, "it is tried again", || async { retries().await > Some(0) }).await;
    kafka.restart().await;
    eventually(SOON, "kcat reads the second record", || async { read().await.len() == 2 }).await;
    assert!(read().await[1].starts_with("k|"), "{:?}", read().await);
    assert!(read().await[1].ends_with(r#"|{"n":2}"#), "{:?}", read().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_subscriber_and_a_stream_receive() {
    let redis = Redis::start().await;
    let data = tempfile::tempdir().expect("a folder");
    let process = serve(data.path(), &[]);
    let client = client(&process).await;
    let server = redis::Client::open(redis.url()).expect("a URL");
    let mut subscriber = server.get_async_pubsub().await.expect("a subscription");
    subscriber.subscribe("news").await.expect("subscribed");
    let task = |topic: &str, mode: &str| json!({"type": "redis", "connection": {"host": redis.url(), "topic": topic, "mode": mode}, "data": {"a": [1, 2.50]}});
    client.register(&document("heard", task("news", "publish"))).await;
    let message =
        tokio::time::timeout(SOON, subscriber.on_message().next()).await.expect("in time").expect("a message");
    assert_eq!(message.get_payload::<String>().expect("text"), r#"{"a":[1,2.5]}"#);

    client.register(&document("kept", task("log", "stream"))).await;
    let mut commands = server.get_multiplexed_async_connection().await.expect("a connection");
    let mut length = redis::cmd("XLEN");
    length.arg("log");
    eventually(SOON, "the stream has an entry", || {
        let (length, mut commands) = (length.clone(), commands.clone());
        async move { length.query_async::<i64>(&mut commands).await.expect("an answer") == 1 }
    })
    .await;
    let entries: redis::Value =
        redis::cmd("XRANGE").arg(&["log", "-", "+"]).query_async(&mut commands).await.expect("entries");
    assert!(format!("{entries:?}").contains(r#"{\"a\":[1,2.5]}"#), "{entries:?}");
}
