//! Documents as values: what is read, what is kept to the letter, what is refused and where.

use reveille_shared::model::document::{
    Defaults, DocumentError, FieldError, Parsed, fingerprint, parse, parse_preview,
};
use reveille_shared::model::schedule::Definition;
use reveille_shared::model::task::TaskKind;
use serde_json::{Value, json};

use crate::support::document;

fn defaults() -> Defaults {
    Defaults { timezone: "Asia/Seoul".to_owned(), targets: vec![TaskKind::Rest, TaskKind::Kafka, TaskKind::Redis] }
}

/// A valid document in which the JSON at `pointer` is replaced by `text`, which need not be readable as a value.
fn with(pointer: &str, text: &str) -> String {
    let mut document = document("1", "cron", "30 * * * * *");
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[field] = json!("<here>");
    document.to_string().replace("\"<here>\"", text)
}

fn accepted(text: &str) -> Parsed {
    parse(text.as_bytes(), &defaults(), false).unwrap_or_else(|error| panic!("{error:?}: {text}"))
}

fn refused(text: &str) -> Vec<FieldError> {
    match parse(text.as_bytes(), &defaults(), false) {
        Err(DocumentError::Fields(errors)) => errors,
        other => panic!("{other:?}: {text}"),
    }
}

fn shown(text: &str) -> Value {
    serde_json::to_value(accepted(text).definition).unwrap()
}

#[test]
fn what_is_written_differently_means_the_same() {
    let table = [
        ("/schedule", "50", "/schedule", json!("50")),
        ("/schedule", "50.0", "/schedule", json!("50")),
        ("/schedule", "5e1", "/schedule", json!("50")),
        ("/timezone", "null", "/timezone", json!("Asia/Seoul")),
        ("/timezone", "\"\"", "/timezone", json!("Asia/Seoul")),
        ("/name", "null", "/name", json!("")),
        ("/client/group", "null", "/client/group", json!("")),
        ("/task/retry_wait", "60.0", "/task/retry_wait", json!(60)),
        ("/task/retry_wait", "6e1", "/task/retry_wait", json!(60)),
        ("/task/retry_wait", "null", "/task/retry_wait", json!(60)),
        ("/task/retry_period", "7", "/task/retry_wait", json!(7)),
        ("/task/data", "null", "/task/data", json!({})),
        ("/task/failed_policy", "null", "/task/failed_policy", json!("ignore")),
        ("/task/connection/method", "\"put\"", "/task/connection/method", json!("PUT")),
        ("/task/connection/headers", r#"{"X-N": 1.50, "X-F": true}"#, "/task/connection/headers/X-N", json!("1.50")),
        ("/task/max_retry_count", "-1", "/task/max_retry_count", json!(-1)),
        ("/priority", "-100", "/priority", json!(-100)),
    ];
    for (pointer, text, shown_at, expected) in table {
        let document = with(pointer, text).replace("\"cron\"", "\"delay\"").replace("30 * * * * *", "5");
        assert_eq!(shown(&document).pointer(shown_at), Some(&expected), "{pointer} = {text}");
    }
    let both = with("/task/retry_wait", "5, \"retry_period\": 7");
    assert_eq!(shown(&both)["task"]["retry_wait"], 5, "the name counts before its alias");
}

#[test]
fn of_a_repeated_name_the_last_value_counts() {
    let text = r#"{"client": {"key": "a"}, "type": "cron", "schedule": "@daily", "client": {"key": "b", "key": "c"},
        "task": 7, "task": {"type": "rest", "connection": {"host": "http://a/"}, "data": 1, "data": 2}}"#;
    let definition = accepted(text).definition;
    assert_eq!(definition.client.key, "c");
    assert_eq!(definition.task.data.text(), "2");
}

#[test]
fn data_is_kept_to_the_letter() {
    let deepest = format!("{}{}", "[".repeat(30), "]".repeat(30)); // the document and the task around it
    for data in [
        r#"{"b": 1,  "a": [1 , 2]}"#,
        r#"{"a": 1, "a": 2}"#,
        "123456789012345678901234567890",
        "1e400",
        "-0.10",
        r#""\ud800""#,
        r#"{"\udfff": 1}"#,
        r#""a\u0000b é""#,
        "false",
        &deepest,
    ] {
        assert_eq!(accepted(&with("/task/data", data)).definition.task.data.text(), data);
    }
}

#[test]
fn nesting_ends_at_32() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    accepted(&with("/task/data", &nested(30)));
    for pointer in ["/task/data", "/unknown"] {
        let depth = if pointer == "/unknown" { 32 } else { 31 };
        assert_eq!(refused(&with(pointer, &nested(depth)))[0].code, "depth", "{pointer}");
    }
    accepted(&with("/task/data", &format!("\"{}\\\"[\"", "[".repeat(100)))); // brackets in a text are text
}

