//! A run: the stored execution of one occurrence, its states and its one exit.
//!
//! ```text
//!                 claim                     settle
//!   ┌─────────┐ ───────────▶ ┌─────────┐ ───────────▶ succeeded │ failed │ dead
//!   │ pending │              │ running │              cancelled │ skipped │ expired
//!   └─────────┘ ◀─────────── └─────────┘
//!        ▲     settle: retry,     │ ▲
//!        │     hand back          └─┘ claim again after the lease expired (crashes + 1)
//!     register, settle of the predecessor, resume, trigger
//! ```
//!
//! Only `settle` enters a terminal state, and in the same transaction it arms the successor.

use serde::{Deserialize, Serialize};

use super::late_cause::LateCause;
use super::schedule::ScheduleState;
pub use super::timing::Successor;
use super::{RunId, ScheduleId, UnixMs};

/// State of a run. The discriminants are the database's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i16)]
pub enum RunState {
    /// Waits for `due_at`, also between retries.
    Pending = 0,
    /// Claimed: a worker holds its lease.
    Running = 1,
    /// The target accepted it.
    Succeeded = 2,
    /// It failed and gets no further attempt.
    Failed = 3,
    /// Kept as a dead letter: retries of `retry_dlq` exhausted, or it killed three workers.
    Dead = 4,
    /// Its schedule was deleted, paused or replaced before it was dispatched.
    Cancelled = 5,
    /// A policy decided against running it.
    Skipped = 6,
    /// It was not started in the time its schedule allows.
    Expired = 7,
}

impl RunState {
    /// All states, for decoding and for the documentation.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Dead,
        Self::Cancelled,
        Self::Skipped,
        Self::Expired,
    ];

    /// The state of a database code, `None` for a code this version does not know.
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as i16 == code)
    }

    /// Whether a run in this state never changes again.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The state's word in the API, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Expired => "expired",
        }
    }
}

/// A run as its claimer receives it, with what its schedule says at the moment of the claim.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedRun {
    /// Identity, the same over all attempts.
    pub id: RunId,
    /// The schedule it belongs to.
    pub schedule_id: ScheduleId,
    /// Revision of the schedule that armed it.
    pub revision: i64,
    /// 0 for calendar occurrences, else the arming's number.
    pub series: i64,
    /// The instant it is the run of.
    pub nominal_at: UnixMs,
    /// When it could be claimed: nominal, or the retry time.
    pub due_at: UnixMs,
    /// When it came into being.
    pub created_at: UnixMs,
    /// Whether its settle arms the schedule's successor.
    pub armed: bool,
    /// Higher first.
    pub priority: i16,
    /// Attempts including this one.
    pub attempt: i32,
    /// How often a lease on it expired.
    pub crashes: i32,
    /// Fencing token of this claim; every write about the run names it.
    pub lease_token: i64,
    /// Whether this claim took it over from an expired lease.
    pub reclaimed: bool,
    /// Why it was late before, or was going to be.
    pub late_cause: Option<LateCause>,
    /// What the schedule is now; `None` when its row is gone.
    pub schedule: Option<ClaimedSchedule>,
}

/// The schedule of a claimed run, as of the claim.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedSchedule {
    /// Its state.
    pub state: ScheduleState,
    /// Its revision.
    pub revision: i64,
    /// JSON of its [`super::schedule::Definition`].
    pub payload: String,
}

/// How an attempt or a run ended, as it is stored and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Stable word for what happened: `ok`, `http_status`, `timeout`, `connect`, `outlived`, ….
    pub code: OutcomeCode,
    /// HTTP status the target answered, where there was one.
    pub http_status: Option<u16>,
    /// One sentence for a person, without payloads, headers or credentials; at most 4 KiB.
    pub detail: String,
}

impl Outcome {
    /// An outcome without an HTTP status.
    pub fn new(code: OutcomeCode, detail: impl Into<String>) -> Self {
        Self { code, http_status: None, detail: detail.into() }
    }
}

/// Stable words for how an attempt or a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeCode {
    /// The target accepted it.
    Ok,
    /// The target answered with a status outside 2xx.
    HttpStatus,
    /// The deadline of the attempt passed.
    Timeout,
    /// No connection to the target.
    Connect,
    /// The connection broke, or the answer was not readable.
    Transport,
    /// The target was reached and did not take it: an error of a Redis server or of a Kafka broker.
    Rejected,
    /// Nobody listened to what was published, and the task wants a receiver.
    NoReceiver,
    /// The target may not be called: address refused, document not dispatchable.
    Refused,
    /// Trust in the lease ran out during the call; the run comes back.
    LeaseLost,
    /// The worker that held it died; with `at_most_once` it is not repeated.
    Unknown,
    /// It took down three workers.
    Crashed,
    /// The next occurrence came before the retry.
    Outlived,
    /// The schedule was deleted.
    Deleted,
    /// The schedule was paused.
    Paused,
    /// The schedule was replaced by a newer revision.
    Replaced,
}

