//! What an attempt at a run comes to, as pure functions of the run, its plan and `now`: the policies of
//! the model put together into the one exit of the run.
//!
//! Never talks to anything, and has an exit for whatever it is given: a stored document that this
//! version cannot read ends its run, it does not crash the attempt and come back by the lease.

use std::time::Duration;

use reveille_shared::model::UnixMs;
use reveille_shared::model::policy::{self, AfterFailure, FailedAttempt, Plan, Verdict};
use reveille_shared::model::run::{ClaimedRun, Exit, Outcome, OutcomeCode, RunState};
use reveille_shared::model::task::{DEFAULT_TIMEOUT_S, Delivery, MAX_TIMEOUT_S, Task};

use crate::dispatch::Answer;

/// From when to when an attempt lasted, by the estimate of the database's clock: that is behind it,
/// never ahead, so a successor computed from it may be due at once but skips no instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) started_at: UnixMs,
    pub(crate) ended_at: UnixMs,
}

/// Reads the plan of a claimed run.
///
/// # Errors
/// The exit of a run that is not to be dispatched.
pub(crate) fn plan_dispatch(run: &ClaimedRun, now: UnixMs) -> Result<Box<Plan>, Box<Exit>> {
    let plan = run.schedule.as_ref().and_then(|schedule| Plan::read(&schedule.payload));
    match (policy::verdict(run, plan.as_ref(), now), plan) {
        (Verdict::Dispatch, Some(plan)) => Ok(Box::new(plan)),
        (Verdict::Dispatch, None) => {
            let outcome = Outcome::new(OutcomeCode::Refused, "the stored definition cannot be read");
            Err(Box::new(finish(None, run, RunState::Failed, outcome, Span { started_at: now, ended_at: now })))
        }
        (Verdict::Settle { state, outcome }, plan) => {
            Err(Box::new(finish(plan.as_ref(), run, state, outcome, Span { started_at: now, ended_at: now })))
        }
    }
}

/// How long one attempt may take, the response included. Documents are validated, but a stored one that
/// is not must not panic the attempt.
pub(crate) fn deadline_of(task: &Task) -> Duration {
    let seconds = task.timeout.unwrap_or(DEFAULT_TIMEOUT_S).min(MAX_TIMEOUT_S);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs_f64(DEFAULT_TIMEOUT_S))
}

/// The exit of a run whose attempt has an outcome. `random` is drawn from `[0, 1)`.
pub(crate) fn conclude(plan: &Plan, run: &ClaimedRun, answer: &Answer, span: Span, random: f64) -> Exit {
    let outcome = answer.outcome.clone();
    if outcome.code == OutcomeCode::Ok {
        return finish(Some(plan), run, RunState::Succeeded, outcome, span);
    }
    let failed = FailedAttempt { code: outcome.code, retry_after_ms: answer.retry_after_ms };
    match policy::after_failure(plan, run, failed, span.ended_at, random) {
        AfterFailure::Retry { wait_ms } => Exit::Retry { wait_ms, outcome },
        AfterFailure::Finish { state } => finish(Some(plan), run, state, outcome, span),
    }
}

/// The exit of a run whose call was cut short by a shutdown: the target may have seen it. Handed back it
/// is called again at once, by somebody who has the time; waiting for the lease would only add to that.
pub(crate) fn cut_short(plan: &Plan, run: &ClaimedRun, span: Span) -> Exit {
    match plan.definition.task.delivery {
        Delivery::AtLeastOnce => Exit::HandBack,
        Delivery::AtMostOnce => {
            let outcome = Outcome::new(OutcomeCode::Unknown, "the worker stopped during the call");
            finish(Some(plan), run, RunState::Failed, outcome, span)
        }
    }
}

/// Without a plan there is no successor: nobody can tell when.
fn finish(plan: Option<&Plan>, run: &ClaimedRun, state: RunState, outcome: Outcome, span: Span) -> Exit {
    let timing = plan.filter(|_| run.armed).map(|plan| &plan.timing);
    let passed = timing.map(|timing| policy::passed(timing, run, span.started_at, span.ended_at)).unwrap_or_default();
    let successor = timing.and_then(|timing| timing.successor(run.nominal_at, span.ended_at));
    Exit::Finish { state, outcome, successor, coalesced: passed.coalesced, skipped: passed.skipped }
}