#[test]
fn all_faults_are_named_at_once() {
    let text = json!({
        "name": 1,
        "client": {"key": ["x"], "group": "a\0b"},
        "type": "cron",
        "schedule": "61 * * * *",
        "timezone": "Mars/Olympus",
        "priority": 101,
        "queue": "a b",
        "task": {
            "type": "rest",
            "connection": {"host": "ftp://x/", "method": "BREW", "headers": {"Host": "x"}, "body": "all"},
            "history_check": "yes",
            "failed_policy": "hope",
            "retry_wait": -1,
            "max_retry_count": 0.5,
            "retry": {"backoff": "wild", "factor": 11, "jitter": -0.1, "max_wait": "long"},
            "timeout": 0,
            "delivery": "exactly_once"
        }
    });
    let mut pointers: Vec<String> = refused(&text.to_string()).into_iter().map(|error| error.pointer).collect();
    pointers.sort();
    let mut expected = [
        "/client/group",
        "/client/key",
        "/name",
        "/priority",
        "/queue",
        "/schedule",
        "/task/connection/body",
        "/task/connection/headers/Host",
        "/task/connection/host",
        "/task/connection/method",
        "/task/delivery",
        "/task/failed_policy",
        "/task/history_check",
        "/task/max_retry_count",
        "/task/retry/backoff",
        "/task/retry/factor",
        "/task/retry/jitter",
        "/task/retry/max_wait",
        "/task/retry_wait",
        "/task/timeout",
        "/timezone",
    ];
    expected.sort_unstable();
    assert_eq!(pointers, expected);
}

