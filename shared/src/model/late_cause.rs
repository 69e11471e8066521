//! The causes for which a run may be late, and their words.

use serde::{Deserialize, Serialize};

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
