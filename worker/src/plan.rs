//! What an attempt at a run comes to, as pure functions of the run, its schedule and `now`: the policies
//! of the model put together into the one exit of the run.
//!
//! Never talks to anything. Whatever it is given it answers with an exit: a stored document that this
//! version cannot read is a refused run, not a crash that takes the lease three times.

use std::time::Duration;

use reveille_shared::model::UnixMs;
use reveille_shared::model::policy::{self, AfterFailure, Verdict};
use reveille_shared::model::run::{ClaimedRun, Exit, Outcome, OutcomeCode, RunState};
use reveille_shared::model::schedule::Definition;
use reveille_shared::model::task::{DEFAULT_TIMEOUT_S, Delivery, MAX_TIMEOUT_S};
use reveille_shared::model::timing::Timing;

use crate::dispatch::Answer;

/// Instants that passed are counted up to here; a per-second schedule reaches it in under three hours.
const PASSED_LIMIT: i32 = 10_000;

/// A run's schedule, as its attempt needs it: read once per attempt.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) definition: Definition,
    timing: Timing,
}

/// When something happened, by the estimate of the database's clock: it is behind it, never ahead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) started_at: UnixMs,
    pub(crate) ended_at: UnixMs,
}

impl Plan {
    /// Reads the schedule of a claimed run.
    ///
    /// # Errors
    /// The exit of a run that cannot be read. It names no successor: nobody can tell when.
    pub(crate) fn read(run: &ClaimedRun) -> Result<Self, Exit> {
        let Some(schedule) = &run.schedule else {
            return Err(unread(RunState::Cancelled, OutcomeCode::Deleted, "the schedule is gone"));
        };
        let refused = |detail: &str| unread(RunState::Failed, OutcomeCode::Refused, detail);
        // The error itself would quote the document.
        let definition: Definition = serde_json::from_str(&schedule.payload)
            .map_err(|_| refused("the stored document cannot be read by this version"))?;
        let timing = Timing::parse(definition.kind, &definition.schedule, &definition.timezone)
            .map_err(|_| refused("the stored timing cannot be read by this version"))?;
        Ok(Self { definition, timing })
    }

    /// The exit of a run that is not to be dispatched; `None` when it is.
    pub(crate) fn verdict(&self, run: &ClaimedRun, now: UnixMs) -> Option<Exit> {
        match policy::verdict(run, &self.definition.task, &self.timing, now) {
            Verdict::Dispatch => None,
            Verdict::Settle { state, outcome } => {
                Some(self.finish(run, state, outcome, Span { started_at: now, ended_at: now }))
            }
        }
    }

    /// How long one attempt may take, the response included.
    pub(crate) fn deadline(&self) -> Duration {
        let seconds = self.definition.task.timeout.unwrap_or(DEFAULT_TIMEOUT_S);
        let deadline = Duration::try_from_secs_f64(seconds.min(MAX_TIMEOUT_S));
        deadline.unwrap_or(Duration::from_secs_f64(DEFAULT_TIMEOUT_S))
    }

    /// The exit of a run whose attempt has an outcome. `random` is drawn from `[0, 1)`.
    pub(crate) fn conclude(&self, run: &ClaimedRun, answer: &Answer, span: Span, random: f64) -> Exit {
        let outcome = answer.outcome.clone();
        if outcome.code == OutcomeCode::Ok {
            return self.finish(run, RunState::Succeeded, outcome, span);
        }
        let task = &self.definition.task;
        match policy::after_failure(task, &self.timing, run, span.ended_at, answer.retry_after_ms, random) {
            AfterFailure::Retry { wait_ms } => Exit::Retry { wait_ms, outcome },
            AfterFailure::Finish(state) => self.finish(run, state, outcome, span),
        }
    }

    /// The exit of a run whose call had to be cut short at shutdown: the target may have seen it.
    pub(crate) fn cut_short(&self, run: &ClaimedRun, span: Span) -> Exit {
        match self.definition.task.delivery {
            Delivery::AtLeastOnce => Exit::HandBack,
            Delivery::AtMostOnce => {
                let outcome = Outcome::new(OutcomeCode::Unknown, "the worker stopped during the call");
                self.finish(run, RunState::Failed, outcome, span)
            }
        }
    }

    fn finish(&self, run: &ClaimedRun, state: RunState, outcome: Outcome, span: Span) -> Exit {
        if !run.armed {
            return Exit::Finish { state, outcome, successor: None, coalesced: 0, skipped: 0 };
        }
        let passed = policy::passed(&self.timing, run.nominal_at, span.started_at, span.ended_at, PASSED_LIMIT);
        let successor = self.timing.successor(run.nominal_at, span.ended_at);
        Exit::Finish { state, outcome, successor, coalesced: passed.coalesced, skipped: passed.skipped }
    }
}

fn unread(state: RunState, code: OutcomeCode, detail: &str) -> Exit {
    Exit::Finish { state, outcome: Outcome::new(code, detail), successor: None, coalesced: 0, skipped: 0 }
}
