//! What is accepted, what is left to defaults, and what is left out.

use super::*;

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
fn unknown_fields_are_left_out_and_named() {
    let document = with(&[
        ("/colour", "1"),
        ("/task/shoe~size", "1"),
        ("/task/foo", "null"),
        ("/task/connection/port", "1"),
        ("/task/retry", r#"{"bar/baz":1}"#),
    ]);
    let parsed = read(&document).unwrap();
    let pointers = ["/task/connection/port", "/task/retry/bar~1baz", "/task/foo", "/task/shoe~0size", "/colour"];
    let sentences = pointers.map(|pointer| format!("`{pointer}` is not a known field and was left out"));
    assert_eq!(parsed.warnings, sentences);
    assert_eq!(parsed.definition, accepted(&with(&[("/task/retry", "{}")])));

    let strict = findings(parse(document.as_bytes(), &defaults(), true).err().unwrap());
    assert_eq!(strict, pointers.map(|pointer| (pointer.to_owned(), "unknown_field")));
    assert!(parse(CONTRACT.as_bytes(), &defaults(), true).is_ok());
}
