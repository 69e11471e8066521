//! Why a run was late: one cause out of what its claimer knows, as a pure function.
//!
//! The way from the expected instant to the dispatch is cut at the moments at which an obstacle went away; the
//! obstacle with the longest stretch before it is the cause. So there is exactly one, whatever came together.

use super::UnixMs;
pub use super::late_cause::LateCause;
use super::run::ClaimedRun;

/// A dispatch later than this has a cause.
pub const LATE_AFTER_MS: i64 = 1000;

/// What a claimer knows of the way to a dispatch, by its estimate of the database's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wakeup {
    /// When the worker started.
    pub started_at: UnixMs,
    /// When it last had no free slot.
    pub busy_until: Option<UnixMs>,
    /// When it began to claim and did not stop since: its wait was over, or it was told to.
    pub woken_at: UnixMs,
    /// When the last claim failed, since then.
    pub failed_until: Option<UnixMs>,
    /// When the claim that took the run was committed.
    pub claimed_at: UnixMs,
}

impl Wakeup {
    /// When the worker was awake for a run that was due at `due_at`.
    pub fn woken_for(&self, due_at: UnixMs) -> UnixMs {
        self.woken_at.max(due_at)
    }
}

/// Why `run` was dispatched late; `None` when it was not, by more than [`LATE_AFTER_MS`].
///
/// A first attempt is expected at its nominal instant, a later one when it was due.
pub fn late_cause(run: &ClaimedRun, wakeup: &Wakeup, dispatched_at: UnixMs) -> Option<LateCause> {
    let is_first = run.attempt <= 1;
    let expected_at = if is_first { run.nominal_at } else { run.due_at };
    if dispatched_at.saturating_sub(expected_at) <= LATE_AFTER_MS {
        return None;
    }
    if run.reclaimed {
        return Some(LateCause::LeaseExpired);
    }
    let mut longest = (0, LateCause::DispatchSlow);
    let mut reached = expected_at;
    let mut went_away = |at: UnixMs, cause: LateCause| {
        let took = at.saturating_sub(reached);
        if took > longest.0 {
            longest = (took, cause);
        }
        reached = reached.max(at);
    };
    if is_first {
        // Before the run was there nothing else could hold it up. And only a hand back moves the due time of a
        // first attempt beyond the two instants it comes from.
        went_away(run.created_at, LateCause::RegisteredLate);
        went_away(run.due_at, LateCause::HandedBack);
    }
    let mut obstacles = vec![
        (wakeup.started_at, LateCause::NoWorker),
        (wakeup.woken_for(run.due_at), LateCause::WokenLate),
        (wakeup.claimed_at, LateCause::ClaimSlow),
        (dispatched_at, LateCause::DispatchSlow),
    ];
    obstacles.extend(wakeup.busy_until.map(|at| (at, LateCause::SlotsBusy)));
    obstacles.extend(wakeup.failed_until.map(|at| (at, LateCause::DatabaseUnavailable)));
    obstacles.sort_by_key(|(at, cause)| (*at, LateCause::ALL.iter().position(|other| other == cause)));
    for (at, cause) in obstacles {
        went_away(at, cause);
    }
    match (longest.1, run.late_cause) {
        (LateCause::HandedBack, Some(LateCause::TargetCongested)) => Some(LateCause::TargetCongested),
        (cause, _) => Some(cause),
    }
}
