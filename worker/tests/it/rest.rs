//! What a REST target can do wrong, and what becomes of it: a stable word, a sentence without secrets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_shared::store::{AttemptRow, RunRow};
use reveille_testkit::{Answer, free_port};
use reveille_worker::{Settings, TargetPolicy};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::fixture::{Fixture, settings};

async fn failed_run(fixture: &Fixture, task: Value) -> (RunRow, Vec<AttemptRow>) {
    let id = fixture.register_now("/target?token=secret", task).await;
    fixture.run_in(id, RunState::Failed).await
}

async fn check(settings: Settings, answer: Answer, task: Value, code: OutcomeCode, http_status: Option<i32>) {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings);
    fixture.receiver.script("/target", [answer]);
    let (run, attempts) = failed_run(&fixture, task).await;
    assert_eq!((run.outcome, run.http_status), (Some(code), http_status), "{run:?}");
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    let attempt = &attempts[0];
    assert_eq!((attempt.attempt, attempt.worker.as_str(), attempt.outcome), (1, "worker", code));
    assert!(attempt.ended_at >= attempt.started_at);
    for text in [&attempt.detail, run.detail.as_ref().unwrap()] {
        assert!(!text.is_empty() && !text.contains("secret") && !text.contains("://"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_2xx_is_success() {
    for status in [302, 304, 400, 404, 500, 503] {
        let answer = Answer::status(status).body("secret");
        check(settings(), answer, json!({}), OutcomeCode::HttpStatus, Some(i32::from(status))).await;
    }
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    fixture.receiver.script("/target", [Answer::status(202)]);
    let id = fixture.register_now("/target", json!({})).await;
    fixture.run_in(id, RunState::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_a_failure_and_not_followed() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    fixture.receiver.script("/target", [Answer::redirect(&fixture.receiver.url("/elsewhere"))]);
    let (run, _) = failed_run(&fixture, json!({})).await;
    assert_eq!((run.outcome, run.http_status), (Some(OutcomeCode::HttpStatus), Some(307)));
    worker.stop().await;
    assert_eq!(fixture.receiver.deliveries_to("/elsewhere").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_covers_the_whole_answer() {
    let task = json!({"timeout": 0.2});
    check(settings(), Answer::hang(), task.clone(), OutcomeCode::Timeout, None).await;
    check(settings(), Answer::ok().stalled(), task, OutcomeCode::Timeout, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_exchange_is_told_from_a_missing_connection() {
    check(settings(), Answer::close(), json!({}), OutcomeCode::Transport, None).await;
    let nobody = format!("http://127.0.0.1:{}/?token=secret", free_port());
    check(settings(), Answer::ok(), json!({"connection": {"host": nobody}}), OutcomeCode::Connect, None).await;
    let nowhere = json!({"connection": {"host": "http://no-such-host.invalid/?token=secret"}});
    check(settings(), Answer::ok(), nowhere, OutcomeCode::Connect, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_called_is_refused_at_once() {
    for host in
        ["http://169.254.169.254/secret", "http://[::ffff:169.254.169.254]/", "http://0.0.0.0/", "mailto:secret"]
    {
        let task = json!({"connection": {"host": host}, "failed_policy": "retry"});
        check(settings(), Answer::ok(), task, OutcomeCode::Refused, None).await;
    }
    for (kind, host) in [("kafka", "169.254.169.254:9092"), ("redis", "redis://:secret@169.254.169.254")] {
        let task = json!({"type": kind, "connection": {"host": host, "topic": "t"}, "failed_policy": "retry"});
        check(settings(), Answer::ok(), task, OutcomeCode::Refused, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_ranges_hold_for_addresses_and_for_names() {
    let deny = ["127.0.0.0/8", "::1"].map(|range| range.parse().unwrap()).to_vec();
    let closed = Settings { targets: TargetPolicy { deny, allow: Vec::new() }, ..settings() };
    check(closed.clone(), Answer::ok(), json!({}), OutcomeCode::Refused, None).await;
    let by_name = json!({"connection": {"host": "http://localhost:1/secret"}});
    check(closed, Answer::ok(), by_name, OutcomeCode::Refused, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_is_not_read_to_its_end() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    // 64 KiB are there, the rest never comes: reading on would end in the deadline.
    fixture.receiver.script("/long", [Answer::ok().huge_body(70_000).stalled()]);
    let id = fixture.register_now("/long", json!({"timeout": 20.0})).await;
    let deadline = tokio::time::timeout(Duration::from_secs(15), fixture.run_in(id, RunState::Succeeded));
    deadline.await.unwrap();
}

/// Answers every request on a connection and counts the connections.
async fn count_connections(listener: TcpListener, connections: Arc<AtomicUsize>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let mut request = Vec::new();
            while stream.read_buf(&mut request).await.unwrap() > 0 {
                if request.ends_with(b"{}") {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody").await.unwrap();
                    request.clear();
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_after_another_uses_one_connection() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}/", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    tokio::spawn(count_connections(listener, connections.clone()));
    for _ in 0..5 {
        let id = fixture.register_now("/", json!({"connection": {"host": host}})).await;
        fixture.run_in(id, RunState::Succeeded).await;
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_event_is_binary_and_placeholders_are_filled_in() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    let task = json!({
        "connection": {"format": "cloudevents", "headers": {"X-Run": "run {{run.id}} of {{schedule.name}}"}},
        "data": {"at": "{{run.scheduled_at}}", "attempt": "{{ run.attempt }}", "kept": "{{else}}"}
    });
    let mut document = fixture.document("now", "", "/event", task);
    document["name"] = "grüße".into();
    let id = fixture.register(&[document]).await[0];
    let (run, _) = fixture.run_in(id, RunState::Succeeded).await;
    let delivery = fixture.receiver.deliveries_to("/event").remove(0);
    assert_eq!((delivery.header("ce-specversion"), delivery.header("ce-id")), ("1.0", &run.id.to_string()[..]));
    assert_eq!(delivery.header("ce-source"), format!("urn:reveille:schedule:{id}"));
    assert_eq!((delivery.header("ce-type"), delivery.header("ce-attempt")), ("dev.reveille.schedule.due", "1"));
    assert_eq!(
        (delivery.header("ce-subject"), delivery.header("content-type")),
        ("gr%C3%BC%C3%9Fe", "application/json")
    );
    let expected = json!({"at": delivery.header("ce-time"), "attempt": "1", "kept": "{{else}}"});
    assert_eq!(delivery.json(), expected);
    let bytes = delivery.headers.get("x-run").unwrap().as_bytes();
    assert_eq!(bytes, format!("run {} of grüße", run.id).as_bytes());
}
