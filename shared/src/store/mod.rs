//! The store: the only truth. Two plain modules hold all SQL, [`postgres`] and [`sqlite`], with the
//! same files and method names; a conformance suite runs on both.
//!
//! Every method is one commit. Methods are named noun first, so a prefix search lists a resource.

mod history;
mod migrations;
pub mod postgres;
mod rows;
mod selection;
mod sql;
pub mod sqlite;
mod standing;
mod values;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

pub use self::history::{HistoryFilter, HistoryPage, HistoryRow};
pub use self::values::*;

use crate::model::run::Settlement;
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
    /// [`StoreError::OccurrenceTaken`] when the calendar instant to arm, or a later one, has a run that is not
    /// pending: nothing is stored, the caller picks one after it.
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

    /// Stored definitions in id order, of deleted schedules too, after this id: what is to be sealed anew.
    async fn schedule_payloads(&self, after: Option<ScheduleId>, limit: i64) -> Result<Vec<StoredPayload>, StoreError>;

    /// Puts the same definitions in their place, sealed anew, where the revision is still the one that was read;
    /// answers how many were. Not a change of the schedule: its revision and its times stay.
    async fn schedule_reseal(&self, batch: &[StoredPayload]) -> Result<u64, StoreError>;

    /// Schedules in id order, after `page.after`.
    async fn schedule_list(&self, filter: &ScheduleFilter, page: &Page) -> Result<Vec<ScheduleRow>, StoreError>;

    /// Deletes what matches and cancels what is pending of it. Finished schedules are deleted too.
    async fn schedule_delete(&self, selection: &Selection) -> Result<Deleted, StoreError>;

    /// Takes the armed run away until resumed.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] when it is finished. Paused already: nothing.
    async fn schedule_pause(&self, id: ScheduleId) -> Result<(), StoreError>;

    /// Arms a paused schedule of this revision again; answers the armed instant, `None` when it was active already.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] when it is finished;
    /// [`StoreError::RevisionMoved`]; [`StoreError::OccurrenceTaken`].
    async fn schedule_resume(
        &self,
        id: ScheduleId,
        revision: i64,
        arming: &Arming,
    ) -> Result<Option<UnixMs>, StoreError>;

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

    /// Prolongs leases to the database's now + `lease`; answers in the order asked.
    async fn run_renew(&self, held: &[(RunId, i64)], lease: Duration) -> Result<Vec<Renewal>, StoreError>;

    /// The run with this id, with its kept attempts.
    async fn run_get(&self, id: RunId) -> Result<Option<(RunRow, Vec<AttemptRow>)>, StoreError>;

    /// Runs of a schedule, newest nominal instant first, after `after` (nominal, series).
    async fn run_list(
        &self,
        schedule: ScheduleId,
        after: Option<(UnixMs, i64)>,
        limit: i64,
    ) -> Result<Vec<RunRow>, StoreError>;

    /// Entries of the history, newest first unless asked otherwise.
    async fn history_list(&self, filter: &HistoryFilter, page: &HistoryPage) -> Result<Vec<HistoryRow>, StoreError>;

    /// What the monitor needs to know, in one statement.
    async fn wake_read(&self) -> Result<WakeReading, StoreError>;

    /// The same, and how much is waiting, coming and old: still one statement, dearer when much is coming.
    async fn wake_forecast(&self) -> Result<(WakeReading, Forecast), StoreError>;

    /// Deletes up to `limit` finished rows whose time has come; answers how many went. A finished schedule stays
    /// while runs of it are open.
    async fn prune(&self, limit: i64) -> Result<u64, StoreError>;

    /// Begins a monitor's term: the next epoch.
    async fn epoch_next(&self) -> Result<i64, StoreError>;

    /// Whether the database answers; its clock.
    async fn ping(&self) -> Result<UnixMs, StoreError>;

    /// Whether the database takes writes.
    async fn probe(&self) -> Result<(), StoreError>;

    /// Active schedules that should have an armed run and have none, up to 100 (for `doctor`; a full scan).
    async fn schedule_dry(&self) -> Result<Vec<ScheduleId>, StoreError>;

    /// Up to `limit` schedules in id order, and what is armed of them by rules of time zones older than `rules`.
    async fn zone_examine(&self, rules: i32, after: Option<ScheduleId>, limit: i64) -> Result<ZonePage, StoreError>;

    /// Up to `limit` schedules that were armed by rules older than the newest, or nobody knows by which.
    async fn zone_unsure(&self, limit: i64) -> Result<Vec<Zoned>, StoreError>;

    /// Moves an armed run that was never tried, fenced by the revision; answers when it is due, `None` when it, or its
    /// schedule, is not what it was, or the instant was run already.
    async fn zone_move(&self, change: &ZoneMove) -> Result<Option<UnixMs>, StoreError>;

    /// These armed runs are where they belong by these rules.
    async fn zone_sure(&self, runs: &[RunId], rules: i32) -> Result<(), StoreError>;

    /// The cluster knows these rules: what is armed by older ones from now on is told as unsure.
    async fn zone_begin(&self, rules: i32) -> Result<(), StoreError>;

    /// Everything that was armed before was examined by these rules.
    async fn zone_end(&self, rules: i32) -> Result<(), StoreError>;

    /// What is amiss, for `doctor`: three statements, whose cost follows what failed and not what there is.
    async fn symptoms(&self) -> Result<Symptoms, StoreError>;

    /// Whether a pooler stands between, as far as it was connected to.
    fn is_pooled(&self) -> bool;

    /// Brings the schema up to this version. Safe with several starters; takes no lock for longer
    /// than two seconds at a time.
    async fn migrate(&self) -> Result<(), StoreError>;

    /// Keeps a key; its times are absolute, by the database's clock.
    async fn api_key_create(&self, key: &ApiKey) -> Result<(), StoreError>;

    /// The key with this id, valid or not.
    async fn api_key_get(&self, id: Uuid) -> Result<Option<ApiKey>, StoreError>;

    /// All keys, oldest first.
    async fn api_key_list(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// Takes a key back; false when there is none with this id that was not.
    async fn api_key_revoke(&self, id: Uuid) -> Result<bool, StoreError>;

    /// Whether any key was made that was not taken back.
    async fn api_key_exists(&self) -> Result<bool, StoreError>;

    /// How much an application has, each counted up to `limit`; runs from `due_from` to before `due_until`.
    async fn application_usage(
        &self,
        application: &str,
        due: std::ops::Range<UnixMs>,
        limit: i64,
    ) -> Result<Usage, StoreError>;

    /// Whether the schema is what this version needs; a newer one is.
    ///
    /// # Errors
    /// [`StoreError::SchemaBehind`] until somebody migrated it.
    async fn schema_check(&self) -> Result<(), StoreError>;

    /// Statements sent to the database since this store was opened.
    fn statements(&self) -> u64;

    /// For how long the database has failed: since the first call that did and after which none succeeded. `None` while
    /// it serves, as far as anybody asked it.
    fn failing_for(&self) -> Option<Duration>;

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
        Some(("sqlite", path)) if path.contains(":memory:") || path.contains("mode=memory") => Err(StoreError::Broken(
            "a database in memory is not supported: every connection would have its own; give a file".to_owned(),
        )),
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
    /// How long dead letters are kept, with their attempts and their schedule when that is finished.
    pub retain_dead: Duration,
    /// How long entries of the history are kept.
    pub retain_history: Duration,
    /// Connections at most.
    pub connections: u32,
    /// How long a call may take; who does not answer within this time is given up.
    pub deadline: Duration,
    /// `None` in production: the database's clock. Tests inject one here.
    pub injected_now: Option<InjectedNow>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        Self {
            retain_runs: days(3),
            retain_dead: days(30),
            retain_history: days(30),
            connections: 10,
            deadline: Duration::from_secs(5),
            injected_now: None,
        }
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
        /// The latest calendar instant of the schedule that a run has taken; a pending one is not, it is replaced.
        latest: UnixMs,
    },
    /// The schedule changed since it was read: read it again.
    #[error("the schedule changed meanwhile")]
    RevisionMoved,
    /// The schedule's state does not allow it.
    #[error("the schedule is {0:?}")]
    WrongState(ScheduleState),
    /// The database could not be reached or refused for a passing reason: try again.
    #[error("database unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The database answered something this version cannot read, or refused for good.
    #[error("database error: {0}")]
    Broken(String),
    /// The schema is older than this version needs, and others bring it up to date.
    #[error("the schema is not what this version needs: `reveille migrate` has not run yet")]
    SchemaBehind,
    /// The schema could not be brought up to date.
    #[error("migration failed")]
    Migration(#[source] sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for StoreError {
    /// Everything that another try, another connection or a recovered server may mend is `Unavailable`.
    fn from(error: sqlx::Error) -> Self {
        let lasting = match &error {
            sqlx::Error::Database(database) => {
                database.is_unique_violation() || database.is_check_violation() || refuses_the_data(database.as_ref())
            }
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
            // What answers is no database that can serve before somebody changes it.
            Self::Unavailable(sqlx::Error::Configuration(_)) => false,
            // SQLite: cannot open (526: a folder), is none, is corrupt. A SQLSTATE has five characters.
            Self::Unavailable(sqlx::Error::Database(error))
                if matches!(error.code().as_deref(), Some("14" | "526" | "26" | "11")) =>
            {
                false
            }
            Self::Unavailable(_) | Self::SchemaBehind => true,
            Self::Migration(
                sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _),
            ) => !matches!(error, sqlx::Error::Database(_)),
            _ => false,
        }
    }

    /// Whether somebody else held a row for longer than we wait; nothing was written.
    pub fn is_of_a_lock(&self) -> bool {
        // Differs: on SQLite nobody holds a row alone; who waits there waits for the file, and is told so as an outage.
        matches!(self, Self::Unavailable(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03"))
    }

    /// Whether the database itself is in trouble, and not what it was asked, or a row that somebody else holds.
    fn is_of_the_database(&self) -> bool {
        matches!(self, Self::Unavailable(error) if error.as_database_error().is_none_or(|database| {
            !matches!(database.code().as_deref(), Some("55P03" | "57014" | "40001" | "40P01"))
        }))
    }

    /// Whether one member of a batch may be at fault alone: the database answered, nothing was written, and the
    /// others may succeed without it.
    pub fn may_be_of_one(&self) -> bool {
        match self {
            // Everything else that passes is the database's own trouble.
            Self::Unavailable(_) => self.is_of_a_lock(),
            Self::SchemaBehind | Self::Migration(_) => false,
            _ => true,
        }
    }
}

/// SQLSTATE classes 22 (data exception) and 54 (program limit exceeded): the same data is refused again. SQLite's codes
/// are no SQLSTATEs, which have five characters.
fn refuses_the_data(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| code.len() == 5 && (code.starts_with("22") || code.starts_with("54")))
}

/// Whole milliseconds of a duration, as the statements take them.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
