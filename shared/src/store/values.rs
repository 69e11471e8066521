//! What goes into the store and comes out of it: plain values, the same for both databases.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::access::Scope;
use crate::model::lateness::LateCause;
use crate::model::run::{ClaimedRun, OutcomeCode, RunState};
use crate::model::schedule::{ClientKey, ScheduleState};
use crate::model::timing::Arming;
use crate::model::zone::rules::Version;
use crate::model::{RunId, ScheduleId, UnixMs};

/// One registration: a validated document, ready to be written.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The id a new schedule gets; for [`super::Store::schedule_update`] the id to replace.
    pub id: ScheduleId,
    /// Who registers it.
    pub client: ClientKey,
    /// Its name.
    pub name: String,
    /// JSON of the definition: what workers and readers receive.
    pub payload: String,
    /// Equal exactly when two documents mean the same.
    pub fingerprint: String,
    /// Queue and priority of its runs.
    pub queue: String,
    /// Higher first.
    pub priority: i16,
    /// How it is armed.
    pub arming: Arming,
    /// The id its run gets when it is armed.
    pub run_id: RunId,
    /// Whether its history is kept.
    pub history_check: bool,
}

/// What a registration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upserted {
    /// One per registration, in the order asked.
    pub schedules: Vec<UpsertedSchedule>,
    /// The least instant armed by this call, to be hinted.
    pub armed_min: Option<UnixMs>,
    /// The database's now; `None` when no statement told it.
    pub now: Option<UnixMs>,
}

/// What a registration did to one schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpsertedSchedule {
    /// Its id, old or new.
    pub id: ScheduleId,
    /// Its revision now.
    pub revision: i64,
    /// What happened.
    pub change: Change,
    /// When its armed run is due; `None` when it has none (paused) or was left alone while running.
    pub due_at: Option<UnixMs>,
}

/// What a registration did to one schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// It was replaced or armed anew.
    Replaced,
    /// Nothing changed.
    Unchanged,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Created, Self::Replaced, Self::Unchanged];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Replaced => "replaced",
            Self::Unchanged => "unchanged",
        }
    }
}

/// A definition as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPayload {
    /// The schedule.
    pub id: ScheduleId,
    /// Its revision when this was read.
    pub revision: i64,
    /// JSON of its definition.
    pub payload: String,
    /// Its fingerprint.
    pub fingerprint: String,
}

/// Which schedules a list shows. Empty strings of the client key match everything.
#[derive(Clone, Debug, Default)]
pub struct ScheduleFilter {
    /// Fields that must be equal where not empty.
    pub client: ClientKey,
    /// Which states; empty: active and paused.
    pub states: Vec<ScheduleState>,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The id the page starts after.
    pub after: Option<ScheduleId>,
    /// How many at most.
    pub limit: i64,
}

/// Which schedules a deletion takes.
#[derive(Clone, Debug)]
pub enum Selection {
    /// The one with this id.
    Id(ScheduleId),
    /// Those whose client key equals this where it is not empty; all five empty matches nothing.
    Client(ClientKey),
}

/// What a deletion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Schedules deleted.
    pub count: u64,
    /// Runs of them that are being dispatched at this moment and cannot be called back.
    pub in_flight: u64,
}

/// What a trigger did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Triggered {
    /// The run it added.
    pub run_id: RunId,
    /// When it is due: now.
    pub due_at: UnixMs,
}

/// A claim.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Free slots of the claimer: at least 1.
    pub limit: i32,
    /// Which worker claims, for people.
    pub owner: String,
    /// How long it may hold what it takes.
    pub lease: Duration,
    /// The queues it serves.
    pub queues: Vec<String>,
}

/// What a claim took.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The database's now at the claim.
    pub now: UnixMs,
    /// The least `due_at` after now among pending runs.
    pub next_at: Option<UnixMs>,
    /// The runs, in the order to dispatch them.
    pub runs: Vec<ClaimedRun>,
    /// Whether more may be claimable right now: claim again when slots are free.
    pub more: bool,
}

impl Claimed {
    /// Puts what a claim took into the order to dispatch it, and tells whether more may be waiting: a
    /// full batch leaves some behind, and so does a full share of expired leases.
    pub(super) fn ordered(now: UnixMs, next_at: Option<UnixMs>, mut runs: Vec<ClaimedRun>, limit: i32) -> Self {
        runs.sort_by_key(|run| (std::cmp::Reverse(run.priority), run.due_at, run.id));
        let limit = usize::try_from(limit).unwrap_or(0);
        let reclaimed = runs.iter().filter(|run| run.reclaimed).count();
        let more = runs.len() >= limit || reclaimed >= (limit / 2).max(1);
        Self { now, next_at, runs, more }
    }
}

