//! The `task` of a document: target, policy, and the data as it was written.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use url::Url;

use super::Defaults;
use super::fields::{Fields, Report, is_number, is_text, text_of};
use crate::model::task::{
    Backoff, BodyMode, Connection, DEFAULT_RETRY_WAIT_S, Delivery, FailedPolicy, MAX_TIMEOUT_S, RawJson, RetryShape,
    Task, TaskKind,
};

/// What a secret header is shown as, and what keeps the stored value when it is sent back.
pub const SECRET_MASK: &str = "***";

const HOST_MAX: usize = 2048;
const TOPIC_MAX: usize = 249;
const HEADERS_MAX: usize = 32;
const HEADER_VALUE_MAX: usize = 4096;
const HEADER_NAME_MAX: usize = 128;
const YEAR_S: i64 = 365 * 24 * 3600;
/// Least positive `timeout` in seconds.
const TIMEOUT_MIN_S: f64 = 0.001;

/// Headers the connection or the product itself writes.
const RESERVED_HEADERS: [&str; 13] = [
    "connection",
    "content-length",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];
const RESERVED_PREFIX: &str = "x-reveille-";

/// Whether a header's value is never shown, in any case of letters.
pub fn is_secret_header(name: &str) -> bool {
    const SECRET: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];
    SECRET.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

pub(super) fn read(document: &mut Fields<'_>, defaults: &Defaults, report: &mut Report) -> Option<Task> {
    const KINDS: [(&str, TaskKind); 3] =
        [("rest", TaskKind::Rest), ("kafka", TaskKind::Kafka), ("redis", TaskKind::Redis)];
    const POLICIES: [(&str, FailedPolicy); 3] =
        [("ignore", FailedPolicy::Ignore), ("retry", FailedPolicy::Retry), ("retry_dlq", FailedPolicy::RetryDlq)];
    const DELIVERIES: [(&str, Delivery); 2] =
        [("at_least_once", Delivery::AtLeastOnce), ("at_most_once", Delivery::AtMostOnce)];

    let mut fields = document.required_object("task", report)?;
    fields.ignore(&["status", "next", "iteration", "retry_count", "retry_until", "last_run"]);
    let kind = fields.required_word("type", &KINDS, report);
    if let Some(kind) = kind
        && !defaults.targets.contains(&kind)
    {
        report.error(fields.pointer("type"), "target_unavailable", "this deployment does not call this kind of target");
    }
    let connection = read_connection(&mut fields, kind, report);
    let data = fields.get("data").map(|data| RawJson(data.to_owned())).unwrap_or_default();
    let waits = ["retry_wait", "retry_period"].map(|name| fields.integer(name, 0..=YEAR_S, report));
    let retry_wait = waits[0].or(waits[1]).and_then(|wait| u64::try_from(wait).ok()).unwrap_or(DEFAULT_RETRY_WAIT_S);
    let task = Task {
        kind: kind.unwrap_or(TaskKind::Rest),
        connection: connection.unwrap_or_else(nowhere),
        data,
        history_check: fields.flag("history_check", report).unwrap_or_default(),
        failed_policy: fields.word("failed_policy", &POLICIES, report).unwrap_or_default(),
        retry_wait,
        max_retry_count: fields.integer("max_retry_count", -1..=1_000_000, report),
        retry: read_retry(&mut fields, report),
        timeout: fields.number("timeout", TIMEOUT_MIN_S..=MAX_TIMEOUT_S, report),
        delivery: fields.word("delivery", &DELIVERIES, report).unwrap_or_default(),
    };
    fields.finish(report);
    Some(task)
}

/// Stands in for a connection that was refused: the document is, and with it this.
fn nowhere() -> Connection {
    Connection { host: String::new(), method: None, headers: BTreeMap::new(), topic: None, body: None }
}

fn read_retry(task: &mut Fields<'_>, report: &mut Report) -> Option<RetryShape> {
    const BACKOFFS: [(&str, Backoff); 2] = [("fixed", Backoff::Fixed), ("exponential", Backoff::Exponential)];
    let mut fields = task.object("retry", report)?;
    let shape = RetryShape {
        backoff: fields.word("backoff", &BACKOFFS, report).unwrap_or_default(),
        factor: fields.number("factor", 1.0..=10.0, report).unwrap_or(2.0),
        max_wait: fields.integer("max_wait", 1..=YEAR_S, report).and_then(|wait| u64::try_from(wait).ok()),
        jitter: fields.number("jitter", 0.0..=1.0, report).unwrap_or(0.0),
    };
    fields.finish(report);
    Some(shape)
}

