//! Hostile input: always a clean refusal that says why, never a 5xx, nothing stored, and the API goes on.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value, json};

use crate::support::{Api, document};

/// A document with one place replaced.
fn with(pointer: &str, value: Value) -> String {
    let mut document = document("1", "cron", "@daily");
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[field] = value;
    document.to_string()
}

fn without(pointer: &str) -> String {
    let mut document = document("1", "cron", "@daily");
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
    document.to_string()
}

fn timing(kind: &str, schedule: &str) -> String {
    document("1", kind, schedule).to_string()
}

/// Bodies of `POST /schedules`, the status they get and the field that is named.
fn bodies() -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let deep = "[".repeat(100_000);
    let text = |text: String| text.into_bytes();
    vec![
        ("nothing", text(String::new()), 400, ""),
        ("not JSON", text("hello".into()), 400, ""),
        ("half of it", text(r#"{"name": "x", "client": {"#.into()), 400, ""),
        ("invalid UTF-8", vec![b'{', b'"', 0xff, 0xfe, b'"', b':', b'1', b'}'], 400, ""),
        ("a lone surrogate", text(with("/name", json!("X")).replace("\"X\"", "\"\\ud800\"")), 0, ""),
        ("absurd depth", text(deep.clone()), 400, ""),
        (
            "absurd depth in data",
            text(with("/task/data", json!("X")).replace("\"X\"", &format!("{}{}", "[".repeat(200), "]".repeat(200)))),
            0,
            "",
        ),
        ("an absurd number", text(with("/schedule", json!("X")).replace("\"X\"", "1e400")), 0, ""),
        ("larger than allowed", vec![b' '; 256 * 1024 + 1], 413, ""),
        ("an array", text("[]".into()), 422, ""),
        ("null", text("null".into()), 422, ""),
        ("a string", text("\"x\"".into()), 422, ""),
        ("no client", text(without("/client")), 422, "/client"),
        ("client null", text(with("/client", json!(null))), 422, "/client"),
        ("client a list", text(with("/client", json!([]))), 422, "/client"),
        ("client field a number", text(with("/client/key", json!(1))), 422, "/client/key"),
        ("client field with NUL", text(with("/client/key", json!("a\0b"))), 422, "/client/key"),
        ("client field too long", text(with("/client/group", json!("x".repeat(300)))), 422, "/client/group"),
        ("name a list", text(with("/name", json!(["x"]))), 422, "/name"),
        ("name with NUL", text(with("/name", json!("\0"))), 422, "/name"),
        ("no type", text(without("/type")), 422, "/type"),
        ("unknown type", text(with("/type", json!("sometimes"))), 422, "/type"),
        ("schedule an object", text(with("/schedule", json!({}))), 422, "/schedule"),
        ("no schedule", text(without("/schedule")), 422, "/schedule"),
        ("bad cron", text(timing("cron", "61 * * * *")), 422, "/schedule"),
        ("empty cron field list", text(timing("cron", ", * * * *")), 422, "/schedule"),
        ("a cron of Jenkins", text(timing("cron", "H 0 * * MON")), 422, "/schedule"),
        ("seven cron fields", text(timing("cron", "0 0 0 1 1 * 2030")), 422, "/schedule"),
        ("a cron that never fires", text(timing("cron", "0 0 31 2 *")), 422, "/schedule"),
        ("a huge cron", text(timing("cron", &"1,".repeat(5000))), 422, "/schedule"),
        ("bad date", text(timing("date", "2027-02-30T00:00:00")), 422, "/schedule"),
        ("date beyond", text(timing("date", "9999-12-31T23:59:59")), 422, "/schedule"),
        ("negative delay", text(timing("delay", "-1")), 422, "/schedule"),
        ("overflowing delay", text(timing("delay", "99999999999999999999")), 422, "/schedule"),
        ("fractional delay", text(timing("delay", "1.5")), 422, "/schedule"),
        ("delay-recur of nothing", text(timing("delay-recur", "0")), 422, "/schedule"),
        ("unknown zone", text(with("/timezone", json!("Mars/Olympus"))), 422, "/timezone"),
        ("zone a number", text(with("/timezone", json!(9))), 422, "/timezone"),
        ("no task", text(without("/task")), 422, "/task"),
        ("task a string", text(with("/task", json!("x"))), 422, "/task"),
        ("unknown target", text(with("/task/type", json!("smtp"))), 422, "/task/type"),
        ("no connection", text(without("/task/connection")), 422, "/task/connection"),
        ("no host", text(with("/task/connection", json!({}))), 422, "/task/connection/host"),
        ("host not a URL", text(with("/task/connection/host", json!("localhost"))), 422, "/task/connection/host"),
        ("host a file", text(with("/task/connection/host", json!("file:///etc/passwd"))), 422, "/task/connection/host"),
        (
            "host with a password",
            text(with("/task/connection/host", json!("http://a:b@localhost/"))),
            422,
            "/task/connection/host",
        ),
        ("unknown method", text(with("/task/connection/method", json!("BREW"))), 422, "/task/connection/method"),
        (
            "header injection",
            text(with("/task/connection/headers", json!({"X-A": "a\r\nX-B: b"}))),
            422,
            "/task/connection/headers/X-A",
        ),
        (
            "header name injection",
            text(with("/task/connection/headers", json!({"X A:": "a"}))),
            422,
            "/task/connection/headers/X A:",
        ),
        (
            "host header",
            text(with("/task/connection/headers", json!({"Host": "evil"}))),
            422,
            "/task/connection/headers/Host",
        ),
        (
            "our own header",
            text(with("/task/connection/headers", json!({"Idempotency-Key": "x"}))),
            422,
            "/task/connection/headers/Idempotency-Key",
        ),
        ("headers a list", text(with("/task/connection/headers", json!([]))), 422, "/task/connection/headers"),
        (
            "a huge header",
            text(with("/task/connection/headers", json!({"X": "y".repeat(5000)}))),
            422,
            "/task/connection/headers/X",
        ),
        ("negative retry wait", text(with("/task/retry_wait", json!(-1))), 422, "/task/retry_wait"),
        ("fractional retry wait", text(with("/task/retry_wait", json!(0.5))), 422, "/task/retry_wait"),
        ("retry wait a string", text(with("/task/retry_wait", json!("60"))), 422, "/task/retry_wait"),
        ("retry count below -1", text(with("/task/max_retry_count", json!(-2))), 422, "/task/max_retry_count"),
        (
            "retry count overflow",
            text(with("/task/max_retry_count", json!(9_223_372_036_854_775_808_u64))),
            422,
            "/task/max_retry_count",
        ),
        ("timeout of nothing", text(with("/task/timeout", json!(0))), 422, "/task/timeout"),
        ("timeout beyond", text(with("/task/timeout", json!(901))), 422, "/task/timeout"),
        ("unknown policy", text(with("/task/failed_policy", json!("hope"))), 422, "/task/failed_policy"),
        ("jitter beyond", text(with("/task/retry", json!({"jitter": 2}))), 422, "/task/retry/jitter"),
        ("priority beyond", text(with("/priority", json!(1000))), 422, "/priority"),
        ("bad queue", text(with("/queue", json!("a b"))), 422, "/queue"),
    ]
}

fn check_refusal(what: &str, status: StatusCode, answer: &crate::support::Answer) {
    assert!(status.is_client_error(), "{what}: {status} {}", answer.json);
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{what}");
    assert_eq!(answer.json["status"], status.as_u16(), "{what}");
    assert_eq!(
        answer.json["type"].as_str().unwrap().strip_prefix("urn:reveille:problem:"),
        answer.json["code"].as_str()
    );
    assert!(answer.json["code"].is_string() && answer.json["detail"].is_string(), "{what}: {}", answer.json);
}

#[tokio::test]
async fn hostile_bodies_are_refused_by_name_and_store_nothing() {
    let api = Api::start().await;
    let bodies = bodies();
    assert!(bodies.len() >= 40);
    for (what, body, status, pointer) in bodies {
        let answer = api.call(Method::POST, "/schedules", body).await;
        check_refusal(what, answer.status, &answer);
        if status != 0 {
            assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.json);
        }
        if !pointer.is_empty() {
            let named = answer.json["errors"].as_array().unwrap().iter().any(|error| error["pointer"] == pointer);
            assert!(named, "{what}: {pointer} is not named in {}", answer.json);
        }
        assert_eq!(api.get("/schedules?state=all").await.status, StatusCode::NOT_FOUND, "{what} stored something");
    }
    api.register(&document("1", "cron", "@daily")).await;
}

