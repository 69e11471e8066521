//! A task: what to do at the right moment, and what to do when that fails.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::is_default;

/// Seconds between attempts when the document names none.
pub const DEFAULT_RETRY_WAIT_S: u64 = 60;
/// Seconds a dispatch may take when the document names none.
pub const DEFAULT_TIMEOUT_S: f64 = 30.0;
/// Longest permitted `task.timeout`, in seconds.
pub const MAX_TIMEOUT_S: f64 = 900.0;
/// Retries of a `retry_dlq` task that names no `max_retry_count`.
pub const DEFAULT_DLQ_RETRIES: i64 = 10;

/// What a schedule does when it fires. Serialises to the wire's `task` object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Which target.
    #[serde(rename = "type")]
    pub kind: TaskKind,
    /// Where the target is.
    pub connection: Connection,
    /// What the target receives, as registered, byte for byte.
    #[serde(default)]
    pub data: RawJson,
    /// Whether registration, execution, re-execution and deletion are recorded in the history.
    #[serde(default)]
    pub history_check: bool,
    /// What a failed attempt leads to.
    #[serde(default)]
    pub failed_policy: FailedPolicy,
    /// Seconds before the first retry.
    pub retry_wait: u64,
    /// Retries after the first attempt: n means n + 1 attempts, 0 none, −1 no limit; absent: the policy's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retry_count: Option<i64>,
    /// How the wait grows from retry to retry; absent: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryShape>,
    /// Deadline of one attempt in seconds, response included; absent: [`DEFAULT_TIMEOUT_S`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// Whether an attempt whose outcome is unknown is repeated.
    #[serde(default, skip_serializing_if = "is_default")]
    pub delivery: Delivery,
}

impl Task {
    /// Retries allowed after the first attempt, `None` without limit.
    pub fn retries_allowed(&self) -> Option<u64> {
        let configured = match (self.failed_policy, self.max_retry_count) {
            (FailedPolicy::Ignore, _) => return Some(0),
            (FailedPolicy::RetryDlq, None) => DEFAULT_DLQ_RETRIES,
            (FailedPolicy::Retry, None) => -1,
            (_, Some(count)) => count,
        };
        u64::try_from(configured).ok()
    }

    /// Deadline of one attempt.
    pub fn deadline(&self) -> std::time::Duration {
        std::time::Duration::from_secs_f64(self.timeout.unwrap_or(DEFAULT_TIMEOUT_S))
    }
}

/// Which kind of target a task calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// An HTTP endpoint.
    Rest,
    /// A Kafka topic.
    Kafka,
    /// A Redis channel.
    Redis,
}

/// Where the target of a task is, and in which form it wants the message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Name of a connection of the server's configuration; then `host` is empty, and credentials are the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// URL (rest, redis) or bootstrap list (kafka).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// HTTP method; absent: POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Headers to send (rest, kafka), by name as registered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Kafka topic; Redis channel, stream or list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Key of the Kafka record; absent: the run id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How Redis is told; absent: publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<RedisMode>,
    /// Entries a Redis stream or list is trimmed to, approximately for a stream; absent: never trimmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maxlen: Option<u64>,
    /// Whether a Redis PUBLISH that nobody received is a failure.
    #[serde(default, skip_serializing_if = "is_default")]
    pub require_receiver: bool,
    /// What is sent as the body; absent: the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyMode>,
    /// The form of the message.
    #[serde(default, skip_serializing_if = "is_default")]
    pub format: MessageFormat,
}

/// How a message is given to Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedisMode {
    /// PUBLISH to a channel: whoever listens at that moment receives it.
    #[default]
    Publish,
    /// XADD to a stream.
    Stream,
    /// LPUSH to a list.
    List,
}

/// The form of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageFormat {
    /// The body as it is; what names the run travels in headers where the target has them.
    #[default]
    Raw,
    /// CloudEvents 1.0: binary mode over HTTP and Kafka, structured mode in Redis.
    #[serde(rename = "cloudevents")]
    CloudEvents,
}

/// What a target receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyMode {
    /// `task.data` alone.
    #[default]
    Data,
    /// The whole schedule document.
    Schedule,
}

/// What a failed attempt leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedPolicy {
    /// It is recorded; a one-shot is over, a recurring schedule goes on.
    #[default]
    Ignore,
    /// Attempt again.
    Retry,
    /// Attempt again, then keep as a dead letter.
    RetryDlq,
}

/// How the wait between attempts grows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryShape {
    /// Constant or exponential.
    #[serde(default)]
    pub backoff: Backoff,
    /// Growth per retry when exponential, 1 to 10.
    #[serde(default = "default_factor")]
    pub factor: f64,
    /// Longest wait in seconds, jitter included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<u64>,
    /// Share of the wait that is random, 0 to 1: the wait is drawn from `[wait × (1 − jitter), wait]`.
    #[serde(default)]
    pub jitter: f64,
}

fn default_factor() -> f64 {
    2.0
}

/// Growth of the wait between attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// Always `retry_wait`.
    #[default]
    Fixed,
    /// `retry_wait × factor^(retry − 1)`.
    Exponential,
}

/// What happens to a run whose worker died while it held the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It is dispatched again: the target may see it twice, with the same idempotency key.
    #[default]
    AtLeastOnce,
    /// It is recorded as failed with an unknown outcome: the target sees it at most once.
    AtMostOnce,
}

/// JSON kept as the text it was registered with, so numbers and key order reach the target unchanged.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawJson(pub Box<RawValue>);

impl RawJson {
    /// The JSON text.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl Default for RawJson {
    /// The empty object: what a document without `data` sends.
    fn default() -> Self {
        Self(serde_json::value::to_raw_value(&serde_json::Map::new()).unwrap_or_default())
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}