fn read_connection(task: &mut Fields<'_>, kind: Option<TaskKind>, report: &mut Report) -> Option<Connection> {
    const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    const BODIES: [(&str, BodyMode); 2] = [("data", BodyMode::Data), ("schedule", BodyMode::Schedule)];
    let mut fields = task.required_object("connection", report)?;
    let host = fields.required_text("host", HOST_MAX, report);
    if let (Some(host), Some(kind)) = (&host, kind)
        && let Err(detail) = check_host(host, kind)
    {
        report.error(fields.pointer("host"), "format", detail);
    }
    let method = fields.text("method", 16, report).map(|method| method.to_ascii_uppercase());
    if method.as_deref().is_some_and(|method| !METHODS.contains(&method)) {
        report.error(fields.pointer("method"), "format", format!("must be one of {}", METHODS.join(", ")));
    }
    let topic = fields.text("topic", TOPIC_MAX, report).filter(|topic| !topic.is_empty());
    if topic.is_none() && matches!(kind, Some(TaskKind::Kafka | TaskKind::Redis)) {
        report.error(fields.pointer("topic"), "required", "is required for this kind of target");
    }
    let headers = fields.object("headers", report).map(|headers| read_headers(&headers, report)).unwrap_or_default();
    let body = fields.word("body", &BODIES, report);
    fields.finish(report);
    Some(Connection { host: host?, method, headers, topic, body })
}

fn check_host(host: &str, kind: TaskKind) -> Result<(), &'static str> {
    let schemes: &[&str] = match kind {
        TaskKind::Rest => &["http", "https"],
        TaskKind::Redis => &["redis", "rediss"],
        TaskKind::Kafka => {
            let is_address = |address: &str| {
                let (name, port) = address.trim().rsplit_once(':').unwrap_or((address.trim(), "9092"));
                !name.is_empty() && !name.contains(['/', ' ']) && port.parse::<u16>().is_ok()
            };
            let all = host.split(',').all(is_address);
            return if all { Ok(()) } else { Err("must be host:port, several separated by commas") };
        }
    };
    let url = Url::parse(host).map_err(|_| "is not a URL")?;
    if !schemes.contains(&url.scheme()) {
        return Err(if kind == TaskKind::Rest {
            "must be an http:// or https:// URL"
        } else {
            "must be a redis:// or rediss:// URL"
        });
    }
    if !url.has_host() {
        return Err("names no host");
    }
    if kind == TaskKind::Rest && (!url.username().is_empty() || url.password().is_some()) {
        return Err("cannot carry credentials; send them in a header");
    }
    Ok(())
}

fn read_headers(fields: &Fields<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    if fields.entries().count() > HEADERS_MAX {
        report.error(fields.here(), "length", format!("there are more than {HEADERS_MAX} headers"));
        return headers; // each is compared with all others below
    }
    for (name, raw) in fields.entries() {
        let pointer = fields.pointer(name);
        match header_value(raw).and_then(|value| check_header(name, &value).map(|()| value)) {
            Err((code, detail)) => report.error(pointer, code, detail),
            Ok(_) if headers.keys().any(|known| known.eq_ignore_ascii_case(name)) => {
                report.error(pointer, "duplicate", "another header has the same name");
            }
            Ok(value) => {
                headers.insert(name.clone(), value);
            }
        }
    }
    headers
}

/// A string; numbers and flags are taken as they are written.
fn header_value(raw: &RawValue) -> Result<String, (&'static str, String)> {
    match raw.get() {
        "true" | "false" => Ok(raw.get().to_owned()),
        number if is_number(raw) => Ok(number.to_owned()),
        _ if is_text(raw) => text_of(raw).ok_or_else(|| ("format", "is not valid Unicode".to_owned())),
        _ => Err(("type", "must be a string".to_owned())),
    }
}

fn check_header(name: &str, value: &str) -> Result<(), (&'static str, String)> {
    // RFC 9110, section 5.6.2: token.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > HEADER_NAME_MAX || !name.bytes().all(is_token) {
        return Err(("format", "is not the name of an HTTP header".to_owned()));
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED_HEADERS.contains(&lower.as_str()) || lower.starts_with(RESERVED_PREFIX) {
        return Err(("forbidden_header", "this header is written by the connection or by Reveille".to_owned()));
    }
    if value.len() > HEADER_VALUE_MAX {
        return Err(("length", format!("is longer than {HEADER_VALUE_MAX} bytes")));
    }
    if value.bytes().any(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return Err(("format", "cannot contain line breaks or other control characters".to_owned()));
    }
    Ok(())
}
