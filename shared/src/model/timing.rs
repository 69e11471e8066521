//! When a schedule fires: the five timings as pure functions of the registered text and `now`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::UnixMs;
use super::run::Successor;

/// Which of the five timings a schedule has. Serialises to the wire's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimingKind {
    /// A calendar expression of 5 fields, or 6 with seconds first.
    Cron,
    /// As soon as possible, once.
    Now,
    /// At a local date and time, once; a past one is due now.
    Date,
    /// A number of seconds after registration, once.
    Delay,
    /// A number of seconds after registration, then after the end of each run.
    DelayRecur,
}

/// A validated timing.
#[derive(Clone, Debug)]
pub struct Timing {}

/// Why a timing was refused; the message is for the caller and names no field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The `schedule` text is not of the type's form.
    #[error("{0}")]
    Schedule(String),
    /// The `timezone` is not an IANA name.
    #[error("{0}")]
    Timezone(String),
    /// The timing is well formed and has no instant to come.
    #[error("the schedule never fires: no instant matches within the supported range")]
    NeverFires,
}

/// How a registration arms a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arming {
    /// The first instant.
    pub at: ArmAt,
    /// Whether it is a calendar occurrence (series 0) or an arming of its own (the schedule's next series).
    pub calendar: bool,
    /// What happens when the same document is registered again.
    pub unchanged: OnUnchanged,
}

/// The instant an arming names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArmAt {
    /// This instant; a past one is due at once.
    At(UnixMs),
    /// This many milliseconds after the database's now.
    AfterMs(i64),
}

/// What registering an unchanged document does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnchanged {
    /// Nothing, unless the armed run is missing (cron, delay-recur).
    Keep,
    /// Nothing while the date is to come and not finished, else arm anew (date).
    KeepWhileFuture,
    /// Arm anew (now, delay).
    Rearm,
}

/// One instant of a preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewedInstant {
    /// The instant.
    pub at: UnixMs,
    /// RFC 3339 in the schedule's zone, with its offset at that instant.
    pub local: String,
    /// Why daylight saving moved it, when it did.
    pub note: Option<String>,
}

impl Timing {
    /// Parses the registered text.
    ///
    /// # Errors
    /// [`TimingError::Schedule`] or [`TimingError::Timezone`] with a sentence for the caller.
    pub fn parse(_kind: TimingKind, _schedule: &str, _timezone: &str) -> Result<Self, TimingError> {
        Err(TimingError::NeverFires)
    }

    /// How registering it at `now` arms the schedule.
    ///
    /// # Errors
    /// [`TimingError::NeverFires`] when a cron expression has no instant after `now`.
    pub fn arming(&self, _now: UnixMs) -> Result<Arming, TimingError> {
        Err(TimingError::NeverFires)
    }

    /// The first calendar instant strictly after `after`; `None` for every timing but cron, and for a
    /// cron expression without further instants.
    pub fn next_after(&self, _after: UnixMs) -> Option<UnixMs> {
        None
    }

    /// When the schedule fires after its run of `nominal` ended at `now`: a calendar goes on at the next
    /// instant after the later of the two (a clock that stepped back must not meet a finished instant).
    pub fn successor(&self, _nominal: UnixMs, _now: UnixMs) -> Option<Successor> {
        None
    }

    /// Calendar instants in the half-open interval `(after, until]`, counted up to `cap`.
    pub fn instants_between(&self, _after: UnixMs, _until: UnixMs, _cap: i32) -> i32 {
        0
    }

    /// The next `count` instants strictly after `from`, with what daylight saving did to them. `now`,
    /// `delay` and `delay-recur` count from `from`.
    pub fn preview(&self, _from: UnixMs, _count: usize) -> Vec<PreviewedInstant> {
        Vec::new()
    }
}

impl fmt::Display for TimingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cron => "cron",
            Self::Now => "now",
            Self::Date => "date",
            Self::Delay => "delay",
            Self::DelayRecur => "delay-recur",
        })
    }
}
