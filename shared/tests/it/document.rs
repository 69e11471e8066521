//! The registration document: what it accepts, how it refuses, what it keeps, and when two are the same.

use proptest::prelude::*;
use reveille_shared::model::document::{
    Defaults, DocumentError, FieldError, Parsed, fingerprint, is_secret_header, parse, parse_preview,
};
use reveille_shared::model::schedule::Definition;
use reveille_shared::model::task::{Backoff, BodyMode, Delivery, FailedPolicy, TaskKind};
use reveille_shared::model::timing::TimingKind;
use serde_json::{Map, Value, json};

/// The document of the wire contract.
const CONTRACT: &str = r#"{
  "name": "bbb",
  "client": {"operation": "op#1", "application": "chef", "group": "system", "key": "12345678", "type": "scheduler"},
  "type": "cron",
  "schedule": "30 * * * * *",
  "timezone": "Asia/Seoul",
  "task": {
    "type": "rest",
    "connection": {"host": "http://localhost:3000/api/run/DELAY-TEST-9",
                   "headers": {"Content-Type": "application/json", "Authorization": "Bearer ..."}},
    "data": {"instanceName": "delay-test-999", "variables": {}},
    "history_check": false,
    "failed_policy": "retry",
    "retry_wait": 60
  }
}"#;
const ABSENT: &str = "";

fn defaults() -> Defaults {
    Defaults { timezone: "Europe/Berlin".to_owned(), targets: vec![TaskKind::Rest, TaskKind::Kafka, TaskKind::Redis] }
}

fn read(document: &str) -> Result<Parsed, DocumentError> {
    parse(document.as_bytes(), &defaults(), false)
}

fn accepted(document: &str) -> Definition {
    read(document).unwrap().definition
}

/// Pointer and code of everything that is wrong.
fn findings(error: DocumentError) -> Vec<(String, &'static str)> {
    match error {
        DocumentError::Syntax { detail } => vec![(detail, "syntax")],
        DocumentError::Fields(errors) => errors
            .into_iter()
            .map(|FieldError { pointer, code, detail }| {
                assert!(!detail.is_empty(), "{pointer} {code} says nothing");
                (pointer, code)
            })
            .collect(),
    }
}

fn refused(document: &str) -> Vec<(String, &'static str)> {
    findings(read(document).unwrap_err())
}

/// The contract's document with members set to JSON texts, or taken out.
fn with(patches: &[(&str, &str)]) -> String {
    let mut document: Value = serde_json::from_str(CONTRACT).unwrap();
    for (pointer, value) in patches {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let members = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if *value == ABSENT {
            members.remove(name);
        } else {
            members.insert(name.to_owned(), serde_json::from_str(value).unwrap());
        }
    }
    document.to_string()
}

