//! What a worker decides about a claimed run before and after it dispatches it: verdict, retry and
//! backoff, misfire. Pure functions; the worker applies them, the store fences them.
//!
//! Invariant: failures and crashes are counted apart. A lease that expires raises `attempt` and
//! `crashes` alike, so `attempt − crashes` counts the attempts that ended, and a crash costs no retry.

use super::UnixMs;
use super::run::{ClaimedRun, Outcome, OutcomeCode, RunState};
use super::schedule::{Definition, ScheduleState};
use super::task::{Backoff, Delivery, FailedPolicy, Task};
use super::timing::{MAX_AHEAD_MS, Timing};

/// A run whose lease expired this often takes its workers down; it is not given to another.
pub const MAX_CRASHES: i32 = 3;
/// How long a run that this version cannot read is left to others.
pub const POSTPONED_MS: i64 = 60_000;
/// Shortest wait between two attempts, whatever the document says: a retry is never a hot loop.
pub const MIN_RETRY_WAIT_MS: i64 = 100;
/// Longest wait a target can ask for with `Retry-After` when the document has no `max_wait`.
pub const MAX_RETRY_AFTER_MS: i64 = 3_600_000;
/// Passed instants are counted up to this number in total: after a long outage of a schedule that fires
/// every second, the exact number is worth less than the time it takes to count.
pub const MAX_PASSED: i32 = 10_000;

/// What the schedule of a claimed run says to do: its payload, read.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The stored document.
    pub definition: Definition,
    /// Its timing.
    pub timing: Timing,
}

impl Plan {
    /// Reads a stored payload; `None` when this version cannot, which takes a newer one that wrote it.
    pub fn read(payload: &str) -> Option<Self> {
        let definition: Definition = serde_json::from_str(payload).ok()?;
        let timing = Timing::parse(definition.kind, &definition.schedule, &definition.timezone).ok()?;
        Some(Self { definition, timing })
    }
}

/// What becomes of a claimed run before anything is dispatched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Call the target.
    Dispatch,
    /// End it without a call.
    Settle {
        /// A terminal state.
        state: RunState,
        /// Why.
        outcome: Outcome,
    },
    /// Leave it to a worker that can: claimable again after a wait.
    Postpone {
        /// Milliseconds until then.
        wait_ms: i64,
        /// Why.
        outcome: Outcome,
    },
}

/// An attempt the target did not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    /// How it ended.
    pub code: OutcomeCode,
    /// How long the target asked to be left alone (`Retry-After`).
    pub retry_after_ms: Option<i64>,
}

/// What becomes of a run after a failed attempt; the outcome stays the attempt's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// Another attempt.
    Retry {
        /// Milliseconds until then.
        wait_ms: i64,
    },
    /// No further attempt.
    Finish {
        /// A terminal state.
        state: RunState,
    },
}

/// Calendar instants that got no run of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Passed before the run started, as after an outage: the run stands for them too.
    pub coalesced: i32,
    /// Passed while it ran: two runs of a schedule do not overlap.
    pub skipped: i32,
}

/// Decides whether a claimed run is dispatched. `plan` is what [`Plan::read`] made of the payload of
/// `run.schedule`, `now` the database's clock.
///
/// A run without a readable plan is postponed. To end it would end its schedule, for without a plan there
/// is no successor; and it takes a newer version to write what this one cannot read, so during a rolling
/// upgrade the next worker can.
pub fn verdict(run: &ClaimedRun, plan: Option<&Plan>, now: UnixMs) -> Verdict {
    if let Some((code, detail)) = cancellation(run) {
        return settle(RunState::Cancelled, code, detail);
    }
    let Some(plan) = plan else {
        let outcome = Outcome::new(OutcomeCode::Refused, "this version cannot read the stored definition");
        return Verdict::Postpone { wait_ms: POSTPONED_MS, outcome };
    };
    if run.crashes >= MAX_CRASHES {
        let detail = format!("its lease expired {} times: it may take its workers down", run.crashes);
        return settle(RunState::Dead, OutcomeCode::Crashed, detail);
    }
    // Not only of a run just taken over: who took it over may have handed it back, or left it to others.
    if run.crashes > 0 && plan.definition.task.delivery == Delivery::AtMostOnce {
        let detail = "the worker that held it died, and the task is to be delivered at most once";
        return settle(RunState::Failed, OutcomeCode::Unknown, detail);
    }
    // A run taken over from a dead worker is no retry: nobody knows that it failed.
    let is_retry = failures_before(run) > 0 && !run.reclaimed;
    if is_retry && overtaken(run, &plan.timing, now) {
        let detail = "the next occurrence came before the retry";
        return settle(RunState::Failed, OutcomeCode::Outlived, detail);
    }
    Verdict::Dispatch
}