#[tokio::test]
async fn hostile_addresses_are_refused() {
    let api = Api::start().await;
    let id = api.register(&document("1", "cron", "@daily")).await;
    let calls = [
        (Method::GET, "/schedules/not-a-uuid".to_owned(), 404),
        (Method::GET, "/schedules/%00".to_owned(), 404),
        (Method::GET, "/schedules/%ff%fe".to_owned(), 0),
        (Method::DELETE, "/schedules/'; DROP TABLE runs; --".replace(' ', "%20"), 404),
        (Method::POST, "/schedules/not-a-uuid/update".to_owned(), 404),
        (Method::GET, "/runs/not-a-uuid".to_owned(), 404),
        (Method::GET, format!("/runs/{id}"), 404),
        (Method::GET, format!("/schedules/{}/runs", uuid::Uuid::now_v7()), 404),
        (Method::GET, "/schedules?key=%00".to_owned(), 400),
        (Method::DELETE, "/schedules?key=%00".to_owned(), 400),
        (Method::GET, "/schedules?key=%ff".to_owned(), 400),
        (Method::DELETE, "/schedules?key=%ff".to_owned(), 400),
        (Method::GET, "/schedules?key=%ef%bf%bd".to_owned(), 404), // the replacement character itself
        (Method::DELETE, "/schedules?key=1&key=2".to_owned(), 400),
        (Method::GET, "/schedules?limit=1&limit=2".to_owned(), 400),
        (Method::GET, "/schedules?limit=0".to_owned(), 400),
        (Method::GET, "/schedules?limit=201".to_owned(), 400),
        (Method::GET, "/schedules?limit=-1".to_owned(), 400),
        (Method::GET, "/schedules?limit=x".to_owned(), 400),
        (Method::GET, "/schedules?cursor=x".to_owned(), 400),
        (Method::GET, "/schedules?state=asleep".to_owned(), 400),
        (Method::GET, format!("/schedules/{id}/runs?cursor=1"), 400),
        (Method::GET, format!("/schedules/{id}/runs?cursor=x_y"), 400),
        (Method::GET, format!("/schedules/{id}/runs?cursor=99999999999999999999_0"), 400),
        (Method::GET, "/".to_owned(), 404),
        (Method::GET, "/schedules/".to_owned(), 404),
        (Method::GET, "/../../etc/passwd".to_owned(), 404),
        (Method::PUT, "/schedules".to_owned(), 405),
        (Method::PATCH, format!("/schedules/{id}"), 405),
        (Method::DELETE, "/wake".to_owned(), 405),
        (Method::from_bytes(b"BREW").unwrap(), "/schedules".to_owned(), 405),
    ];
    for (method, path, status) in calls {
        let what = format!("{method} {path}");
        let answer = api.call(method, &path, Body::empty()).await;
        check_refusal(&what, answer.status, &answer);
        if status != 0 {
            assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.json);
        }
        assert_eq!(answer.headers.contains_key("allow"), status == 405, "{what}");
    }
    assert_eq!(api.shown(&id).await["state"], "active");
}

