//! One call to a target, whatever its kind: what is sent, how long it may take, and what came of it.

use std::sync::OnceLock;
use std::time::Duration;

use reveille_shared::model::UnixMs;
use reveille_shared::model::run::{ClaimedRun, Outcome};
use reveille_shared::model::schedule::Definition;
use reveille_shared::model::task::{BodyMode, DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S, Task};
use reveille_shared::model::traceparent::TraceParent;
use reveille_shared::runtime::clock::DbClock;

use crate::destination::Destination;

/// From the name to a connection that can be used; a call without one by then has the outcome `connect`.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long one attempt may take, the response included. Documents are validated, but a stored one that
/// is not must not panic the attempt.
pub(crate) fn deadline_of(task: &Task) -> Duration {
    let seconds = task.timeout.unwrap_or(DEFAULT_TIMEOUT_S).min(MAX_TIMEOUT_S);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs_f64(DEFAULT_TIMEOUT_S))
}

/// What is to be sent, for which run.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) run: &'a ClaimedRun,
    pub(crate) definition: &'a Definition,
    pub(crate) destination: &'a Destination,
    /// `definition` as callers are shown it, where it is to be sent; empty where it is not.
    pub(crate) payload: &'a str,
    /// What a target receives that asks for nothing in particular.
    pub(crate) default_body: BodyMode,
    /// The database's now, as estimated.
    pub(crate) now: UnixMs,
    /// To be marked where an answer begins before it ends.
    pub(crate) first_byte: &'a FirstByte,
    /// The span of this attempt, sent on to the target; `None` when traces are off.
    pub(crate) traceparent: Option<TraceParent>,
}

/// When the target began to answer. Beside the answer, so that it is known of a call that was cut short as well.
pub(crate) struct FirstByte {
    clock: DbClock,
    at: OnceLock<UnixMs>,
}

impl FirstByte {
    pub(crate) fn new(clock: DbClock) -> Self {
        Self { clock, at: OnceLock::new() }
    }

    /// The target begins to answer.
    pub(crate) fn mark(&self) {
        self.at.get_or_init(|| self.clock.now_ms());
    }

    pub(crate) fn at(&self) -> Option<UnixMs> {
        self.at.get().copied()
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    /// How long the target asked to be left alone.
    pub(crate) retry_after_ms: Option<i64>,
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, retry_after_ms: None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deadline_is_positive_and_bounded_whatever_is_stored() {
        for (stored, seconds) in [(json!(null), 30.0), (json!(0.25), 0.25), (json!(1e300), 900.0), (json!(-1), 30.0)] {
            let task =
                json!({"type": "rest", "connection": {"host": "http://localhost"}, "retry_wait": 1, "timeout": stored});
            let task: Task = serde_json::from_value(task).unwrap();
            assert_eq!(deadline_of(&task), Duration::from_secs_f64(seconds), "{stored}");
        }
    }
}
