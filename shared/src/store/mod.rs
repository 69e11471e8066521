//! The store: the only truth. Two plain modules hold all SQL, [`postgres`] and [`sqlite`], with the
//! same files and method names; a conformance suite runs on both.
//!
//! Every method is one commit. Methods are named noun first, so a prefix search lists a resource.

pub mod postgres;
mod rows;
mod sql;
pub mod sqlite;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::model::run::{ClaimedRun, OutcomeCode, RunState, Settlement};
use crate::model::schedule::{ClientKey, ScheduleState};
use crate::model::timing::Arming;
use crate::model::{RunId, ScheduleId, UnixMs};

/// The database, whichever it is.
///
/// All due and lease decisions use the database's clock inside the statement. Errors: every method
/// answers [`StoreError::Unavailable`] when the database cannot be reached or refuses for a passing
/// reason, and then may or may not have committed: each is safe to call again.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Registers schedules by client key: creates, replaces or leaves alone, and arms. Client keys in
    /// one call must differ. Answers are in the order asked.
    ///
    /// # Errors
    /// [`StoreError::OccurrenceTaken`] when the calendar instant to arm already has a run: nothing is
    /// stored, the caller picks a later one.
    async fn schedule_upsert(&self, batch: &[Registration]) -> Result<Upserted, StoreError>;

    /// Replaces the schedule with this id, client key included.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::ClientKeyTaken`] when the new client key belongs to
    /// another schedule, [`StoreError::OccurrenceTaken`] as in [`Store::schedule_upsert`].
    async fn schedule_update(&self, registration: &Registration) -> Result<Upserted, StoreError>;

    /// The schedule with this id, finished ones included, deleted ones not.
    async fn schedule_get(&self, id: ScheduleId) -> Result<Option<ScheduleRow>, StoreError>;

    /// Stored payloads of the schedules with these client keys, by which masked secrets are restored.
    async fn schedule_payload_by_client(&self, client: &ClientKey) -> Result<Option<String>, StoreError>;

    /// Schedules in id order, after `page.after`.
    async fn schedule_list(&self, filter: &ScheduleFilter, page: &Page) -> Result<Vec<ScheduleRow>, StoreError>;

    /// Deletes what matches and cancels what is pending of it. Finished schedules are deleted too.
    async fn schedule_delete(&self, selection: &Selection) -> Result<Deleted, StoreError>;

    /// Takes the armed run away until resumed.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] when it is finished. Paused already: nothing.
    async fn schedule_pause(&self, id: ScheduleId) -> Result<(), StoreError>;

    /// Arms a paused schedule again; answers the armed instant, `None` when it was active already.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] when it is finished;
    /// [`StoreError::OccurrenceTaken`].
    async fn schedule_resume(&self, id: ScheduleId, arming: &Arming) -> Result<Option<UnixMs>, StoreError>;

    /// Adds a run that is due now and is not the armed one. Answers its id and instant.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] when it is paused.
    async fn schedule_trigger(&self, id: ScheduleId) -> Result<Triggered, StoreError>;

    /// Takes up to `limit` due runs and expired leases under a new lease, in one commit, highest
    /// priority first.
    async fn run_claim(&self, claim: &Claim) -> Result<Claimed, StoreError>;

    /// The one exit of runs. Settles those whose token still holds, arms their successors, reports
    /// the others as stale. Answers are in the order asked. A batch names a run once per token; sending
    /// the same batch twice is safe.
    async fn run_settle(&self, batch: &[Settlement]) -> Result<Settled, StoreError>;

    /// Prolongs leases to the database's now + `lease`; answers which are still held, in the order asked.
    async fn run_renew(&self, held: &[(RunId, i64)], lease: Duration) -> Result<Vec<bool>, StoreError>;

    /// The run with this id, with its kept attempts.
    async fn run_get(&self, id: RunId) -> Result<Option<(RunRow, Vec<AttemptRow>)>, StoreError>;

    /// Runs of a schedule, newest nominal instant first, after `after` (nominal, series).
    async fn run_list(
        &self,
        schedule: ScheduleId,
        after: Option<(UnixMs, i64)>,
        limit: i64,
    ) -> Result<Vec<RunRow>, StoreError>;

    /// What the monitor needs to know, in one statement.
    async fn wake_read(&self) -> Result<WakeReading, StoreError>;

    /// Deletes up to `limit` finished rows whose time has come; answers how many went.
    async fn prune(&self, limit: i64) -> Result<u64, StoreError>;

    /// Begins a monitor's term: the next epoch.
    async fn epoch_next(&self) -> Result<i64, StoreError>;

    /// Whether the database answers; its clock.
    async fn ping(&self) -> Result<UnixMs, StoreError>;

    /// Active schedules that should have an armed run and have none, up to 100 (for `doctor`; a full scan).
    async fn schedule_dry(&self) -> Result<Vec<ScheduleId>, StoreError>;

    /// Brings the schema up to this version. Safe with several starters; takes no lock for longer
    /// than two seconds at a time.
    async fn migrate(&self) -> Result<(), StoreError>;

    /// Statements sent to the database since this store was opened.
    fn statements(&self) -> u64;

    /// Closes the connections.
    async fn close(&self);
}