/// Decides what a failed attempt leads to, at the database's `now`, with `random` in `[0, 1)`.
///
/// No further attempt: under `ignore`; when the retries are used up; after [`OutcomeCode::Refused`],
/// which no retry heals; and when the outcome is unknown and the task is to be delivered at most once.
/// The run is then a dead letter under `retry_dlq`, else failed. A retry that would not come before the
/// next occurrence is left to that occurrence: failed, under either policy.
pub fn after_failure(plan: &Plan, run: &ClaimedRun, failed: FailedAttempt, now: UnixMs, random: f64) -> AfterFailure {
    let task = &plan.definition.task;
    let given_up = given_up(task);
    let retries_used = failures_before(run);
    let exhausted = task.retries_allowed().is_some_and(|allowed| retries_used >= allowed);
    if exhausted || !repeatable(task, failed.code) {
        return AfterFailure::Finish { state: given_up };
    }
    let wait_ms = retry_wait_ms(task, retries_used, failed.retry_after_ms, random);
    if overtaken(run, &plan.timing, now.saturating_add(wait_ms)) {
        return AfterFailure::Finish { state: RunState::Failed };
    }
    AfterFailure::Retry { wait_ms }
}

/// The state of a failed run that gets no further attempt.
pub fn given_up(task: &Task) -> RunState {
    match task.failed_policy {
        FailedPolicy::Ignore | FailedPolicy::Retry => RunState::Failed,
        FailedPolicy::RetryDlq => RunState::Dead,
    }
}

/// Counts the calendar instants after the run's own that passed until it started, and then until it
/// ended; at most [`MAX_PASSED`] together. Only an armed run stands for its schedule's instants.
pub fn passed(timing: &Timing, run: &ClaimedRun, started_at: UnixMs, ended_at: UnixMs) -> Passed {
    if !run.armed {
        return Passed::default();
    }
    let started_at = started_at.max(run.nominal_at);
    let coalesced = timing.instants_between(run.nominal_at, started_at, MAX_PASSED);
    let skipped = timing.instants_between(started_at, ended_at, MAX_PASSED - coalesced);
    Passed { coalesced, skipped }
}

/// Why the schedule does not want this run any more.
fn cancellation(run: &ClaimedRun) -> Option<(OutcomeCode, String)> {
    let Some(schedule) = &run.schedule else {
        return Some((OutcomeCode::Deleted, "the schedule is gone".to_owned()));
    };
    match schedule.state {
        ScheduleState::Deleted => Some((OutcomeCode::Deleted, "the schedule was deleted".to_owned())),
        ScheduleState::Paused => Some((OutcomeCode::Paused, "the schedule is paused".to_owned())),
        ScheduleState::Active | ScheduleState::Finished if run.revision < schedule.revision => {
            let detail = format!("revision {} was replaced by revision {}", run.revision, schedule.revision);
            Some((OutcomeCode::Replaced, detail))
        }
        // A finished schedule can still be triggered, and its runs redriven.
        ScheduleState::Active | ScheduleState::Finished => None,
    }
}

fn settle(state: RunState, code: OutcomeCode, detail: impl Into<String>) -> Verdict {
    Verdict::Settle { state, outcome: Outcome::new(code, detail) }
}

/// Attempts of the run that failed before the present one.
fn failures_before(run: &ClaimedRun) -> u64 {
    let before = i64::from(run.attempt) - 1 - i64::from(run.crashes);
    u64::try_from(before).unwrap_or(0)
}

/// Whether the calendar occurrence after an armed run's own comes at `at` or before.
fn overtaken(run: &ClaimedRun, timing: &Timing, at: UnixMs) -> bool {
    run.armed && timing.next_after(run.nominal_at).is_some_and(|next| next <= at)
}

fn repeatable(task: &Task, code: OutcomeCode) -> bool {
    match code {
        OutcomeCode::Refused => false,
        // The target may have received it.
        OutcomeCode::Timeout | OutcomeCode::Transport | OutcomeCode::LeaseLost | OutcomeCode::Unknown => {
            task.delivery == Delivery::AtLeastOnce
        }
        _ => true,
    }
}

/// The wait before the next retry: grown, capped, jittered, then no shorter than the target asked for.
/// A `Retry-After` counts up to `max_wait`, the longest wait its owner accepts, or [`MAX_RETRY_AFTER_MS`].
fn retry_wait_ms(task: &Task, retries_used: u64, retry_after_ms: Option<i64>, random: f64) -> i64 {
    let max_wait_ms = task.retry.and_then(|shape| shape.max_wait).map(ms_of_seconds);
    let first_ms = ms_of_seconds(task.retry_wait);
    let drawn_ms = task.retry.map_or(first_ms, |shape| {
        // Floats saturate where integers overflow: infinity meets the cap below.
        let growth = match shape.backoff {
            Backoff::Fixed => 1.0,
            Backoff::Exponential => shape.factor.powi(i32::try_from(retries_used).unwrap_or(i32::MAX)),
        };
        let longest_ms = max_wait_ms.unwrap_or(MAX_AHEAD_MS);
        let grown_ms = (first_ms as f64 * growth.min(MAX_AHEAD_MS as f64)).min(longest_ms as f64);
        (grown_ms * (1.0 - shape.jitter * random)) as i64
    });
    let asked_ms = retry_after_ms.unwrap_or(0).min(max_wait_ms.unwrap_or(MAX_RETRY_AFTER_MS));
    drawn_ms.max(asked_ms).max(MIN_RETRY_WAIT_MS)
}

/// At most [`MAX_AHEAD_MS`].
fn ms_of_seconds(seconds: u64) -> i64 {
    let ms = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
    ms.min(MAX_AHEAD_MS)
}
