//! Kafka as a target, against librdkafka's mock cluster: what arrives, and what goes wrong. A broker of others is met
//! by the tests of the whole.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_worker::{Settings, TargetPolicy};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{Fixture, LONG, settings};

type Cluster = MockCluster<'static, rdkafka::producer::DefaultProducerContext>;

fn cluster(topic: &str) -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(topic, 1, 1).unwrap();
    cluster
}

/// A task that produces `data` to a topic; `connection` and `more` add to it.
fn task(host: &str, topic: &str, connection: Value, more: Value) -> Value {
    let mut task = json!({
        "type": "kafka", "connection": {"host": host, "topic": topic}, "data": {"n": 1.0, "run": "{{run.id}}"},
        "timeout": 3, "retry_wait": 0,
    });
    task["connection"].as_object_mut().unwrap().extend(connection.as_object().unwrap().clone());
    task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    task
}

async fn register(fixture: &Fixture, task: Value) -> uuid::Uuid {
    let mut document = fixture.document("now", "", "/", json!({}));
    document["task"] = task;
    fixture.register(&[document]).await[0]
}

/// The first records of a topic.
async fn records(host: &str, topic: &str, count: usize) -> Vec<OwnedMessage> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", host).set("group.id", "test").set("auto.offset.reset", "earliest");
    let consumer: StreamConsumer = config.create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let mut records = Vec::new();
    while records.len() < count {
        records.push(tokio::time::timeout(LONG, consumer.recv()).await.unwrap().unwrap().detach());
    }
    records
}

fn text(bytes: Option<&[u8]>) -> &str {
    std::str::from_utf8(bytes.unwrap()).unwrap()
}

