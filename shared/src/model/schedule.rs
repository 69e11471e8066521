//! A schedule: what was registered, by whom, and in which state it is.

use serde::{Deserialize, Serialize};

use super::is_default;
use super::task::Task;
use super::timing::TimingKind;
use super::traceparent::{self, TraceParent};

/// The five strings that identify a schedule: all equal means the same schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientKey {
    /// Operation of the calling application, free text.
    #[serde(default)]
    pub operation: String,
    /// The application that registered the schedule.
    #[serde(default)]
    pub application: String,
    /// Group the schedule belongs to, free text; cancel-by-group filters on it.
    #[serde(default)]
    pub group: String,
    /// The caller's own key, free text.
    #[serde(default)]
    pub key: String,
    /// Type of caller, free text.
    #[serde(default, rename = "type")]
    pub kind: String,
}

/// The registered document in its validated form. Serialised, it is the wire document without the
/// server-managed fields (`id`, `task.status`, …); that text is what the store keeps as payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// The span of the request that registered it, when its trace is recorded: written by the server, read in no
    /// document and shown in none. The first field: see [`Definition::without_traceparent`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "traceparent::stored")]
    pub traceparent: Option<TraceParent>,
    /// Human name, free text.
    pub name: String,
    /// Who registered it.
    pub client: ClientKey,
    /// Which of the five timings.
    #[serde(rename = "type")]
    pub kind: TimingKind,
    /// The timing's text, as registered (`30 * * * * *`, `2026-01-01T00:00:00`, `50`).
    pub schedule: String,
    /// IANA time zone name.
    pub timezone: String,
    /// Higher is claimed first among due runs; −100 to 100.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i16,
    /// Which workers may claim it: those bound to this queue.
    #[serde(default = "default_queue", skip_serializing_if = "is_default_queue")]
    pub queue: String,
    /// What to do when it fires.
    pub task: Task,
}

impl Definition {
    /// The text of this definition's members, from `payload`, which is its JSON: all that follows the opening
    /// brace, except for what is not to leave the server.
    pub fn without_traceparent<'p>(&self, payload: &'p str) -> &'p str {
        let members = payload.trim_start().strip_prefix('{').unwrap_or_default();
        let own = self.traceparent.map(|traceparent| format!(r#""traceparent":"{traceparent}","#));
        own.and_then(|own| members.strip_prefix(&own)).unwrap_or(members)
    }
}

/// The queue of a schedule that names none.
pub const DEFAULT_QUEUE: &str = "default";

fn default_queue() -> String {
    DEFAULT_QUEUE.to_owned()
}

fn is_default_queue(queue: &str) -> bool {
    queue == DEFAULT_QUEUE
}

/// State of a schedule. The discriminants are the database's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i16)]
pub enum ScheduleState {
    /// Has exactly one armed run of its current revision.
    Active = 0,
    /// Keeps its definition, has no armed run.
    Paused = 1,
    /// A one-shot that ran, or a recurrence that has no further instant; pruned later.
    Finished = 2,
    /// Cancelled by its owner; its client key is free again; pruned later.
    Deleted = 3,
}

impl ScheduleState {
    /// The state of a database code, `None` for a code this version does not know.
    pub fn from_code(code: i16) -> Option<Self> {
        [Self::Active, Self::Paused, Self::Finished, Self::Deleted].into_iter().find(|state| *state as i16 == code)
    }
}
