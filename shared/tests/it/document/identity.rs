//! What is kept of a document, and when two documents are the same.

use super::*;

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
    different(&data("[1,2]"), &data("[12]"));
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
