//! The traces of the whole, as a collector receives them: what leads to what, what is passed on, and that neither
//! a collector that is away nor a secret in a document changes anything.

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use prost::Message;
use reveille_testkit::{Answer, Process, ProcessBuilder, Receiver, Redis, eventually_some, scratch_dir};
use serde_json::{Value, json};

use crate::cluster::{Client, SOON};

const CANARY: &str = "s3cr3t-canary";
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn serve(collector: &str) -> ProcessBuilder {
    let data = scratch_dir("traces");
    Process::builder(env!("CARGO_BIN_EXE_reveille"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .args([data])
        .env("REVEILLE_OTLP_ENDPOINT", collector)
        .env("REVEILLE_OTLP_HEADERS", format!("x-vendor-key={CANARY}"))
        .with_ready_file()
}

/// A document full of secrets, for `path` of the receiver.
fn document(receiver: &Receiver, path: &str, kind: &str, schedule: &str) -> Value {
    let host = receiver.url(path) + "?token=" + CANARY;
    json!({
        "name": CANARY, "client": {"key": path}, "type": kind, "schedule": schedule,
        "task": {"type": "rest",
                 "connection": {"host": host, "headers": {"Authorization": CANARY, "x-plain": CANARY}},
                 "data": {"secret": CANARY}}
    })
}

async fn register(api: &str, document: &Value, traceparent: Option<&str>) -> String {
    let request = reqwest::Client::new().post(format!("http://{api}/schedules")).json(document);
    let request = traceparent.into_iter().fold(request, |request, value| request.header("traceparent", value));
    let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    assert!(answer["id"].is_string(), "{answer}");
    answer["id"].as_str().expect("an id").to_owned()
}

/// Everything the collector received so far.
fn requests(collector: &Receiver) -> Vec<ExportTraceServiceRequest> {
    let deliveries = collector.deliveries_to("/v1/traces");
    deliveries.iter().map(|sent| ExportTraceServiceRequest::decode(&*sent.body).expect("a trace request")).collect()
}

fn spans(collector: &Receiver) -> Vec<Span> {
    let requests = requests(collector).into_iter();
    let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

async fn span(collector: &Receiver, name: &str, is_it: impl Fn(&Span) -> bool) -> Span {
    eventually_some(SOON, &format!("the collector has the span `{name}`"), || async {
        spans(collector).into_iter().find(|span| span.name == name && is_it(span))
    })
    .await
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    let value = found.and_then(|found| found.value.as_ref()?.value.clone());
    match value {
        Some(Any::StringValue(text)) => text,
        Some(Any::IntValue(number)) => number.to_string(),
        Some(Any::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traceparent(span: &Span) -> String {
    format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
}

fn links(span: &Span) -> Vec<String> {
    span.links.iter().map(|link| format!("00-{}-{}-01", hex(&link.trace_id), hex(&link.span_id))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_traced_from_its_registration_to_its_settlement() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (collector, target) = (Receiver::start().await, Receiver::start().await);
    target.script("/bad", [Answer::status(500)]);
    let process = serve(&collector.url("")).start();
    let api = process.wait_ready(SOON).await.listen.expect("an API");
    let id = register(&api, &document(&target, "/good", "now", ""), Some(CALLER)).await;
    target.wait_for(1, SOON).await;
    register(&api, &document(&target, "/bad", "now", ""), None).await;
    let deliveries = target.wait_for(2, SOON).await;

    let server = span(&collector, "POST /schedules", |span| hex(&span.parent_span_id) == "b7ad6b7169203331").await;
    assert_eq!(hex(&server.trace_id), "0af7651916cd43dd8448eb211c80319c", "the caller's trace goes on");
    assert_eq!(server.kind(), SpanKind::Server);
    assert_eq!(text(&server.attributes, "http.route"), "/schedules");
    assert_eq!(text(&server.attributes, "http.response.status_code"), "200");

    let dispatch = span(&collector, "dispatch", |span| text(&span.attributes, "schedule.id") == id).await;
    assert!(dispatch.parent_span_id.is_empty(), "a trace of its own");
    assert_eq!(dispatch.kind(), SpanKind::Client);
    assert_eq!(deliveries[0].header("traceparent"), traceparent(&dispatch), "the target goes on from the dispatch");
    let run = deliveries[0].header("idempotency-key");
    for (key, value) in [("run.id", run), ("run.attempt", "1"), ("target.kind", "rest"), ("run.outcome", "ok")] {
        assert_eq!(text(&dispatch.attributes, key), value);
    }
    assert_eq!(text(&dispatch.attributes, "http.response.status_code"), "200");

    let claim = span(&collector, "claim", |claim| links(&dispatch).contains(&traceparent(claim))).await;
    assert_eq!(links(&dispatch), [traceparent(&server), traceparent(&claim)]);
    let wake = span(&collector, "wake", |wake| wake.span_id == claim.parent_span_id).await;
    assert_eq!((&wake.trace_id, wake.parent_span_id.is_empty()), (&claim.trace_id, true));
    let settle = span(&collector, "settle", |settle| settle.parent_span_id == dispatch.span_id).await;
    assert_eq!(settle.trace_id, dispatch.trace_id);
    assert!(settle.start_time_unix_nano >= dispatch.end_time_unix_nano, "it follows");

    let failed = span(&collector, "dispatch", |span| text(&span.attributes, "run.outcome") == "http_status").await;
    assert_eq!(failed.status.expect("a status").code(), StatusCode::Error);

    let resource = requests(&collector)[0].resource_spans[0].resource.clone().expect("a resource").attributes;
    assert_eq!(text(&resource, "service.name"), "reveille");
    assert_eq!(text(&resource, "service.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&resource, "reveille.role"), "serve");
    assert!(!text(&resource, "service.instance.id").is_empty());

    process.sigterm();
    assert!(process.wait_exit(SOON).await.success());
    for sent in collector.deliveries() {
        assert_eq!(sent.header("x-vendor-key"), CANARY, "the vendor's header is sent");
        assert!(!String::from_utf8_lossy(&sent.body).contains(CANARY), "a secret in a trace");
    }
    let log = process.stderr();
    assert!(!log.contains(CANARY), "a secret in the log:\n{log}");
    for line in log.lines().filter(|line| line.contains("attempt failed")) {
        assert!(!line.contains("dispatch{"), "spans do not change the log: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_registered_keeps_its_text_although_its_request_is_remembered() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (collector, target) = (Receiver::start().await, Receiver::start().await);
    let process = serve(&collector.url("")).start();
    let api = process.wait_ready(SOON).await.listen.expect("an API");
    let mut document = document(&target, "/whole", "delay-recur", "1");
    document["task"]["connection"]["body"] = json!("schedule");
    let id = register(&api, &document, None).await;
    let client = Client::new(&api);
    let revision = client.get(&format!("/schedules/{id}")).await[0]["revision"].clone();
    assert_eq!(register(&api, &document, Some(CALLER)).await, id);
    let shown = client.get(&format!("/schedules/{id}")).await;
    assert_eq!(shown[0]["revision"], revision, "another request with the same document changes nothing");
    assert!(!shown.to_string().contains("traceparent"), "{shown}");
    let sent = target.wait_for(1, SOON).await[0].json();
    assert_eq!((&sent["id"], &sent["name"]), (&json!(id), &json!(CANARY)));
    assert!(sent.get("traceparent").is_none(), "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_redis_is_told_the_trace_too() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (collector, redis) = (Receiver::start().await, Redis::start().await);
    let process = serve(&collector.url("")).start();
    let api = process.wait_ready(SOON).await.listen.expect("an API");
    let connection = json!({"host": redis.url(), "topic": "runs", "mode": "stream"});
    let task = json!({"type": "redis", "connection": connection});
    register(&api, &json!({"client": {"key": "stream"}, "type": "now", "task": task}), None).await;
    let dispatch = span(&collector, "dispatch", |_| true).await;
    assert_eq!(text(&dispatch.attributes, "target.kind"), "redis");
    let client = redis::Client::open(redis.url()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let mut read = redis::cmd("XRANGE");
    let entries: Vec<(String, HashMap<String, String>)> =
        read.arg("runs").arg("-").arg("+").query_async(&mut connection).await.expect("entries");
    assert_eq!(entries[0].1["traceparent"], traceparent(&dispatch));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_runs_go_on_and_the_process_ends_in_time() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let target = Receiver::start().await;
    let silent = Receiver::start().await;
    silent.script("/v1/traces", [Answer::hang()]);
    for collector in ["http://127.0.0.1:9".to_owned(), silent.url("/")] {
        let process = serve(&collector).start();
        let api = process.wait_ready(SOON).await.listen.expect("an API");
        for number in 0..20 {
            register(&api, &document(&target, &format!("/{number}"), "now", ""), None).await;
        }
        target.wait_for(20, SOON).await;
        process.sigterm();
        assert!(process.wait_exit(Duration::from_secs(20)).await.success());
        target.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_traced_unless_it_is_asked_for() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let target = Receiver::start().await;
    let args = ["serve", "--listen", "127.0.0.1:0", "--data-dir"];
    let process = Process::builder(env!("CARGO_BIN_EXE_reveille"))
        .args(args)
        .args([scratch_dir("untraced")])
        .with_ready_file()
        .start();
    let api = process.wait_ready(SOON).await.listen.expect("an API");
    register(&api, &document(&target, "/", "now", ""), Some(CALLER)).await;
    let delivery = &target.wait_for(1, SOON).await[0];
    assert_eq!(delivery.header("traceparent"), "", "a target must not go on in a trace that nobody continued");
}
