//! Requests for a preview.

use super::*;

#[test]
fn previews() {
    fn read(document: &str) -> Result<(Option<i64>, usize), Vec<Finding>> {
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
