//! What callers send: the registration document as typed input, filters, preview requests. Written as the JSON
//! that REST receives; what is valid is for `document::parse` to say, so that both surfaces refuse alike.

use async_graphql::{Enum, InputObject};
use reveille_shared::model::schedule::ClientKey;
use serde::Serialize;
use serde_json::value::RawValue;

use super::json::JsonText;
use super::types::ScheduleTaskFailurePolicy;
use crate::error::{Problem, internal};

/// A registration document. The names of the input types are those of the published schema; a field that has
/// none here is registered by the argument `document`.
#[derive(InputObject, Serialize)]
pub(super) struct ScheduleEventInput {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Who registers it. Absent, as in the published schema: the name is its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<ClientInput>,
    /// `cron`, `now`, `date`, `delay` or `delay-recur`.
    #[graphql(name = "type")]
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    /// IANA time zone name.
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    task: ScheduleTaskInput,
}

/// Who registers a schedule.
#[derive(Clone, Debug, Default, InputObject, Serialize)]
pub(super) struct ClientInput {
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[graphql(name = "type")]
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
}

/// What a schedule does when it fires.
#[derive(InputObject, Serialize)]
pub(super) struct ScheduleTaskInput {
    /// `rest`, `kafka` or `redis`.
    #[graphql(name = "type")]
    #[serde(rename = "type")]
    kind: String,
    connection: TaskConnectionInput,
    /// What the target receives; to keep it byte for byte, register by `document` with a string.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "json")]
    data: Option<JsonText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history_check: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_policy: Option<ScheduleTaskFailurePolicy>,
    /// Retries after the first attempt; −1: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_retry_count: Option<i64>,
    /// Seconds before a retry.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_wait: Option<i64>,
    /// Seconds an attempt may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<f64>,
}

/// Where the target of a task is.
#[derive(InputObject, Serialize)]
pub(super) struct TaskConnectionInput {
    /// URL, or list of brokers.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// Topic, channel, stream or list.
    #[serde(skip_serializing_if = "is_empty")]
    topic: Option<String>,
    /// Headers by name.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "json")]
    headers: Option<JsonText>,
    /// HTTP method.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// `data` or `schedule`.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// Name of a connection of the server's configuration, instead of a host.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl ScheduleEventInput {
    /// The document.
    pub(super) fn document(mut self) -> Result<String, Problem> {
        if self.client.is_none() {
            self.client = Some(ClientInput { key: self.name.clone(), ..ClientInput::default() });
        }
        written(&self)
    }
}

/// The document of a mutation that takes it in two forms.
pub(super) fn document(
    registration: Option<ScheduleEventInput>,
    document: Option<JsonText>,
) -> Result<String, Problem> {
    match (registration, document) {
        (Some(registration), None) => registration.document(),
        (None, Some(document)) => Ok(document.document()),
        _ => Err(Problem::bad_query("registration", "give either `registration` or `document`")),
    }
}

/// Which schedules: every field that is not empty must be equal.
#[derive(Clone, Debug, Default, InputObject)]
pub(super) struct ScheduleFilterInput {
    operation: Option<String>,
    application: Option<String>,
    group: Option<String>,
    key: Option<String>,
    #[graphql(name = "type")]
    kind: Option<String>,
}

impl ScheduleFilterInput {
    /// All schedules of a group.
    pub(super) fn of_group(group: Option<String>) -> Self {
        Self { group, ..Self::default() }
    }

    /// The filter as a client key.
    pub(super) fn key(self) -> Result<ClientKey, Problem> {
        let text = |name: &str, value: Option<String>| match value {
            Some(value) if value.contains('\0') => {
                Err(Problem::bad_query(name, "a filter cannot contain the NUL character"))
            }
            value => Ok(value.unwrap_or_default()),
        };
        Ok(ClientKey {
            operation: text("operation", self.operation)?,
            application: text("application", self.application)?,
            group: text("group", self.group)?,
            key: text("key", self.key)?,
            kind: text("type", self.kind)?,
        })
    }
}

/// Which schedules by where they stand: by state, or by the status of their task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub(super) enum Standing {
    /// Has an armed run.
    Active,
    /// Is paused.
    Paused,
    /// Is over.
    Finished,
    /// All of these.
    All,
    /// Waits for its time.
    Idle,
    /// Is running.
    Processing,
    /// Waits for a retry, or finished failed.
    Failed,
    /// Finished well.
    Done,
    /// Retries exhausted, or refused for good.
    Invalidity,
}

impl Standing {
    /// REST's word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Finished => "finished",
            Self::All => "all",
            Self::Idle => "idle",
            Self::Processing => "processing",
            Self::Failed => "failed",
            Self::Done => "done",
            Self::Invalidity => "invalidity",
        }
    }
}

/// What `scheduledList` lists, as in the published schema.
#[derive(InputObject)]
pub(super) struct ListInput {
    /// Those whose retries are exhausted or that were refused for good, instead of those that are waiting.
    pub(super) dlq: bool,
    /// Of this name.
    pub(super) name: Option<String>,
    /// Of this group.
    pub(super) group: Option<String>,
}

/// A timing to preview.
#[derive(InputObject, Serialize)]
pub(super) struct PreviewInput {
    /// `cron`, `now`, `date`, `delay` or `delay-recur`.
    #[graphql(name = "type")]
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    /// How many instants.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<i32>,
    /// From when on; now when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

impl PreviewInput {
    /// The request as REST receives it.
    pub(super) fn document(&self) -> Result<String, Problem> {
        written(self)
    }
}

fn written(value: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(value).map_err(|error| {
        tracing::error!(error = %error, "an input cannot be written as a document");
        internal()
    })
}

fn json<S: serde::Serializer>(value: &Option<JsonText>, serializer: S) -> Result<S::Ok, S::Error> {
    let text: Option<&RawValue> = value.as_ref().map(|value| value.0.as_ref());
    text.serialize(serializer)
}

fn is_empty(text: &Option<String>) -> bool {
    text.as_deref().unwrap_or_default().is_empty()
}