/// Opens the store at `url`: `sqlite:PATH` or `postgres://…`.
///
/// # Errors
/// [`StoreError::Broken`] when the URL is neither; [`StoreError::Unavailable`] when the SQLite file
/// cannot be opened. PostgreSQL is connected on first use.
pub async fn open(url: &str, settings: StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    match url.split_once(':') {
        Some(("sqlite", path)) => Ok(Arc::new(sqlite::SqliteStore::open(path, settings).await?)),
        Some(("postgres" | "postgresql", _)) => Ok(Arc::new(postgres::PostgresStore::open(url, settings)?)),
        _ => Err(StoreError::Broken("the database URL is neither sqlite:PATH nor postgres://…".to_owned())),
    }
}

/// Settings of a store, whichever database it is.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// How long finished runs and schedules are kept.
    pub retain_runs: Duration,
    /// Connections at most.
    pub connections: u32,
    /// `None` in production: the database's clock. Tests inject one here.
    pub injected_now: Option<InjectedNow>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { retain_runs: Duration::from_secs(3 * 24 * 3600), connections: 10, injected_now: None }
    }
}

/// A clock that tests set, used by the statements in place of the database's.
#[derive(Clone, Debug)]
pub struct InjectedNow(Arc<AtomicI64>);

impl InjectedNow {
    /// A clock that shows `now`.
    pub fn new(now: UnixMs) -> Self {
        Self(Arc::new(AtomicI64::new(now)))
    }

    /// What it shows.
    pub fn get(&self) -> UnixMs {
        self.0.load(Ordering::SeqCst)
    }

    /// Sets it, backwards too.
    pub fn set(&self, now: UnixMs) {
        self.0.store(now, Ordering::SeqCst);
    }

    /// Moves it on by `ms` and answers the new instant.
    pub fn advance(&self, ms: i64) -> UnixMs {
        self.0.fetch_add(ms, Ordering::SeqCst) + ms
    }
}

/// Counts the statements a store sends, for the metric and for the tests that hold idle roles to zero.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatementCounter(Arc<AtomicU64>);

impl StatementCounter {
    pub(crate) fn count(&self, statements: u64) {
        self.0.fetch_add(statements, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What went wrong, by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such schedule or run.
    #[error("not found")]
    NotFound,
    /// The client key belongs to another schedule.
    #[error("the client key belongs to schedule {0}")]
    ClientKeyTaken(ScheduleId),
    /// The instant to arm already has a run; take one after both this and now.
    #[error("the occurrence already has a run; the schedule's latest is at {latest}")]
    OccurrenceTaken {
        /// The latest calendar instant of the schedule that has a run.
        latest: UnixMs,
    },
    /// The schedule's state does not allow it.
    #[error("the schedule is {0:?}")]
    WrongState(ScheduleState),
    /// The database could not be reached or refused for a passing reason: try again.
    #[error("database unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The database answered something this version cannot read, or refused for good.
    #[error("database error: {0}")]
    Broken(String),
    /// The schema could not be brought up to date.
    #[error("migration failed")]
    Migration(#[source] sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for StoreError {
    /// Everything that another try, another connection or a recovered server may mend is `Unavailable`.
    fn from(error: sqlx::Error) -> Self {
        let lasting = match &error {
            sqlx::Error::Database(database) => database.is_unique_violation() || database.is_check_violation(),
            sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::RowNotFound => true,
            _ => false,
        };
        if lasting { Self::Broken(error.to_string()) } else { Self::Unavailable(error) }
    }
}

impl StoreError {
    /// Whether the same call may succeed later although nobody changed anything here: the database was
    /// away, not wrong.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Migration(
                sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _),
            ) => !matches!(error, sqlx::Error::Database(_)),
            _ => false,
        }
    }
}

/// Whole milliseconds of a duration, as the statements take them.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// One registration: a validated document, ready to be written.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The id a new schedule gets; for [`Store::schedule_update`] the id to replace.
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
}

/// What a registration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upserted {
    /// One per registration, in the order asked.
    pub schedules: Vec<UpsertedSchedule>,
    /// The least instant armed by this call, to be hinted.
    pub armed_min: Option<UnixMs>,
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
    fn ordered(now: UnixMs, next_at: Option<UnixMs>, mut runs: Vec<ClaimedRun>, limit: i32) -> Self {
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
    fn lower(&mut self, armed_at: Option<UnixMs>) {
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
}

/// What the monitor reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WakeReading {
    /// The database's now.
    pub now: UnixMs,
    /// The least `due_at` of pending runs.
    pub next_due: Option<UnixMs>,
    /// The least `lease_until` of running runs.
    pub next_lease: Option<UnixMs>,
    /// When there is something to prune.
    pub next_prune: Option<UnixMs>,
    /// Pending runs that are due, counted up to 10 000.
    pub overdue: i64,
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
