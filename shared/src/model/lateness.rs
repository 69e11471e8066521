//! Why a run was late: one cause out of what its claimer knows, as a pure function.
//!
//! The way from the expected instant to the dispatch is cut at the moments at which an obstacle went away; the
//! obstacle with the longest stretch before it is the cause. So there is exactly one, whatever came together.

use serde::{Deserialize, Serialize};

use super::UnixMs;
use super::run::ClaimedRun;

/// A dispatch later than this has a cause.
pub const LATE_AFTER_MS: i64 = 1000;

/// Why a run was late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LateCause {
    /// A worker that held it died, and it came back when the lease ran out.
    LeaseExpired,
    /// It came into being after its time: a past date, or a predecessor that was settled late.
    RegisteredLate,
    /// A worker that stopped, or left its target alone, had it and gave it back.
    HandedBack,
    /// Its target answered so slowly that the run had to make room for others.
    TargetCongested,
    /// The worker that claimed it had not started.
    NoWorker,
    /// All slots of the worker were busy.
    SlotsBusy,
    /// The worker was not told in time.
    WokenLate,
    /// Claims failed.
    DatabaseUnavailable,
    /// The claim took long, or others were claimed before it.
    ClaimSlow,
    /// It was claimed in time, and its dispatch began slowly.
    DispatchSlow,
}

impl LateCause {
    /// All causes, in the order in which they win when two took equally long.
    pub const ALL: [Self; 10] = [
        Self::LeaseExpired,
        Self::RegisteredLate,
        Self::HandedBack,
        Self::TargetCongested,
        Self::NoWorker,
        Self::SlotsBusy,
        Self::WokenLate,
        Self::DatabaseUnavailable,
        Self::ClaimSlow,
        Self::DispatchSlow,
    ];

    /// The cause's word in the database, the API and the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeaseExpired => "lease_expired",
            Self::RegisteredLate => "registered_late",
            Self::HandedBack => "handed_back",
            Self::TargetCongested => "target_congested",
            Self::NoWorker => "no_worker",
            Self::SlotsBusy => "slots_busy",
            Self::WokenLate => "woken_late",
            Self::DatabaseUnavailable => "database_unavailable",
            Self::ClaimSlow => "claim_slow",
            Self::DispatchSlow => "dispatch_slow",
        }
    }

    /// The cause of a stored word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == word)
    }

    /// What it means, for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::LeaseExpired => "a worker that held the run died, and it came back when its lease had run out",
            Self::RegisteredLate => {
                "the run came into being after its time: the date had passed, or the run before it was settled late"
            }
            Self::HandedBack => "a worker had the run and gave it back: it was stopped, or the target was away",
            Self::TargetCongested => {
                "the target answered so slowly that calls to it piled up, and the run made room for other targets' runs"
            }
            Self::NoWorker => "no worker that serves its queue was there: the one that claimed it started later",
            Self::SlotsBusy => "all slots of the worker were busy: more concurrency or more workers would help",
            Self::WokenLate => "the worker was not told in time: a hint was lost, or the monitor or Redis was away",
            Self::DatabaseUnavailable => "the database was away: claims failed",
            Self::ClaimSlow => "the claim took long in the database, or what else was due was claimed before it",
            Self::DispatchSlow => {
                "it was claimed in time and dispatched late: the claim's answer was slow, or the machine is overloaded"
            }
        }
    }
}

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