fn quoted(length: usize) -> String {
    format!("\"{}\"", "x".repeat(length))
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[test]
fn the_contract_document_is_read_whole() {
    let Parsed { definition, timing, warnings } = read(CONTRACT).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(definition.name, "bbb");
    assert_eq!(definition.client.operation, "op#1");
    assert_eq!(definition.client.application, "chef");
    assert_eq!(definition.client.group, "system");
    assert_eq!(definition.client.key, "12345678");
    assert_eq!(definition.client.kind, "scheduler");
    assert_eq!(
        (definition.kind, &*definition.schedule, &*definition.timezone),
        (TimingKind::Cron, "30 * * * * *", "Asia/Seoul")
    );
    assert_eq!(timing.next_after(0), Some(30_000));
    let task = definition.task;
    assert_eq!(task.kind, TaskKind::Rest);
    assert_eq!(task.connection.host, "http://localhost:3000/api/run/DELAY-TEST-9");
    assert_eq!(task.connection.headers["Authorization"], "Bearer ...");
    assert_eq!(task.connection.headers.len(), 2);
    assert_eq!(task.data.text(), r#"{"instanceName": "delay-test-999", "variables": {}}"#);
    assert_eq!((task.failed_policy, task.retry_wait, task.max_retry_count), (FailedPolicy::Retry, 60, None));
}

#[test]
fn what_is_left_out_has_its_default() {
    let minimal = r#"{"client":{},"type":"now","task":{"type":"rest","connection":{"host":"http://h"}}}"#;
    let definition = accepted(minimal);
    let expected = json!({
        "name": "",
        "client": {"operation": "", "application": "", "group": "", "key": "", "type": ""},
        "type": "now", "schedule": "", "timezone": "Europe/Berlin",
        "task": {"type": "rest", "connection": {"host": "http://h"}, "data": {}, "history_check": false,
                 "failed_policy": "ignore", "retry_wait": 60},
    });
    assert_eq!(serde_json::to_value(&definition).unwrap(), expected);
    assert_eq!((definition.priority, &*definition.queue), (0, "default"));
}

#[test]
fn lenient_where_the_reference_is() {
    /// A document with one member changed means the same as with another.
    fn check(patch: &[(&str, &str)], plain: &[(&str, &str)]) {
        assert_eq!(accepted(&with(patch)), accepted(&with(plain)), "{patch:?}");
    }

    for nothing in [ABSENT, "null", r#""""#] {
        check(&[("/timezone", nothing)], &[("/timezone", r#""Europe/Berlin""#)]);
        check(&[("/name", nothing)], &[("/name", r#""""#)]);
        check(&[("/client/group", nothing)], &[("/client/group", r#""""#)]);
    }
    for nothing in [ABSENT, "null"] {
        check(&[("/task/data", nothing)], &[("/task/data", "{}")]);
        check(&[("/task/retry_wait", nothing)], &[("/task/retry_wait", "60")]);
        check(&[("/task/failed_policy", nothing)], &[("/task/failed_policy", r#""ignore""#)]);
        check(&[("/task/history_check", nothing)], &[("/task/history_check", "false")]);
        check(&[("/task/max_retry_count", nothing)], &[]);
        check(&[("/task/connection/headers", nothing)], &[("/task/connection/headers", "{}")]);
        check(&[("/type", r#""now""#), ("/schedule", nothing)], &[("/type", r#""now""#), ("/schedule", r#""""#)]);
    }
    let delay = ("/type", r#""delay""#);
    for number in ["50", "50.0", "5e1"] {
        check(&[delay, ("/schedule", number)], &[delay, ("/schedule", r#""50""#)]);
    }
    check(&[("/task/retry_wait", "60.0")], &[]);
    check(&[("/task/retry_wait", ABSENT), ("/task/retry_period", "7")], &[("/task/retry_wait", "7")]);
    check(&[("/task/retry_wait", "null"), ("/task/retry_period", "7")], &[("/task/retry_wait", "7")]);
    check(&[("/task/retry_wait", "8"), ("/task/retry_period", "7")], &[("/task/retry_wait", "8")]);
    check(&[("/task/connection/headers/n", "1.50")], &[("/task/connection/headers/n", r#""1.5""#)]);
    check(&[("/task/connection/headers/n", "true")], &[("/task/connection/headers/n", r#""true""#)]);
    check(&[("/task/connection/method", r#""put""#)], &[("/task/connection/method", r#""PUT""#)]);
}

#[test]
fn everything_optional_is_kept() {
    let definition = accepted(&with(&[
        ("/priority", "-100"),
        ("/queue", r#""mail.bulk-1_a""#),
        ("/task/connection/method", r#""Get""#),
        ("/task/connection/body", r#""schedule""#),
        ("/task/max_retry_count", "-1"),
        ("/task/retry", r#"{"backoff":"exponential","factor":1.5,"max_wait":600,"jitter":0.25}"#),
        ("/task/timeout", "0.5"),
        ("/task/delivery", r#""at_most_once""#),
        ("/task/history_check", "true"),
        ("/task/failed_policy", r#""retry_dlq""#),
    ]));
    assert_eq!((definition.priority, &*definition.queue), (-100, "mail.bulk-1_a"));
    let task = definition.task;
    assert_eq!(task.connection.method.as_deref(), Some("GET"));
    assert_eq!(task.connection.body, Some(BodyMode::Schedule));
    assert_eq!((task.max_retry_count, task.timeout, task.history_check), (Some(-1), Some(0.5), true));
    assert_eq!((task.delivery, task.failed_policy), (Delivery::AtMostOnce, FailedPolicy::RetryDlq));
    let retry = task.retry.unwrap();
    assert_eq!(
        (retry.backoff, retry.factor, retry.max_wait, retry.jitter),
        (Backoff::Exponential, 1.5, Some(600), 0.25)
    );
    let shaped = accepted(&with(&[("/task/retry", "{}")])).task.retry.unwrap();
    assert_eq!((shaped.backoff, shaped.factor, shaped.max_wait, shaped.jitter), (Backoff::Fixed, 2.0, None, 0.0));
}

#[test]
fn refusals_of_the_schedule() {
    fn check(pointer: &str, value: &str, code: &str) {
        assert_eq!(refused(&with(&[(pointer, value)])), [(pointer.to_owned(), code)], "{value}");
    }

    for (pointer, longest) in [("/name", 1024), ("/client/key", 255)] {
        accepted(&with(&[(pointer, &quoted(longest))]));
        check(pointer, &quoted(longest + 1), "length");
        check(pointer, r#""a\u0000b""#, "format");
    }
    for value in ["5", "true", "[]", "{}"] {
        check("/name", value, "type");
        check("/client/key", value, "type");
        check("/timezone", value, "type");
        check("/queue", value, "type");
    }
    for (value, code) in [(ABSENT, "required"), ("null", "required"), (r#""x""#, "type"), ("[]", "type")] {
        check("/client", value, code);
        check("/task", value, code);
        check("/task/connection", value, code);
    }
    check("/type", ABSENT, "required");
    check("/type", r#""weekly""#, "format");
    check("/type", "1", "type");
    check("/schedule", ABSENT, "required");
    check("/schedule", "null", "required");
    check("/schedule", r#""""#, "invalid_schedule");
    check("/schedule", r#""99 * * * *""#, "invalid_schedule");
    check("/schedule", r#""0 0 30 2 *""#, "never_fires");
    check("/schedule", r#""* * * * *\u0000""#, "format");
    check("/schedule", &quoted(1025), "length");
    check("/schedule", "1.5", "type");
    check("/schedule", "99999999999999999999", "range");
    check("/schedule", "true", "type");
    check("/timezone", r#""Mars/Olympus""#, "invalid_timezone");
    check("/timezone", r#""UTC\u0000""#, "format");
    for (value, code) in [("101", "range"), ("-101", "range"), ("1.5", "type"), (r#""5""#, "type"), ("1e300", "range")]
    {
        check("/priority", value, code);
    }
    check("/queue", r#""""#, "format");
    check("/queue", r#""a b""#, "format");
    check("/queue", &quoted(65), "length");
}

#[test]
fn refusals_of_the_task() {
    fn check(name: &str, value: &str, code: &str) {
        let pointer = format!("/task/{name}");
        assert_eq!(refused(&with(&[(&pointer, value)])), [(pointer, code)], "{value}");
    }
    fn bounds(name: &str, inside: &[&str], outside: &[&str]) {
        for value in inside {
            accepted(&with(&[(&format!("/task/{name}"), value)]));
        }
        for value in outside {
            check(name, value, "range");
        }
        for value in [r#""5""#, "true", "[]"] {
            check(name, value, "type");
        }
    }

    check("type", ABSENT, "required");
    check("type", r#""smtp""#, "format");
    check("failed_policy", r#""Retry""#, "format");
    check("failed_policy", "1", "type");
    check("delivery", r#""exactly_once""#, "format");
    check("history_check", r#""true""#, "type");
    check("history_check", "0", "type");
    check("retry", "5", "type");
    bounds("retry_wait", &["0", "31536000"], &["-1", "31536001", "18446744073709551615", "99999999999999999999"]);
    check("retry_wait", "60.5", "type");
    check("retry_period", "-1", "range");
    bounds("max_retry_count", &["-1", "0", "1000000"], &["-2", "1000001"]);
    bounds("timeout", &["0.001", "900", "900.0"], &["0", "-1", "900.5", "1e300"]);

    for (shape, name, code) in [
        (r#"{"backoff":"linear"}"#, "backoff", "format"),
        (r#"{"factor":0.9}"#, "factor", "range"),
        (r#"{"factor":10.1}"#, "factor", "range"),
        (r#"{"factor":"2"}"#, "factor", "type"),
        (r#"{"jitter":1.1}"#, "jitter", "range"),
        (r#"{"jitter":-0.1}"#, "jitter", "range"),
        (r#"{"max_wait":0}"#, "max_wait", "range"),
        (r#"{"max_wait":31536001}"#, "max_wait", "range"),
    ] {
        assert_eq!(refused(&with(&[("/task/retry", shape)])), [(format!("/task/retry/{name}"), code)], "{shape}");
    }

    accepted(&with(&[("/task/data", &nested(32))]));
    check("data", &nested(33), "depth");
    accepted(&with(&[("/task/data", &format!("{:?}", nested(99)))]));
}

#[test]
fn refusals_of_the_connection() {
    fn host(kind: &str, host: &str) -> String {
        let kind = format!("{kind:?}");
        with(&[
            ("/task/type", &kind),
            ("/task/connection/topic", r#""t""#),
            ("/task/connection/host", &json!(host).to_string()),
        ])
    }

    let good = [
        ("rest", &["http://h", "https://h:8443/p?q=1", "HTTP://[::1]:80/", "http://10.0.0.1/a%20b"][..]),
        ("kafka", &["broker", "broker:9092", "a:1,b:65535, c.d-e:3", "[::1]:9092", "10.0.0.1:9092"][..]),
        ("redis", &["redis://h", "rediss://user:pw@h:6379/1"][..]),
    ];
    let bad = [
        (
            "rest",
            &["", "h", "ftp://h/", "http://", "http://u@h/", "http://u:p@h/", "http://h/a b", " http://h", "/p"][..],
        ),
        ("kafka", &["", ",", "a,", ":9092", "a:0", "a:65536", "a:b", "a:", "http://a:1", "a b:1", "a\0:1"][..]),
        ("redis", &["", "h:6379", "http://h", "redis://", "redis://h\u{0}"][..]),
    ];
    for (kind, texts) in good {
        for text in texts {
            assert_eq!(accepted(&host(kind, text)).task.connection.host, **text);
        }
    }
    for (kind, texts) in bad {
        for text in texts {
            assert_eq!(refused(&host(kind, text)), [("/task/connection/host".to_owned(), "format")], "{kind} {text:?}");
        }
    }
    let long = format!("http://h/{}", "x".repeat(2048));
    assert_eq!(refused(&host("rest", &long)), [("/task/connection/host".to_owned(), "length")]);

    for kind in [r#""kafka""#, r#""redis""#] {
        let target = if kind == r#""kafka""# { r#""b:1""# } else { r#""redis://h""# };
        for (topic, code) in
            [(ABSENT, "required"), ("null", "required"), (r#""""#, "length"), (&quoted(250), "length"), ("1", "type")]
        {
            let document =
                with(&[("/task/type", kind), ("/task/connection/host", target), ("/task/connection/topic", topic)]);
            assert_eq!(refused(&document), [("/task/connection/topic".to_owned(), code)], "{topic}");
        }
    }
    for (name, value, code) in [
        ("host", ABSENT, "required"),
        ("host", "5", "type"),
        ("method", r#""FETCH""#, "format"),
        ("method", "1", "type"),
        ("body", r#""all""#, "format"),
        ("headers", "[]", "type"),
    ] {
        let pointer = format!("/task/connection/{name}");
        assert_eq!(refused(&with(&[(&pointer, value)])), [(pointer, code)], "{value}");
    }
}

#[test]
fn refusals_of_headers() {
    fn check(headers: Value, expected: &[(&str, &str)]) {
        let document = with(&[("/task/connection/headers", &headers.to_string())]);
        let expected: Vec<_> =
            expected.iter().map(|(name, code)| (format!("/task/connection/headers{name}"), *code)).collect();
        assert_eq!(refused(&document), expected, "{headers}");
    }

    let forbidden = "Host Content-Length transfer-encoding connection keep-alive TE trailer upgrade proxy-connection \
                     Idempotency-Key webhook-id webhook-timestamp webhook-signature X-Reveille-Run";
    for name in forbidden.split_whitespace() {
        check(json!({name: "x"}), &[(&format!("/{name}"), "forbidden_header")]);
    }
    check(json!({"": "x"}), &[("/", "format")]);
    check(json!({"a b": "x"}), &[("/a b", "format")]);
    check(json!({"a/b~c": "x"}), &[("/a~1b~0c", "format")]);
    check(json!({"é": "x"}), &[("/é", "format")]);
    check(json!({"A": "1", "a": "2"}), &[("/a", "duplicate")]);
    for value in ["a\r\nb: c", "a\nb", "a\u{7f}", "\u{1}"] {
        check(json!({"a": value}), &[("/a", "format")]);
    }
    check(json!({"a": "\0"}), &[("/a", "format")]);
    check(json!({"a": "x".repeat(4097)}), &[("/a", "length")]);
    check(json!({"a": ["x"], "b": {}, "c": null}), &[("/a", "type"), ("/b", "type"), ("/c", "required")]);

    let many =
        |count: usize| -> Value { (0..count).map(|n| (format!("h{n}"), json!("x"))).collect::<Map<_, _>>().into() };
    accepted(&with(&[("/task/connection/headers", &many(32).to_string())]));
    check(many(33), &[("", "length")]);
    let obs_text = json!({"x": format!("\té{}", "x".repeat(4000))}).to_string();
    accepted(&with(&[("/task/connection/headers", &obs_text)]));

    for (name, secret) in
        [("Authorization", true), ("COOKIE", true), ("x-api-key", true), ("Proxy-Authorization", true)]
            .into_iter()
            .chain([("content-type", false), ("x-authorization", false), ("", false)])
    {
        assert_eq!(is_secret_header(name), secret, "{name}");
    }
}

#[test]
fn all_refusals_at_once() {
    let document = with(&[
        ("/name", "1"),
        ("/client/key", "1"),
        ("/schedule", r#""x""#),
        ("/timezone", r#""Mars""#),
        ("/priority", "1000"),
        ("/task/connection/host", r#""x""#),
        ("/task/connection/headers/Host", r#""x""#),
        ("/task/data", &nested(40)),
        ("/task/retry_wait", "-5"),
    ]);
    let pointers: Vec<_> = refused(&document).into_iter().map(|(pointer, _)| pointer).collect();
    let expected = [
        "/name",
        "/client/key",
        "/timezone",
        "/schedule",
        "/priority",
        "/task/connection/host",
        "/task/connection/headers/Host",
        "/task/data",
        "/task/retry_wait",
    ];
    assert_eq!(pointers, expected);
    let pointers: Vec<_> = refused("{}").into_iter().map(|(pointer, code)| format!("{pointer} {code}")).collect();
    assert_eq!(pointers, ["/client required", "/type required", "/task required"]);
}

#[test]
fn documents_that_are_not_documents() {
    for body in [&b""[..], b" ", b"{", b"{\"a\":1,}", b"{} {}", b"nul", b"\xff", b"{\"a\":\"\xc3\"}", b"\xef\xbb\xbf{}"]
    {
        let error = parse(body, &defaults(), false).err();
        assert!(matches!(error, Some(DocumentError::Syntax { .. })), "{body:?}: {error:?}");
    }
    for document in ["[]", "null", "1", "\"x\"", "true"] {
        assert_eq!(refused(document), [(String::new(), "type")], "{document}");
    }
    assert_eq!(refused(r#"{"\ud800":1}"#), [(String::new(), "format")]);
    let half = CONTRACT.replace("bbb", "\\ud800").replace("delay-test-999", "\\udc00");
    assert_eq!(refused(&half), [("/name".to_owned(), "format"), ("/task/data".to_owned(), "format")]);
    let huge = CONTRACT.replace("\"retry_wait\": 60", "\"retry_wait\": 1e400").replace("\"delay-test-999\"", "1e400");
    assert_eq!(refused(&huge), [("/task/data".to_owned(), "format"), ("/task/retry_wait".to_owned(), "range")]);
    let bottomless = CONTRACT.replace("\"delay-test-999\"", &nested(100_000));
    assert_eq!(refused(&bottomless), [("/task/data".to_owned(), "depth")]);
}

#[test]
fn a_target_this_server_cannot_call_is_refused() {
    let only_kafka = Defaults { targets: vec![TaskKind::Kafka], ..defaults() };
    let error = parse(CONTRACT.as_bytes(), &only_kafka, false).err().unwrap();
    assert_eq!(findings(error), [("/task/type".to_owned(), "target_unavailable")]);
}

#[test]
fn unknown_fields_are_left_out_and_named() {
    let document = with(&[
        ("/colour", "1"),
        ("/client/shoe~size", "1"),
        ("/task/foo", "null"),
        ("/task/connection/port", "1"),
        ("/task/retry", r#"{"bar/baz":1}"#),
    ]);
    let parsed = read(&document).unwrap();
    let pointers = ["/client/shoe~0size", "/task/connection/port", "/task/retry/bar~1baz", "/task/foo", "/colour"];
    let sentences = pointers.map(|pointer| format!("`{pointer}` is not a known field and was left out"));
    assert_eq!(parsed.warnings, sentences);
    assert_eq!(parsed.definition, accepted(&with(&[("/task/retry", "{}")])));

    let strict = findings(parse(document.as_bytes(), &defaults(), true).err().unwrap());
    assert_eq!(strict, pointers.map(|pointer| (pointer.to_owned(), "unknown_field")));
    assert!(parse(CONTRACT.as_bytes(), &defaults(), true).is_ok());
}

#[test]
fn a_returned_document_can_be_sent_back() {
    let registered = accepted(CONTRACT);
    let mut returned = serde_json::to_value(&registered).unwrap();
    let managed =
        json!({"id": "0198", "state": "active", "revision": 3, "created_at": 1, "updated_at": 2, "warnings": ["x"]});
    returned.as_object_mut().unwrap().extend(managed.as_object().unwrap().clone());
    let progress =
        json!({"status": "idle", "next": 5, "iteration": 1, "retry_count": 0, "retry_until": null, "last_run": {}});
    returned["task"].as_object_mut().unwrap().extend(progress.as_object().unwrap().clone());

    let again = parse(returned.to_string().as_bytes(), &defaults(), true).unwrap();
    assert_eq!(again.warnings, Vec::<String>::new());
    assert_eq!(fingerprint(&again.definition), fingerprint(&registered));
}

#[test]
fn data_is_kept_as_registered() {
    for data in [
        r#"{ "z" : 1,  "a":[1.0, 1e2 ,0.10],
             "n": 123456789012345678901234567890.000 }"#,
        r#"{"a":1,"a":2}"#,
        r#""text \u00e9 \" [[[""#,
        "[ ]",
        "false",
        "0.1e-5",
    ] {
        let document = CONTRACT.replace(r#"{"instanceName": "delay-test-999", "variables": {}}"#, data);
        let definition = accepted(&document);
        assert_eq!(definition.task.data.text(), data);
        let stored = serde_json::to_string(&definition).unwrap();
        let reread: Definition = serde_json::from_str(&stored).unwrap();
        assert_eq!(reread, definition);
    }
}

#[test]
fn the_last_of_two_equal_members_counts() {
    let twice = CONTRACT
        .replacen("\"name\": \"bbb\"", "\"name\": 5, \"task\": {\"data\": 1}, \"name\": \"last\"", 1)
        .replacen("\"data\": {", "\"data\": \"first\", \"type\": \"smtp\", \"type\": \"rest\", \"data\": {", 1);
    let definition = accepted(&twice);
    assert_eq!(definition.name, "last");
    assert_eq!(definition.task, accepted(CONTRACT).task);
}

#[test]
fn fingerprints() {
    fn same(one: &str, other: &str) {
        assert_eq!(fingerprint(&accepted(one)), fingerprint(&accepted(other)), "{one}\n{other}");
    }
    fn different(one: &str, other: &str) {
        assert_ne!(fingerprint(&accepted(one)), fingerprint(&accepted(other)), "{one}\n{other}");
    }
    fn data(text: &str) -> String {
        CONTRACT.replace(r#"{"instanceName": "delay-test-999", "variables": {}}"#, text)
    }

    let hex = fingerprint(&accepted(CONTRACT));
    assert!(hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    same(CONTRACT, &with(&[]));
    same(&data(r#"{"a":1,"b":{"c":[1,2],"d":"é"}}"#), &data(r#"{ "b" : {"d":"\u00e9", "c":[ 1,2]},"a":1 }"#));
    same(&data(r#"{"a":1,"a":2}"#), &data(r#"{"a":2}"#));
    different(&data(r#"{"a":[1,2]}"#), &data(r#"{"a":[2,1]}"#));
    different(&data(r#"{"a":"1"}"#), &data(r#"{"a":1}"#));
    different(&data(r#"{"a":null}"#), &data("{}"));
    different(&data("[[],1]"), &data("[[1]]"));
    different(&data("123456789012345678901"), &data("123456789012345678902"));

    for (patch, value) in [
        ("/task/timeout", "30"),
        ("/task/connection/method", r#""post""#),
        ("/schedule", r#"" 30  * * * * * ""#),
        ("/timezone", r#""asia/seoul""#),
        ("/priority", "0"),
        ("/queue", r#""default""#),
        ("/task/unknown", "1"),
    ] {
        same(CONTRACT, &with(&[(patch, value)]));
    }
    let lower = r#"{"content-type":"application/json","authorization":"Bearer ..."}"#;
    same(CONTRACT, &with(&[("/task/connection/headers", lower)]));
    for (patch, value) in [
        ("/name", r#""ccc""#),
        ("/client/key", r#""1""#),
        ("/schedule", r#""31 * * * * *""#),
        ("/timezone", r#""Asia/Tokyo""#),
        ("/priority", "1"),
        ("/queue", r#""other""#),
        ("/task/timeout", "31"),
        ("/task/retry_wait", "61"),
        ("/task/failed_policy", r#""ignore""#),
        ("/task/history_check", "true"),
        ("/task/max_retry_count", "0"),
        ("/task/connection/method", r#""PUT""#),
        ("/task/connection/headers/A", r#""1""#),
        ("/task/connection/body", r#""data""#),
    ] {
        different(CONTRACT, &with(&[(patch, value)]));
    }
}

#[test]
fn previews() {
    fn read(document: &str) -> Result<(Option<i64>, usize), Vec<(String, &'static str)>> {
        let request = parse_preview(document.as_bytes(), &defaults()).map_err(findings)?;
        Ok((request.from, request.count))
    }
    fn check(extra: &str, expected: Result<(Option<i64>, usize), (&str, &'static str)>) {
        let document = format!(r#"{{"type":"cron","schedule":"0 9 * * *"{extra}}}"#);
        let expected = expected.map_err(|(pointer, code)| vec![(pointer.to_owned(), code)]);
        assert_eq!(read(&document), expected, "{document}");
    }

    check("", Ok((None, 10)));
    check(r#","count":1,"from":1000"#, Ok((Some(1000), 1)));
    check(r#","count":100,"from":"1970-01-01T09:00:01+09:00""#, Ok((Some(1000), 100)));
    check(r#","count":null,"from":null,"other":1"#, Ok((None, 10)));
    for count in ["0", "101", "-1", "1e99"] {
        check(&format!(r#","count":{count}"#), Err(("/count", "range")));
    }
    check(r#","count":"5""#, Err(("/count", "type")));
    check(r#","from":"tomorrow""#, Err(("/from", "format")));
    check(r#","from":"2026-01-01T00:00:00""#, Err(("/from", "format")));
    check(r#","from":-1"#, Err(("/from", "range")));
    check(r#","from":"1969-12-31T23:59:59Z""#, Err(("/from", "range")));
    check(r#","from":9223372036854775807"#, Err(("/from", "range")));
    check(r#","from":true"#, Err(("/from", "type")));
    check(r#","timezone":"Mars""#, Err(("/timezone", "invalid_timezone")));

    let zoned = parse_preview(br#"{"type":"cron","schedule":"0 9 * * *"}"#, &defaults()).unwrap();
    assert_eq!(zoned.timing.next_after(0), Some(8 * 3_600_000), "nine in Berlin");
    assert_eq!(read("[]"), Err(vec![(String::new(), "type")]));
    assert!(matches!(parse_preview(b"{", &defaults()), Err(DocumentError::Syntax { .. })));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        proptest::sample::select(vec!["cron", "date", "delay", "rest", "kafka", "http://h", "* * * * *"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let name = prop_oneof![
            proptest::sample::select(vec!["type", "host", "headers", "data", "backoff", "key"]).prop_map(str::to_owned),
            ".{0,4}"
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name, inner, 0..4)
                .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

/// Whatever comes in, a refusal says what is wrong, and what is accepted survives being stored.
fn holds_together(body: &[u8]) {
    let _ = parse_preview(body, &defaults()).map(|request| request.timing.preview(0, 2));
    for strict in [false, true] {
        match parse(body, &defaults(), strict) {
            Err(DocumentError::Fields(errors)) => assert!(!errors.is_empty()),
            Err(DocumentError::Syntax { detail }) => assert!(!detail.is_empty()),
            Ok(parsed) => {
                let stored = serde_json::to_string(&parsed.definition).unwrap();
                assert_eq!(serde_json::from_str::<Definition>(&stored).unwrap(), parsed.definition);
                let again = parse(stored.as_bytes(), &defaults(), true).unwrap().definition;
                assert_eq!(again, parsed.definition);
                assert_eq!(fingerprint(&again), fingerprint(&parsed.definition));
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_break_the_parser(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        holds_together(&body);
    }

    #[test]
    fn no_json_breaks_the_parser(document in any_json()) {
        holds_together(document.to_string().as_bytes());
    }

    #[test]
    fn no_value_of_a_field_breaks_the_parser(
        pointer in proptest::sample::select(vec![
            "/name", "/client", "/client/key", "/type", "/schedule", "/timezone", "/priority", "/queue", "/task",
            "/task/type", "/task/connection", "/task/connection/host", "/task/connection/headers",
            "/task/connection/method", "/task/connection/topic", "/task/data", "/task/retry", "/task/timeout",
            "/task/retry_wait", "/task/max_retry_count", "/from", "/count",
        ]),
        value in any_json(),
    ) {
        holds_together(with(&[(pointer, &value.to_string())]).as_bytes());
    }

    #[test]
    fn no_damage_breaks_the_parser(at in 0..CONTRACT.len(), byte in any::<u8>()) {
        let mut body = CONTRACT.as_bytes().to_vec();
        body[at] = byte;
        holds_together(&body);
    }
}