/// What a settle did.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The database's now.
    pub now: UnixMs,
    /// One per settlement, in the order asked.
    pub results: Vec<SettleResult>,
    /// The least instant that became pending, to be hinted.
    pub armed_min: Option<UnixMs>,
}

impl Settled {
    pub(super) fn lower(&mut self, armed_at: Option<UnixMs>) {
        self.armed_min = [self.armed_min, armed_at].into_iter().flatten().min();
    }
}

/// What became of one settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleResult {
    /// The run is in this state now, by this settlement (or an earlier copy of it).
    Done(RunState),
    /// The run is not ours any more: nothing was written.
    Stale,
    /// Somebody else holds its row, or that of its schedule: nothing was written, try again.
    Held,
}

/// What became of one lease that was to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It was prolonged.
    Done,
    /// It is not ours any more.
    Lost,
    /// It is ours as it was: somebody else holds the row.
    Held,
}

/// What the monitor reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WakeReading {
    /// The database's now.
    pub now: UnixMs,
    /// The least `due_at` of pending runs.
    pub next_due: Option<UnixMs>,
    /// The least `due_at` of pending runs that are not due yet.
    pub next_ahead: Option<UnixMs>,
    /// The least `lease_until` of running runs.
    pub next_lease: Option<UnixMs>,
    /// Pending runs that are due, counted up to 10 000.
    pub overdue: i64,
}

/// What the monitor reads now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// How much is waiting and coming.
    pub backlog: Backlog,
    /// When there is something to prune.
    pub next_prune: Option<UnixMs>,
    /// By which rules of time zones what is armed was found.
    pub zones: ZoneStanding,
}

/// How the cluster stands to the rules of time zones. Versions are those of [`crate::model::zone::rules::Version`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneStanding {
    /// The newest that any monitor had.
    pub version: i32,
    /// The newest by which everything armed was examined.
    pub examined: i32,
    /// Whether something was armed by older ones, or nobody knows by which.
    pub unsure: bool,
}

/// What is armed of a schedule, for other rules of its time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zoned {
    /// The schedule.
    pub id: ScheduleId,
    /// Its revision.
    pub revision: i64,
    /// Its stored definition.
    pub payload: String,
    /// Its armed run.
    pub run_id: RunId,
    /// The instant of that.
    pub nominal_at: UnixMs,
    /// Dispatches of it so far: 0 while it was never tried.
    pub attempt: i32,
    /// The latest calendar instant of the schedule that a run has taken.
    pub taken: Option<UnixMs>,
}

/// A part of all schedules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZonePage {
    /// What is armed in it by older rules.
    pub zoned: Vec<Zoned>,
    /// The last schedule that was looked at; `None`: there was none left.
    pub last: Option<ScheduleId>,
}

/// A run that is to be armed elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneMove {
    /// Its schedule.
    pub id: ScheduleId,
    /// The revision that it was read in.
    pub revision: i64,
    /// The run.
    pub run_id: RunId,
    /// Its instant so far.
    pub from: UnixMs,
    /// Its new instant.
    pub to: UnixMs,
    /// Version of the rules that say so.
    pub rules: i32,
}

impl ZoneMove {
    /// For the history.
    pub(crate) fn sentence(&self) -> String {
        let shown = |at: UnixMs| {
            let at = chrono::DateTime::from_timestamp_millis(at);
            at.map_or_else(String::new, |at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string())
        };
        let rules = Version::from_number(self.rules);
        format!("moved from {} to {} by the time zone rules {rules}", shown(self.from), shown(self.to))
    }
}

/// What whoever is called at night asks first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symptoms {
    /// Queues with pending runs, up to 100, in order.
    pub queues: Vec<String>,
    /// Dead letters, counted up to 10 000.
    pub dead: i64,
    /// Recurring schedules whose last run failed, as far as the last thousand failures show, up to 100.
    pub failing: Vec<ScheduleId>,
}

/// How much is waiting and how much is coming, as the leading monitor counted it: what workers are scaled by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// Pending runs that are due, counted up to 10 000.
    pub overdue_runs: i64,
    /// Runs that workers hold, counted up to 10 000.
    pub running_runs: i64,
    /// Runs that become due in the next minute, counted up to 10 000.
    pub due_next_minute: i64,
    /// Runs that become due in the next five minutes, counted up to 10 000.
    pub due_next_five_minutes: i64,
    /// When that was, by the database's clock.
    pub as_of_ms: UnixMs,
}

