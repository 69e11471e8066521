//! What is refused, at which pointer, with which code.

use super::*;

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
    // Left out, it would leave the identity of another schedule, which this one would replace.
    check("/client/app", r#""w""#, "unknown_field");
    check("/client/app", "null", "unknown_field");
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
    // Brackets inside a string nest nothing, and an escaped quote does not end it.
    accepted(&with(&[("/task/data", &json!(format!("\"{}", nested(99))).to_string())]));
    check("data", &format!(r#"["\\",{}]"#, nested(32)), "depth");
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
            &[
                "",
                "h",
                "ftp://h/",
                "http://",
                "http://u@h/",
                "http://u:p@h/",
                "http://:p@h/",
                "http://h/a b",
                " http://h",
                "/p",
            ][..],
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

    check_reference("secret://../etc/passwd", true);
    check_reference("secret://.hidden", true);
    check_reference("a b secret://c", true);
    check_reference("secret://webhook-signing", true);
    check_reference("Bearer secret://token", false);

    for (name, secret) in
        [("Authorization", true), ("COOKIE", true), ("x-api-key", true), ("Proxy-Authorization", true)]
            .into_iter()
            .chain([("content-type", false), ("x-authorization", false), ("", false)])
    {
        assert_eq!(SecretHeaders::default().contains(name), secret, "{name}");
    }
}

fn check_reference(value: &str, is_refused: bool) {
    let document = with(&[("/task/connection/headers", &json!({ "x": value }).to_string())]);
    if is_refused {
        assert_eq!(refused(&document), [("/task/connection/headers/x".to_owned(), "invalid_reference")], "{value}");
    } else {
        accepted(&document);
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