impl OutcomeCode {
    /// All codes, for decoding.
    pub const ALL: [Self; 15] = [
        Self::Ok,
        Self::HttpStatus,
        Self::Timeout,
        Self::Connect,
        Self::Transport,
        Self::Rejected,
        Self::NoReceiver,
        Self::Refused,
        Self::LeaseLost,
        Self::Unknown,
        Self::Crashed,
        Self::Outlived,
        Self::Deleted,
        Self::Paused,
        Self::Replaced,
    ];

    /// The word stored in the database and shown in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::HttpStatus => "http_status",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Transport => "transport",
            Self::Rejected => "rejected",
            Self::NoReceiver => "no_receiver",
            Self::Refused => "refused",
            Self::LeaseLost => "lease_lost",
            Self::Unknown => "unknown",
            Self::Crashed => "crashed",
            Self::Outlived => "outlived",
            Self::Deleted => "deleted",
            Self::Paused => "paused",
            Self::Replaced => "replaced",
        }
    }

    /// The code of a stored word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == word)
    }
}

/// What a worker asks the store to do with a run it holds: the one exit.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// The run.
    pub run_id: RunId,
    /// The claim's fencing token; the settlement is void when the run has another by now.
    pub lease_token: i64,
    /// What becomes of it.
    pub exit: Exit,
    /// The attempt this ends; `None` when nothing was dispatched.
    pub attempt: Option<AttemptRecord>,
}

impl Settlement {
    /// Why the run is late: as its dispatch found, or as who hands it back foresees.
    pub fn late_cause(&self) -> Option<LateCause> {
        match &self.exit {
            Exit::HandBack { late_cause, .. } => *late_cause,
            _ => self.attempt.as_ref().and_then(|attempt| attempt.late_cause),
        }
    }
}

/// What becomes of a claimed run.
#[derive(Clone, Debug, PartialEq)]
pub enum Exit {
    /// Terminal. Arms `successor` when the run is armed and its schedule active and of its revision;
    /// without a successor the schedule is finished then.
    Finish {
        /// A terminal state.
        state: RunState,
        /// Why.
        outcome: Outcome,
        /// When the schedule fires next.
        successor: Option<Successor>,
        /// Instants of the schedule that passed before this run started (after an outage).
        coalesced: i32,
        /// Instants of the schedule that passed while this run ran.
        skipped: i32,
        /// Whether its schedule is paused in place of going on: the target is gone for good. Nothing when the schedule
        /// has moved on meanwhile.
        pauses: bool,
    },
    /// Another attempt `wait_ms` after the database's now. Becomes `Finish { Failed, Replaced }` when
    /// the schedule has moved on meanwhile.
    Retry {
        /// Milliseconds from the settle to the next attempt.
        wait_ms: i64,
        /// Why this attempt failed.
        outcome: Outcome,
    },
    /// Given back without an outcome, as if it had not been claimed: the attempt does not count, and what is
    /// known of the attempts before it stays. By a worker that stops, before or during the call, and by one that
    /// leaves the target alone.
    HandBack {
        /// Milliseconds from the settle until it is due again.
        wait_ms: i64,
        /// Why it will be late, where that is known already.
        late_cause: Option<LateCause>,
    },
    /// Not dispatched for a reason that may pass, and that people should see: a definition this worker cannot read,
    /// a secret it cannot open. The attempt does not count, so it uses up no retry and no occurrence overtakes it.
    Postpone {
        /// Milliseconds from the settle until it is due again.
        wait_ms: i64,
        /// Why.
        outcome: Outcome,
    },
}

impl Exit {
    /// Whether it is meant to pause the schedule.
    pub fn pauses(&self) -> bool {
        matches!(self, Self::Finish { pauses: true, .. })
    }

    /// How the attempt ended, `None` when nothing was attempted.
    pub fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Finish { outcome, .. } | Self::Retry { outcome, .. } | Self::Postpone { outcome, .. } => {
                Some(outcome)
            }
            Self::HandBack { .. } => None,
        }
    }
}

/// One dispatch of a run: the run's timeline, and kept together with the outcome its exit names when it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// 1 for the first dispatch.
    pub attempt: i32,
    /// When the worker began to dispatch, by its estimate of the database's clock.
    pub started_at: UnixMs,
    /// When it had the outcome, by the same estimate.
    pub ended_at: UnixMs,
    /// Who dispatched it.
    pub worker: String,
    /// When the worker was awake for it, by the same estimate.
    pub woken_at: Option<UnixMs>,
    /// When the target began to answer, by the same estimate; `None` when it did not.
    pub first_byte_at: Option<UnixMs>,
    /// Why it began more than a second late, if it did.
    pub late_cause: Option<LateCause>,
}
