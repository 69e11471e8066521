//! The `task.connection` object: where the target is, judged by the kind of target.
//!
//! Judges the text only. Whether an address may be called is decided when it is connected to, because a
//! name can lead somewhere else by then.

use url::Url;

use super::Defaults;
use super::fields::Fields;
use super::headers;
use super::scalar::{Refusal, Scalar, boolean, integer, text, word};
use crate::model::brokers;
use crate::model::redis_url::RedisUrl;
use crate::model::task::{Connection, TaskKind};

const REDIS_MODES: [&str; 3] = ["publish", "stream", "list"];
const FORMATS: [&str; 2] = ["raw", "cloudevents"];
const MAX_KEY_BYTES: usize = 1024;
const MAX_CONNECTION_NAME_BYTES: usize = 64;
const MAX_LENGTH: i64 = 1_000_000_000;
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const BODY_MODES: [&str; 2] = ["data", "schedule"];
const MAX_HOST_BYTES: usize = 2048;
/// Kafka's limit for the name of a topic.
const MAX_TOPIC_BYTES: usize = 249;

/// `None` only when an error is noted. `kind` is `None` when it was refused; the host is then read as text.
pub(super) fn read(mut connection: Fields<'_>, kind: Option<TaskKind>, defaults: &Defaults) -> Option<Connection> {
    let name = connection.optional("name", |value| named(value, kind, defaults));
    let host = match name {
        // The server's configuration says where; a host beside it would be ignored, which nobody can have meant.
        Some(_) => connection.optional("host", |_| Err(Refusal::new("conflict", "cannot be given with a name"))),
        None => connection.required("host", |value| host(value, kind)),
    };
    let method = connection.optional("method", method);
    let headers = connection.optional_object("headers").map(headers::read);
    let topic = match kind {
        Some(TaskKind::Kafka) => connection.required("topic", kafka_topic),
        Some(TaskKind::Redis) => connection.required("topic", topic),
        Some(TaskKind::Rest) | None => connection.optional("topic", text(MAX_TOPIC_BYTES)),
    };
    let key = connection.optional("key", text(MAX_KEY_BYTES));
    let mode = connection.optional("mode", word(&REDIS_MODES));
    let maxlen = connection.optional("maxlen", integer(1..=MAX_LENGTH));
    let require_receiver = connection.optional("require_receiver", boolean).unwrap_or_default();
    let body = connection.optional("body", word(&BODY_MODES));
    let format = connection.optional("format", word(&FORMATS)).unwrap_or_default();
    connection.finish(&[]);
    let headers = headers.unwrap_or_default();
    let host = if name.is_some() { String::new() } else { host? };
    Some(Connection { name, host, method, headers, topic, key, mode, maxlen, require_receiver, body, format })
}

/// The name of a connection of the server's configuration, of the same kind as the task.
fn named(value: Scalar<'_>, kind: Option<TaskKind>, defaults: &Defaults) -> Result<String, Refusal> {
    let name = text(MAX_CONNECTION_NAME_BYTES)(value)?;
    match (defaults.connections.get(&name), kind) {
        (None, _) => Err(Refusal::new("unknown_connection", "is no connection of this server's configuration")),
        (Some(configured), Some(kind)) if *configured != kind => {
            Err(Refusal::new("unknown_connection", "is a connection of another type of target"))
        }
        _ => Ok(name),
    }
}

fn host(value: Scalar<'_>, kind: Option<TaskKind>) -> Result<String, Refusal> {
    let host = text(MAX_HOST_BYTES)(value)?;
    match kind {
        Some(TaskKind::Rest) => http_url(&host)?,
        Some(TaskKind::Kafka) => bootstrap_list(&host)?,
        Some(TaskKind::Redis) => redis_url(&host)?,
        None => {}
    }
    Ok(host)
}

fn http_url(text: &str) -> Result<(), Refusal> {
    let url = url_of(text, &["http", "https"])?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::format("must not hold a user or a password; send an Authorization header"));
    }
    Ok(())
}

fn redis_url(text: &str) -> Result<(), Refusal> {
    RedisUrl::parse(text).map(drop).map_err(Refusal::format)
}

fn url_of(text: &str, schemes: &[&str]) -> Result<Url, Refusal> {
    // A URL parser drops white space, so two different texts would be the same target.
    if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
        return Err(Refusal::format("must not contain white space or control characters"));
    }
    let url = Url::parse(text).map_err(|error| Refusal::format(format!("is not a URL: {error}")))?;
    if !schemes.contains(&url.scheme()) {
        return Err(Refusal::format(format!("must be a URL that begins with {}://", schemes.join(":// or "))));
    }
    match url.host_str() {
        Some(host) if !host.is_empty() => Ok(url),
        _ => Err(Refusal::format("is a URL without a host")),
    }
}

fn bootstrap_list(text: &str) -> Result<(), Refusal> {
    brokers::parse(text).map(drop).map_err(Refusal::format)
}

fn method(value: Scalar<'_>) -> Result<String, Refusal> {
    let Scalar::Text(written) = value else { return Err(Refusal::kind("a string")) };
    let known = METHODS.into_iter().find(|method| method.eq_ignore_ascii_case(&written));
    known.map(str::to_owned).ok_or_else(|| Refusal::format(format!("must be one of {}", METHODS.join(", "))))
}

fn topic(value: Scalar<'_>) -> Result<String, Refusal> {
    let topic = text(MAX_TOPIC_BYTES)(value)?;
    if topic.is_empty() { Err(Refusal::length("must not be empty")) } else { Ok(topic) }
}

fn kafka_topic(value: Scalar<'_>) -> Result<String, Refusal> {
    let topic = topic(value)?;
    let permitted = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if topic == "." || topic == ".." || !topic.bytes().all(permitted) {
        return Err(Refusal::format("must be letters, digits, `_`, `.` or `-`"));
    }
    Ok(topic)
}
