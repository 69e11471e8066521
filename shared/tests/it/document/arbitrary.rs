//! Arbitrary input: nothing panics, and what is accepted survives being stored.

use proptest::prelude::*;

use super::*;

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
