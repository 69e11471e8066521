//! Redis as a target, on real servers: each way of giving a message, each kind of server, and what goes wrong.

use std::collections::HashMap;
use std::path::PathBuf;

use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{Client, cmd};
use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_testkit::{Redis, eventually, free_port, scratch_dir};
use reveille_worker::{NamedConnection, Settings, TargetPolicy};
use serde_json::{Value, json};

use crate::fixture::{Fixture, LONG, settings};

async fn connection(server: &Redis) -> MultiplexedConnection {
    Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

async fn subscriber(server: &Redis, channel: &str) -> PubSub {
    let mut subscriber = Client::open(server.url()).unwrap().get_async_pubsub().await.unwrap();
    subscriber.subscribe(channel).await.unwrap();
    subscriber
}

async fn next_message(subscriber: &mut PubSub) -> String {
    let message = tokio::time::timeout(LONG, subscriber.on_message().next()).await.unwrap().unwrap();
    message.get_payload().unwrap()
}

/// A task for Redis; `more` adds to its connection.
fn task(host: &str, topic: &str, more: Value) -> Value {
    let mut connection = json!({"host": host, "topic": topic});
    connection.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"type": "redis", "connection": connection, "data": {"n": 1.0, "run": "{{run.id}}"}})
}

/// Registers such a task, and answers its run once it is in this state.
async fn run(
    fixture: &Fixture,
    task: Value,
    state: RunState,
) -> (reveille_shared::store::RunRow, Vec<reveille_shared::store::AttemptRow>) {
    let mut document = fixture.document("now", "", "/", json!({}));
    document["task"] = task;
    document["task"]["retry_wait"] = json!(0);
    let ids = fixture.register(&[document]).await;
    fixture.run_in(ids[0], state).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_receives_what_was_registered() {
    let (fixture, server) = (Fixture::new().await, Redis::start().await);
    let _worker = fixture.worker(settings());
    let mut subscriber = subscriber(&server, "news").await;
    let (told, _) = run(&fixture, task(&server.url(), "news", json!({})), RunState::Succeeded).await;
    assert_eq!(next_message(&mut subscriber).await, format!(r#"{{"n":1.0,"run":"{}"}}"#, told.id));
    assert_eq!(told.detail.as_deref(), Some("published to 1 receiver"));
    let (unheard, _) = run(&fixture, task(&server.url(), "nobody", json!({})), RunState::Succeeded).await;
    assert_eq!(unheard.detail.as_deref(), Some("published, and nobody listened"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_needs_a_receiver_is_repeated_until_there_is_one() {
    let (fixture, server) = (Fixture::new().await, Redis::start().await);
    let worker = fixture.worker(settings());
    let mut needy = task(&server.url(), "later", json!({"require_receiver": true}));
    needy["failed_policy"] = json!("retry");
    let mut document = fixture.document("now", "", "/", json!({}));
    document["task"] = needy;
    document["task"]["retry_wait"] = json!(0);
    let ids = fixture.register(&[document]).await;
    worker.metric_reaches("worker_runs_total", "no_receiver", 2.0).await;
    let mut subscriber = subscriber(&server, "later").await;
    next_message(&mut subscriber).await;
    let (run, attempts) = fixture.run_in(ids[0], RunState::Succeeded).await;
    assert!(run.attempt > 2);
    assert!(attempts.iter().all(|attempt| attempt.outcome == OutcomeCode::NoReceiver), "{attempts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_lists_keep_what_they_are_given() {
    let (fixture, server) = (Fixture::new().await, Redis::start().await);
    let _worker = fixture.worker(settings());
    let mut redis = connection(&server).await;

    let (streamed, _) = run(&fixture, task(&server.url(), "s", json!({"mode": "stream"})), RunState::Succeeded).await;
    let entries: Vec<(String, HashMap<String, String>)> =
        cmd("XRANGE").arg("s").arg("-").arg("+").query_async(&mut redis).await.unwrap();
    let [(_, entry)] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(entry["data"], format!(r#"{{"n":1.0,"run":"{}"}}"#, streamed.id));
    assert_eq!((&entry["run_id"], &entry["attempt"][..]), (&streamed.id.to_string(), "1"));
    assert_eq!((&entry["schedule_id"], &entry["fencing_token"][..]), (&streamed.schedule_id.to_string(), "1"));
    assert!(entry["scheduled_at"].ends_with('Z'), "{entry:?}");

    // Trimmed by whole nodes of 100 entries.
    let _: () = cmd("EVAL")
        .arg("for i = 1, 1000 do redis.call('XADD', 's', '*', 'data', i) end")
        .arg(0)
        .query_async(&mut redis)
        .await
        .unwrap();
    let bounded = task(&server.url(), "s", json!({"mode": "stream", "maxlen": 100}));
    run(&fixture, bounded, RunState::Succeeded).await;
    let length: usize = cmd("XLEN").arg("s").query_async(&mut redis).await.unwrap();
    assert!((100..=200).contains(&length), "{length}");

    for _ in 0..3 {
        run(&fixture, task(&server.url(), "l", json!({"mode": "list", "maxlen": 2})), RunState::Succeeded).await;
    }
    let items: Vec<String> = cmd("LRANGE").arg("l").arg(0).arg(-1).query_async(&mut redis).await.unwrap();
    assert_eq!(items.len(), 2);
    assert!(items.iter().all(|item| item.starts_with(r#"{"n":1.0,"run":"#)), "{items:?}");
    let unbounded = task(&server.url(), "l", json!({"mode": "list"}));
    run(&fixture, unbounded, RunState::Succeeded).await;
    let length: usize = cmd("LLEN").arg("l").query_async(&mut redis).await.unwrap();
    assert_eq!(length, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_event_is_one_json_object() {
    let (fixture, server) = (Fixture::new().await, Redis::start().await);
    let _worker = fixture.worker(settings());
    let mut subscriber = subscriber(&server, "events").await;
    let (run, _) =
        run(&fixture, task(&server.url(), "events", json!({"format": "cloudevents"})), RunState::Succeeded).await;
    let event: Value = serde_json::from_str(&next_message(&mut subscriber).await).unwrap();
    assert_eq!((&event["specversion"], &event["id"]), (&json!("1.0"), &json!(run.id)));
    assert_eq!(event["source"], format!("urn:reveille:schedule:{}", run.schedule_id));
    assert_eq!((&event["type"], &event["subject"]), (&json!("dev.reveille.schedule.due"), &json!("/")));
    assert_eq!((&event["attempt"], &event["datacontenttype"]), (&json!(1), &json!("application/json")));
    assert_eq!(event["data"], json!({"n": 1.0, "run": run.id}));
}

#[tokio::test(flavor = "multi_thread")]
async fn acl_users_are_let_in_as_far_as_the_server_says() {
    let (fixture, server) = (Fixture::new().await, Redis::start().await);
    let mut redis = connection(&server).await;
    let rules = "on >p@ss/word resetchannels &news +publish +client +hello +select";
    let _: () = cmd("ACL")
        .arg("SETUSER")
        .arg("crier")
        .arg(rules.split(' ').collect::<Vec<_>>())
        .query_async(&mut redis)
        .await
        .unwrap();
    let url = |login: &str| format!("redis://{login}@127.0.0.1:{}", server.port());
    let named = NamedConnection {
        username: Some("crier".to_owned()),
        password: Some("p@ss/word".to_owned()),
        ..serde_json::from_value(json!({"type": "redis", "host": server.url()})).unwrap()
    };
    let connections = [("crier".to_owned(), named)].into();
    let _worker = fixture.worker(Settings { connections, ..settings() });

    run(&fixture, task(&url("crier:p%40ss%2Fword"), "news", json!({})), RunState::Succeeded).await;
    let mut by_name = task("", "news", json!({"name": "crier"}));
    by_name["connection"].as_object_mut().unwrap().remove("host");
    run(&fixture, by_name, RunState::Succeeded).await;

    for (login, topic, detail) in [
        ("crier:wrong", "news", "the server did not accept the credentials"),
        ("crier:p%40ss%2Fword", "secret", "the server answered NOPERM"),
    ] {
        let (failed, _) = run(&fixture, task(&url(login), topic, json!({})), RunState::Failed).await;
        assert_eq!((failed.outcome, failed.detail.as_deref()), (Some(OutcomeCode::Rejected), Some(detail)), "{login}");
    }
    let _: () = cmd("SET").arg("text").arg("x").query_async(&mut redis).await.unwrap();
    let (wrong, _) = run(&fixture, task(&server.url(), "text", json!({"mode": "list"})), RunState::Failed).await;
    assert_eq!(wrong.detail.as_deref(), Some("the topic is a key that holds another type of value (WRONGTYPE)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_bridge_a_server_that_is_away() {
    let (fixture, server) = (Fixture::new().await, Redis::start().await);
    let worker = fixture.worker(settings());
    run(&fixture, task(&server.url(), "q", json!({"mode": "list"})), RunState::Succeeded).await;
    server.kill();
    let mut retried = task(&server.url(), "q", json!({"mode": "list"}));
    retried["failed_policy"] = json!("retry");
    let mut document = fixture.document("now", "", "/", json!({}));
    document["task"] = retried;
    document["task"]["retry_wait"] = json!(0);
    let ids = fixture.register(&[document]).await;
    worker.metric_reaches("worker_runs_total", "connect", 2.0).await;
    server.restart().await;
    let (_, attempts) = fixture.run_in(ids[0], RunState::Succeeded).await;
    let expected = [OutcomeCode::Connect, OutcomeCode::Transport];
    assert!(attempts.iter().all(|attempt| expected.contains(&attempt.outcome)), "{attempts:?}");
    assert!(attempts.iter().all(|attempt| !attempt.detail.contains("127.0.0.1")), "{attempts:?}");
    let mut redis = connection(&server).await;
    let length: usize = cmd("LLEN").arg("q").query_async(&mut redis).await.unwrap();
    assert_eq!(length, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_may_not_be_called_are_not_connected_to() {
    let (fixture, server) = (Fixture::new().await, Redis::start().await);
    let deny = vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
    let _worker = fixture.worker(Settings { targets: TargetPolicy { deny, allow: Vec::new() }, ..settings() });
    let mut redis = connection(&server).await;
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let url = format!("redis://{host}:{}", server.port());
        let (refused, _) = run(&fixture, task(&url, "q", json!({"mode": "list"})), RunState::Failed).await;
        assert_eq!(refused.outcome, Some(OutcomeCode::Refused), "{host}: {:?}", refused.detail);
    }
    let length: usize = cmd("LLEN").arg("q").query_async(&mut redis).await.unwrap();
    assert_eq!(length, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_tls_must_be_who_its_certificate_says() {
    let fixture = Fixture::new().await;
    let folder = scratch_dir("redis-tls");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: String| std::fs::write(path(name), text).unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write("cert.pem", own.cert.pem());
    write("key.pem", own.signing_key.serialize_pem());
    write("other.pem", other.cert.pem());
    let tls_port = free_port().to_string();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let tls = ["--tls-port", &tls_port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let server = Redis::start_with(&tls).await;
    let named = |host: &str, ca: &str| NamedConnection {
        ca_file: Some(PathBuf::from(path(ca))),
        ..serde_json::from_value(json!({"type": "redis", "host": format!("rediss://{host}:{tls_port}")})).unwrap()
    };
    let connections = [
        ("right".to_owned(), named("localhost", "cert.pem")),
        ("unknown".to_owned(), named("localhost", "other.pem")),
        ("misnamed".to_owned(), named("127.0.0.1", "cert.pem")),
    ];
    let _worker = fixture.worker(Settings { connections: connections.into(), ..settings() });
    let by_name = |name: &str| json!({"type": "redis", "connection": {"name": name, "topic": "q", "mode": "list"}});
    run(&fixture, by_name("right"), RunState::Succeeded).await;
    for name in ["unknown", "misnamed"] {
        let (failed, _) = run(&fixture, by_name(name), RunState::Failed).await;
        assert_eq!(failed.outcome, Some(OutcomeCode::Connect), "{name}: {:?}", failed.detail);
    }
    let mut redis = connection(&server).await;
    let length: usize = cmd("LLEN").arg("q").query_async(&mut redis).await.unwrap();
    assert_eq!(length, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_is_found_through_its_sentinel_also_after_a_failover() {
    let (fixture, first, second) = (Fixture::new().await, Redis::start().await, Redis::start().await);
    let worker = fixture.worker(settings());
    let config = scratch_dir("sentinel").join("sentinel.conf");
    let text = format!(
        "sentinel monitor master 127.0.0.1 {} 1\nsentinel down-after-milliseconds master 500\nsentinel failover-timeout master 2000\n",
        first.port()
    );
    std::fs::write(&config, text).unwrap();
    let _: () =
        cmd("REPLICAOF").arg("127.0.0.1").arg(first.port()).query_async(&mut connection(&second).await).await.unwrap();
    let sentinel = Redis::start_with(&[config.to_str().unwrap(), "--sentinel"]).await;
    let url = format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/master", sentinel.port());
    run(&fixture, task(&url, "q", json!({"mode": "list"})), RunState::Succeeded).await;
    let length: usize = cmd("LLEN").arg("q").query_async(&mut connection(&first).await).await.unwrap();
    assert_eq!(length, 1);
    eventually(LONG, "the sentinel knows the replica, which has caught up", || async {
        let mut sentinel = connection(&sentinel).await;
        let replicas: Vec<HashMap<String, String>> =
            cmd("SENTINEL").arg("replicas").arg("master").query_async(&mut sentinel).await.unwrap();
        replicas.iter().any(|replica| replica["flags"] == "slave" && replica["master-link-status"] == "ok")
    })
    .await;
    first.kill();
    let mut retried = task(&url, "after", json!({"mode": "list"}));
    retried["failed_policy"] = json!("retry");
    let mut document = fixture.document("now", "", "/", json!({}));
    document["task"] = retried;
    document["task"]["retry_wait"] = json!(1);
    let ids = fixture.register(&[document]).await;
    fixture.run_in(ids[0], RunState::Succeeded).await;
    let length: usize = cmd("LLEN").arg("after").query_async(&mut connection(&second).await).await.unwrap();
    assert_eq!(length, 1, "{}", worker.context.metrics.render());
    let unknown = format!("redis+sentinel://127.0.0.1:{}/nobody", sentinel.port());
    let (failed, _) = run(&fixture, task(&unknown, "q", json!({})), RunState::Failed).await;
    assert_eq!(failed.outcome, Some(OutcomeCode::Connect), "{:?}", failed.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_the_node_of_the_cluster_that_has_its_key() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    let mut nodes = Vec::new();
    for slots in [(0, 8191), (8192, 16383)] {
        let bus_port = free_port().to_string();
        let node = Redis::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus_port]).await;
        let mut redis = connection(&node).await;
        let _: () =
            cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(slots.0).arg(slots.1).query_async(&mut redis).await.unwrap();
        nodes.push((node, bus_port));
    }
    let (other, bus_port) = &nodes[1];
    let mut first = connection(&nodes[0].0).await;
    let _: () = cmd("CLUSTER")
        .arg("MEET")
        .arg("127.0.0.1")
        .arg(other.port())
        .arg(bus_port)
        .query_async(&mut first)
        .await
        .unwrap();
    eventually(LONG, "the cluster is whole", || async {
        let mut whole = true;
        for (node, _) in &nodes {
            let info: String = cmd("CLUSTER").arg("INFO").query_async(&mut connection(node).await).await.unwrap();
            whole &= info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2");
        }
        whole
    })
    .await;
    let url = format!("redis+cluster://127.0.0.1:{}", nodes[0].0.port());
    // Slot 12182 is the second node's, slot 5061 the first's (CLUSTER KEYSLOT).
    for (topic, node) in [("foo", 1), ("bar", 0), ("foo", 1)] {
        run(&fixture, task(&url, topic, json!({"mode": "list"})), RunState::Succeeded).await;
        let length: usize = cmd("LLEN").arg(topic).query_async(&mut connection(&nodes[node].0).await).await.unwrap();
        assert!(length > 0, "{topic}");
    }
    let mut subscriber = subscriber(&nodes[1].0, "news").await;
    run(&fixture, task(&url, "news", json!({})), RunState::Succeeded).await;
    next_message(&mut subscriber).await; // a cluster tells all its nodes
}