fn headers(record: &OwnedMessage) -> BTreeMap<String, String> {
    let headers = record.headers().unwrap().iter();
    headers.map(|header| (header.key.to_owned(), text(header.value).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_holds_what_was_registered_and_names_the_run() {
    let (fixture, cluster) = (Fixture::new().await, cluster("orders"));
    let host = cluster.bootstrap_servers();
    let _worker = fixture.worker(settings());
    let id =
        register(&fixture, task(&host, "orders", json!({"headers": {"X-Origin": "it {{run.attempt}}"}}), json!({})))
            .await;
    let (run, _) = fixture.run_in(id, RunState::Succeeded).await;
    let records = records(&host, "orders", 1).await;
    assert_eq!(text(records[0].payload()), format!(r#"{{"n":1.0,"run":"{}"}}"#, run.id));
    assert_eq!(text(records[0].key()), run.id.to_string());
    let headers = headers(&records[0]);
    assert_eq!((&headers["X-Origin"][..], &headers["content-type"][..]), ("it 1", "application/json"));
    assert_eq!(headers["reveille-run-id"], run.id.to_string());
    assert_eq!(headers["reveille-schedule-id"], id.to_string());
    assert_eq!((&headers["reveille-attempt"][..], &headers["reveille-fencing-token"][..]), ("1", "1"));
    assert!(headers["reveille-nominal-time"].ends_with('Z'));
}

#[tokio::test(flavor = "multi_thread")]
async fn key_and_form_are_the_documents_to_choose() {
    let (fixture, cluster) = (Fixture::new().await, cluster("events"));
    let host = cluster.bootstrap_servers();
    let _worker = fixture.worker(settings());
    let connection = json!({"key": "customer-7/{{run.attempt}}", "format": "cloudevents"});
    let id = register(&fixture, task(&host, "events", connection, json!({}))).await;
    let (run, _) = fixture.run_in(id, RunState::Succeeded).await;
    let records = records(&host, "events", 1).await;
    assert_eq!(text(records[0].key()), "customer-7/1");
    let headers = headers(&records[0]);
    assert_eq!((&headers["ce_specversion"][..], &headers["ce_id"]), ("1.0", &run.id.to_string()));
    assert_eq!(headers["ce_source"], format!("urn:reveille:schedule:{id}"));
    assert_eq!((&headers["ce_type"][..], &headers["ce_subject"][..]), ("dev.reveille.schedule.due", "/"));
    assert_eq!(text(records[0].payload()), format!(r#"{{"n":1.0,"run":"{}"}}"#, run.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_a_failure_in_time_and_retries_bridge_it() {
    let (fixture, cluster) = (Fixture::new().await, cluster("orders"));
    let host = cluster.bootstrap_servers();
    let worker = fixture.worker(settings());
    cluster.broker_down(1).unwrap();
    // Nothing was sent yet: no connection.
    let id = register(&fixture, task(&host, "orders", json!({}), json!({"failed_policy": "retry"}))).await;
    worker.metric_reaches("worker_runs_total", "connect", 1.0).await;
    cluster.broker_up(1).unwrap();
    let (_, attempts) = fixture.run_in(id, RunState::Succeeded).await;
    let failed = |outcome| matches!(outcome, OutcomeCode::Connect | OutcomeCode::Transport | OutcomeCode::Timeout);
    assert!(attempts.iter().all(|attempt| failed(attempt.outcome)), "{attempts:?}");
    assert!(attempts.iter().all(|attempt| !attempt.detail.contains("127.0.0.1")), "{attempts:?}");

    // With a producer at hand: the record waits, and is given up within the task's timeout.
    cluster.broker_down(1).unwrap();
    let id = register(&fixture, task(&host, "orders", json!({}), json!({"failed_policy": "retry"}))).await;
    worker.metric_reaches("worker_runs_total", "transport", 1.0).await;
    cluster.broker_up(1).unwrap();
    let (run, attempts) = fixture.run_in(id, RunState::Succeeded).await;
    assert_eq!(attempts[0].outcome, OutcomeCode::Transport);
    let took = attempts[0].ended_at - attempts[0].started_at;
    assert!(took <= 3000, "its timeout is 3 s, it took {took} ms");
    let records = records(&host, "orders", 2).await;
    assert_eq!(text(records[1].key()), run.id.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_does_not_take_is_no_success() {
    let (fixture, cluster) = (Fixture::new().await, cluster("orders"));
    let host = cluster.bootstrap_servers();
    let _worker = fixture.worker(settings());
    for (error, code, named) in [
        (
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            OutcomeCode::Rejected,
            "TopicAuthorizationFailed",
        ),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, OutcomeCode::Rejected, "MessageSizeTooLarge"),
    ] {
        cluster.request_errors(RDKafkaApiKey::Produce, &[error]);
        let id = register(&fixture, task(&host, "orders", json!({}), json!({}))).await;
        let (run, _) = fixture.run_in(id, RunState::Failed).await;
        assert_eq!(run.outcome, Some(code), "{:?}", run.detail);
        assert!(run.detail.as_deref().unwrap().contains(named), "{:?}", run.detail);
    }
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    cluster.topic_error("absent", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let id = register(&fixture, task(&host, "absent", json!({}), json!({}))).await;
    let (run, _) = fixture.run_in(id, RunState::Failed).await;
    assert_eq!(run.outcome, Some(OutcomeCode::Rejected), "{:?}", run.detail);
    assert!(run.detail.as_deref().unwrap().contains("UnknownTopic"), "{:?}", run.detail);
    let id = register(&fixture, task(&host, "orders", json!({}), json!({}))).await;
    fixture.run_in(id, RunState::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_may_not_be_called_are_not_connected_to() {
    let (fixture, cluster) = (Fixture::new().await, cluster("orders"));
    let host = cluster.bootstrap_servers();
    let port = host.rsplit_once(':').unwrap().1;
    let deny = vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
    let _worker = fixture.worker(Settings { targets: TargetPolicy { deny, allow: Vec::new() }, ..settings() });
    for host in [host.clone(), format!("localhost:{port}"), format!("[::ffff:127.0.0.1]:{port}")] {
        let id = register(&fixture, task(&host, "orders", json!({}), json!({}))).await;
        let (run, _) = fixture.run_in(id, RunState::Failed).await;
        assert_eq!(run.outcome, Some(OutcomeCode::Refused), "{host}: {:?}", run.detail);
    }
}

/// A way to a broker by another address than the one the broker names.
async fn forward(to: String) -> String {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut incoming, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let mut outgoing = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut incoming, &mut outgoing).await
            });
        }
    });
    address.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_the_cluster_names_are_judged_as_well() {
    let (fixture, cluster) = (Fixture::new().await, cluster("orders"));
    let host = forward(cluster.bootstrap_servers()).await;
    let task = || task(&host, "orders", json!({}), json!({}));
    let worker = fixture.worker(settings());
    let id = register(&fixture, task()).await;
    fixture.run_in(id, RunState::Succeeded).await;
    worker.stop().await;
    let targets = TargetPolicy { deny: vec!["127.0.0.1".parse().unwrap()], allow: Vec::new() };
    let _worker = fixture.worker(Settings { targets, ..settings() });
    let id = register(&fixture, task()).await;
    let (run, _) = fixture.run_in(id, RunState::Failed).await;
    assert_eq!(run.outcome, Some(OutcomeCode::Refused), "{:?}", run.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_away_does_not_take_the_others_of_the_list_with_it() {
    let (fixture, cluster) = (Fixture::new().await, cluster("orders"));
    let host = format!("gone.invalid:9092,{}", cluster.bootstrap_servers());
    let _worker = fixture.worker(settings());
    let id = register(&fixture, task(&host, "orders", json!({}), json!({}))).await;
    fixture.run_in(id, RunState::Succeeded).await;
    let id = register(&fixture, task("gone.invalid", "orders", json!({}), json!({}))).await;
    let (run, _) = fixture.run_in(id, RunState::Failed).await;
    assert_eq!(run.outcome, Some(OutcomeCode::Connect), "{:?}", run.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_answer_delays_no_other() {
    let (fixture, cluster) = (Fixture::new().await, cluster("orders"));
    let host = cluster.bootstrap_servers();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap(); // it connects, and nobody speaks
    let worker = fixture.worker(Settings { concurrency: 32, ..settings() });
    let deaf = task(&silent.local_addr().unwrap().to_string(), "orders", json!({}), json!({"timeout": 60}));
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(register(&fixture, deaf.clone()).await);
    }
    worker.metric_reaches("worker_slots_busy", "", 4.0).await;
    let id = register(&fixture, task(&host, "orders", json!({}), json!({}))).await;
    fixture.run_in(id, RunState::Succeeded).await;
    assert_eq!(fixture.runs(waiting[0]).await[0].state, RunState::Running);
    // All who waited for it fail together, not one after the other.
    for id in waiting {
        let (run, _) = fixture.run_in(id, RunState::Failed).await;
        assert_eq!(run.outcome, Some(OutcomeCode::Connect), "{:?}", run.detail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stops_in_time_though_its_producer_waits_for_a_broker() {
    let (fixture, cluster) = (Fixture::new().await, cluster("orders"));
    let host = cluster.bootstrap_servers();
    let worker = fixture.worker(Settings { drain: Duration::from_millis(300), ..settings() });
    let id = register(&fixture, task(&host, "orders", json!({}), json!({}))).await;
    fixture.run_in(id, RunState::Succeeded).await;
    cluster.broker_down(1).unwrap();
    let waiting = register(&fixture, task(&host, "orders", json!({}), json!({"timeout": 60}))).await;
    worker.metric_reaches("worker_slots_busy", "", 1.0).await;
    worker.stop().await;
    let (run, _) = fixture.run_in(waiting, RunState::Pending).await;
    assert_eq!(run.attempt, 0, "it was handed back");
}

/// A broker without TLS, one with a certificate that nobody vouches for, and one that is silent.
#[cfg(feature = "kafka-tls")]
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_fails_is_a_failure_in_time() {
    use std::sync::Arc;

    use rustls::pki_types::PrivateKeyDer;

    let (fixture, cluster) = (Fixture::new().await, cluster("orders"));
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![own.cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let untrusted = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let untrusted_port = untrusted.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((incoming, _)) = untrusted.accept().await {
            assert!(acceptor.accept(incoming).await.is_err(), "the client trusts it");
        }
    });
    let named = |name: &str, host: String| {
        let text = json!({"type": "kafka", "host": host, "tls": true, "sasl_mechanism": "SCRAM-SHA-512",
                          "username": "u", "password": "p"});
        (name.to_owned(), serde_json::from_value(text).unwrap())
    };
    let connections = [
        named("plain", cluster.bootstrap_servers()),
        named("untrusted", format!("localhost:{untrusted_port}")),
        named("silent", silent.local_addr().unwrap().to_string()),
    ];
    let _worker = fixture.worker(Settings { connections: connections.into(), ..settings() });
    for (name, detail) in [("plain", ""), ("untrusted", "SSL"), ("silent", "")] {
        let mut task = task("", "orders", json!({"name": name}), json!({}));
        task["connection"].as_object_mut().unwrap().remove("host");
        let id = register(&fixture, task).await;
        let (run, _) = fixture.run_in(id, RunState::Failed).await;
        assert_eq!(run.outcome, Some(OutcomeCode::Connect), "{name}: {:?}", run.detail);
        assert!(run.detail.as_deref().unwrap().contains(detail), "{name}: {:?}", run.detail);
    }
}