/// A key of the API, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id, which is no secret.
    pub id: Uuid,
    /// SHA-256 of its secret. A secret of 256 random bits needs no slow hash: there is nothing to guess.
    pub digest: Vec<u8>,
    /// What it lets its holder do.
    pub scope: Scope,
    /// The application it is limited to; `None`: all.
    pub application: Option<String>,
    /// For people.
    pub name: String,
    /// When it was made.
    pub created_at: UnixMs,
    /// When it ends by itself.
    pub expires_at: Option<UnixMs>,
    /// When it was taken back.
    pub revoked_at: Option<UnixMs>,
}

impl ApiKey {
    /// Whether it opens anything at this instant.
    pub fn is_valid(&self, now: UnixMs) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

/// How much an application has, each counted up to a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its schedules that are active or paused.
    pub schedules: i64,
    /// Its pending runs that are due in a span of time.
    pub due: i64,
}

/// A schedule as it is read.
#[derive(Clone, Debug)]
pub struct ScheduleRow {
    /// Its id.
    pub id: ScheduleId,
    /// JSON of its definition.
    pub payload: String,
    /// Its state.
    pub state: ScheduleState,
    /// Its revision.
    pub revision: i64,
    /// Successful runs.
    pub iterations: i64,
    /// When it was registered first.
    pub created_at: UnixMs,
    /// When it was changed last.
    pub updated_at: UnixMs,
    /// Its armed run of the current revision, or the last one when it is finished.
    pub current: Option<CurrentRun>,
}

/// The run that stands for a schedule's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentRun {
    /// Its id.
    pub id: RunId,
    /// Its state.
    pub state: RunState,
    /// When it is or was due.
    pub due_at: UnixMs,
    /// Attempts so far.
    pub attempt: i32,
    /// How its last attempt or the run ended.
    pub outcome: Option<OutcomeCode>,
}

/// A run as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// The schedule it belongs to.
    pub schedule_id: ScheduleId,
    /// Revision of the schedule that armed it.
    pub revision: i64,
    /// 0 for calendar occurrences, else the arming's number.
    pub series: i64,
    /// The instant it is the run of.
    pub nominal_at: UnixMs,
    /// When it can be claimed.
    pub due_at: UnixMs,
    /// Whether it is or was the armed one.
    pub armed: bool,
    /// Its queue.
    pub queue: String,
    /// Higher first.
    pub priority: i16,
    /// Its state.
    pub state: RunState,
    /// Attempts so far.
    pub attempt: i32,
    /// Expired leases so far.
    pub crashes: i32,
    /// Fencing token of the latest claim.
    pub lease_token: i64,
    /// Who claimed it last.
    pub lease_owner: Option<String>,
    /// Until when it is held, while running.
    pub lease_until: Option<UnixMs>,
    /// When it was claimed last.
    pub claimed_at: Option<UnixMs>,
    /// When it ended.
    pub finished_at: Option<UnixMs>,
    /// How its last attempt or the run ended.
    pub outcome: Option<OutcomeCode>,
    /// HTTP status of the last answer.
    pub http_status: Option<i32>,
    /// One sentence about the outcome.
    pub detail: Option<String>,
    /// Instants that passed before it started.
    pub coalesced: i32,
    /// Instants that passed while it ran.
    pub skipped: i32,
    /// When a worker was awake for its last attempt that is settled; `None` when nothing was dispatched.
    pub woken_at: Option<UnixMs>,
    /// When that attempt was dispatched.
    pub dispatched_at: Option<UnixMs>,
    /// When its target began to answer.
    pub first_byte_at: Option<UnixMs>,
    /// Why the last attempt that was late was late.
    pub late_cause: Option<LateCause>,
}

/// A kept attempt of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// 1 for the first dispatch.
    pub attempt: i32,
    /// The fencing token it carried.
    pub lease_token: i64,
    /// Who dispatched it.
    pub worker: String,
    /// When it began.
    pub started_at: UnixMs,
    /// When it ended.
    pub ended_at: UnixMs,
    /// How it ended.
    pub outcome: OutcomeCode,
    /// HTTP status of the answer.
    pub http_status: Option<i32>,
    /// One sentence about the outcome.
    pub detail: String,
}