#[tokio::test]
async fn an_announced_size_is_believed_before_anything_is_read() {
    let api = Api::start().await;
    let request = Request::post("/schedules").header("Content-Length", "99999999999").body(Body::empty()).unwrap();
    assert_eq!(api.send(request).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z_]{1,8}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

/// Every place of the document that a caller may fill.
const PLACES: [&str; 22] = [
    "/name",
    "/client",
    "/client/key",
    "/client/type",
    "/type",
    "/schedule",
    "/timezone",
    "/priority",
    "/queue",
    "/task",
    "/task/type",
    "/task/connection",
    "/task/connection/host",
    "/task/connection/headers",
    "/task/connection/method",
    "/task/connection/body",
    "/task/data",
    "/task/retry_wait",
    "/task/max_retry_count",
    "/task/retry",
    "/task/timeout",
    "/task/failed_policy",
];

#[tokio::test]
async fn whatever_stands_in_any_place_never_breaks_the_api() {
    let api = Api::start().await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for round in 0..600 {
        let value = arbitrary_json().new_tree(&mut runner).unwrap().current();
        let place = PLACES[round % PLACES.len()];
        let answer = api.call(Method::POST, "/schedules", with(place, value.clone())).await;
        assert!(answer.status.as_u16() < 500, "{place} = {value}: {} {}", answer.status, answer.json);
        let answer = api.post("/schedules/preview", &value).await;
        assert!(answer.status.as_u16() < 500, "preview {value}: {}", answer.status);
    }
}