#[test]
fn what_a_field_cannot_hold_is_that_fields_fault() {
    let table = [
        ("/schedule", "1e400"),
        ("/schedule", "true"),
        ("/priority", "1e400"),
        ("/priority", "99999999999999999999999999"),
        ("/task/retry_wait", "9223372036854775808"),
        ("/task/retry_wait", "-0.5"),
        ("/task/retry_wait", "\"60\""),
        ("/task/timeout", "1e400"),
        ("/task/timeout", "\"5\""),
        ("/task/retry", r#"{"factor": 1e999}"#),
        ("/name", r#""\ud800""#),
        ("/client", r#"{"\ud800": 1}"#),
        ("/client/key", r#""\u0000""#),
        ("/task/failed_policy", r#""\udc00""#),
        ("/task/connection/headers", r#"{"X-A": "\ud800"}"#),
        ("/task/connection/headers", r#"{"X-A": {}}"#),
        ("/task/connection/headers", r#"{"X-A": "1", "x-a": "2"}"#),
        ("/task/connection/headers", r#"{"X-Reveille-Run": "1"}"#),
        ("/task/connection/headers", r#"{"": "1"}"#),
        ("/task/connection/host", r#""http://""#),
        ("/task/connection/host", r#""http://user@host/""#),
    ];
    for (pointer, text) in table {
        let errors = refused(&with(pointer, text));
        assert!(errors.iter().all(|error| error.pointer.starts_with(pointer)), "{pointer} = {text}: {errors:?}");
    }
    let header = |index: usize| format!("\"X-{index}\": \"v\"");
    let headers = |count| format!("{{{}}}", (0..count).map(header).collect::<Vec<_>>().join(","));
    accepted(&with("/task/connection/headers", &headers(32)));
    assert_eq!(refused(&with("/task/connection/headers", &headers(20_000))).len(), 1);
}

#[test]
fn what_is_reported_is_bounded() {
    let unknown: Vec<String> = (0..5000).map(|index| format!("\"unknown{index}\": 0")).collect();
    let text = with("/name", &format!("\"x\", {}", unknown.join(",")));
    assert!(accepted(&text).warnings.len() < 100);
    let Err(DocumentError::Fields(errors)) = parse(text.as_bytes(), &defaults(), true) else { panic!("accepted") };
    assert!(errors.len() < 100);
}

#[test]
fn targets_have_their_own_rules() {
    let of = |kind: &str, host: &str, topic: Value| {
        let mut document = document("1", "now", "");
        document["task"]["type"] = json!(kind);
        document["task"]["connection"] = json!({"host": host, "topic": topic});
        document.to_string()
    };
    accepted(&of("kafka", "one:9092,two:9093", json!("orders")));
    accepted(&of("redis", "redis://localhost:6379/0", json!("channel")));
    for (kind, host, topic, pointer) in [
        ("kafka", "one:9092", json!(null), "/task/connection/topic"),
        ("kafka", "one:port", json!("orders"), "/task/connection/host"),
        ("kafka", "one:9092,", json!("orders"), "/task/connection/host"),
        ("redis", "redis://localhost", json!(""), "/task/connection/topic"),
        ("redis", "http://localhost", json!("c"), "/task/connection/host"),
        ("rest", "redis://localhost", json!("c"), "/task/connection/host"),
    ] {
        let errors = refused(&of(kind, host, topic));
        assert_eq!(errors.iter().map(|error| error.pointer.as_str()).collect::<Vec<_>>(), [pointer], "{kind} {host}");
    }
    let rest_only = Defaults { targets: vec![TaskKind::Rest], ..defaults() };
    let kafka = of("kafka", "one:9092", json!("orders"));
    let Err(DocumentError::Fields(errors)) = parse(kafka.as_bytes(), &rest_only, false) else { panic!("accepted") };
    assert_eq!((errors[0].pointer.as_str(), errors[0].code), ("/task/type", "target_unavailable"));
}

#[test]
fn fingerprints_are_equal_exactly_when_documents_mean_the_same() {
    let of = |text: &str| fingerprint(&accepted(text).definition);
    let one = of(&with("/task/data", r#"{"a": 1, "b": ["x", {"c": 2, "d": 3}]}"#));
    assert_eq!(one.len(), 64);
    for same in [r#"{"b":["x",{"d":3,"c":2}],"a":1}"#, r#"{ "a" : 1, "b": ["\u0078", {"d": 3 ,"c": 2}]}"#] {
        assert_eq!(of(&with("/task/data", same)), one, "{same}");
    }
    let mut seen = vec![one];
    for other in [
        r#"{"a": 2, "b": ["x", {"c": 2, "d": 3}]}"#,
        r#"{"a": 1.0, "b": ["x", {"c": 2, "d": 3}]}"#,
        r#"{"a": "1", "b": ["x", {"c": 2, "d": 3}]}"#,
        r#"{"a": 1, "b": ["x", {"c": 2}, {"d": 3}]}"#,
        "12345678901234567890123",
        "12345678901234567890124",
        r#"{"\ud800": 1}"#,
        r#"{"\ud800": 2}"#,
    ] {
        let fingerprint = of(&with("/task/data", other));
        assert!(!seen.contains(&fingerprint), "{other}");
        seen.push(fingerprint);
    }
    // What is left to the defaults is the same as the defaults spelled out.
    assert_eq!(of(&with("/priority", "0")), of(&with("/priority", "null")));
    assert_eq!(of(&with("/task/retry_period", "60")), of(&with("/task/retry_wait", "60")));
}

#[test]
fn what_is_handed_out_is_read_back_the_same() {
    let rich = r#"{"backoff": "exponential", "factor": 3, "max_wait": 600, "jitter": 0.5}"#;
    for text in [
        with("/task/retry", rich),
        with("/task/timeout", "0.25"),
        with("/task/connection/headers", r#"{"X-A": "b", "Authorization": "c"}"#),
        with("/task/data", r#"{"\ud800": 1e400}"#),
        with("/queue", "\"low\""),
        with("/task/delivery", "\"at_most_once\""),
    ] {
        let parsed = accepted(&text);
        let payload = serde_json::to_string(&parsed.definition).unwrap();
        let stored: Definition = serde_json::from_str(&payload).unwrap();
        assert_eq!(stored, parsed.definition);
        let again = accepted(&payload);
        assert_eq!((&again.definition, again.warnings.len()), (&stored, 0), "{payload}");
        assert_eq!(fingerprint(&again.definition), fingerprint(&parsed.definition));
    }
}

#[test]
fn previews_are_read_as_leniently() {
    let read = |text: &str| parse_preview(text.as_bytes(), &defaults());
    let count = |text: &str| read(text).map(|request| (request.from, request.count));
    assert_eq!(count(r#"{"type": "delay", "schedule": 5}"#), Ok((None, 10)));
    assert_eq!(
        count(r#"{"type": "cron", "schedule": "@daily", "from": "1970-01-01T09:00:01+09:00", "count": 1e2}"#),
        Ok((Some(1000), 100))
    );
    assert_eq!(count(r#"{"type": "now", "from": 1000, "unknown": {}}"#), Ok((Some(1000), 10)));
    for (refused, pointer) in [
        (r#"{"type": "cron", "schedule": "@daily", "count": 0}"#, "/count"),
        (r#"{"type": "cron", "schedule": "@daily", "count": 101}"#, "/count"),
        (r#"{"type": "cron", "schedule": "@daily", "from": "yesterday"}"#, "/from"),
        (r#"{"type": "cron", "schedule": "@daily", "from": -1}"#, "/from"),
        (r#"{"type": "cron", "schedule": "@daily", "from": "9999-01-01T00:00:00Z"}"#, "/from"),
        (r#"{"type": "cron", "schedule": "@daily", "timezone": "Nowhere"}"#, "/timezone"),
        (r#"{"schedule": "@daily"}"#, "/type"),
        ("[]", ""),
    ] {
        let Err(DocumentError::Fields(errors)) = read(refused) else { panic!("accepted: {refused}") };
        assert_eq!(errors.iter().map(|error| error.pointer.as_str()).collect::<Vec<_>>(), [pointer], "{refused}");
    }
    assert!(matches!(read("{"), Err(DocumentError::Syntax { .. })));
}
