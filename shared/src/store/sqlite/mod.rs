//! The store on SQLite (bundled): the embedded default. WAL with `synchronous=FULL`, so that what is
//! acknowledged is on disk; one writer connection, every read-then-write inside `BEGIN IMMEDIATE`.
//!
//! Same files and method names as [`super::postgres`]; differences carry a comment that begins "Differs:".

mod access;
mod history;
mod run;
mod schedule;
mod settle;
pub mod sql;
mod wake;
mod writer;
mod zone;

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use uuid::Uuid;

use self::writer::{Writer, Writing};

use super::standing::Standing;
use super::{
    ApiKey, AttemptRow, Claim, Claimed, Deleted, Forecast, HistoryFilter, HistoryPage, HistoryRow, Page, Registration,
    Renewal, RunRow, ScheduleFilter, ScheduleRow, Selection, Settled, StatementCounter, Store, StoreError,
    StoreSettings, StoredPayload, Symptoms, Triggered, Upserted, Usage, WakeReading, ZoneMove, ZonePage, Zoned,
    migrations, millis,
};
use crate::model::run::Settlement;
use crate::model::schedule::ClientKey;
use crate::model::timing::Arming;
use crate::model::{RunId, ScheduleId, UnixMs};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(migrations::sqlite);

/// Bytes of the write-ahead log that stay when everything in it has been written into the file.
const WAL_LIMIT: &str = "16777216";

/// How long a statement waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The store on SQLite.
///
/// Differs: counts a transaction as one statement; what happens inside one never leaves the process.
pub struct SqliteStore {
    writer: Writer,
    readers: SqlitePool,
    settings: StoreSettings,
    statements: StatementCounter,
    standing: Standing,
}

impl SqliteStore {
    /// A store in the file at `path`, which is created when missing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the file cannot be opened.
    pub async fn open(path: &str, settings: StoreSettings) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path.strip_prefix("//").unwrap_or(path))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            // What a long reader made of the log is given back afterwards.
            .pragma("journal_size_limit", WAL_LIMIT);
        let writer = Writer::open(quiet(1), options.clone()).await?;
        let readers = quiet(settings.connections.clamp(1, 4)).connect_lazy_with(options.read_only(true));
        Ok(Self { writer, readers, settings, statements: StatementCounter::default(), standing: Standing::default() })
    }

    fn retain_ms(&self) -> i64 {
        millis(self.settings.retain_runs)
    }

    fn injected_now(&self) -> Option<UnixMs> {
        self.settings.injected_now.as_ref().map(super::InjectedNow::get)
    }

    /// The one way to write.
    async fn begin(&self) -> Result<(Writing, UnixMs), StoreError> {
        self.statements.count(1);
        let mut transaction = self.writer.begin().await?;
        let now = self.read_now(&mut transaction).await?;
        Ok((transaction, now))
    }

    async fn read_now(&self, connection: &mut SqliteConnection) -> Result<UnixMs, StoreError> {
        Ok(sqlx::query_scalar(sql::NOW).bind(self.injected_now()).fetch_one(connection).await?)
    }
}

/// A pool that leaves idle connections alone.
fn quiet(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(10))
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

#[async_trait]
impl Store for SqliteStore {
    async fn schedule_upsert(&self, batch: &[Registration]) -> Result<Upserted, StoreError> {
        self.standing.noted(self.upsert(batch).await)
    }

    async fn schedule_update(&self, registration: &Registration) -> Result<Upserted, StoreError> {
        self.standing.noted(self.update(registration).await)
    }

    async fn schedule_get(&self, id: ScheduleId) -> Result<Option<ScheduleRow>, StoreError> {
        self.get(id).await
    }

    async fn schedule_payload_by_client(&self, client: &ClientKey) -> Result<Option<String>, StoreError> {
        self.payload_by_client(client).await
    }

    async fn schedule_payloads(&self, after: Option<ScheduleId>, limit: i64) -> Result<Vec<StoredPayload>, StoreError> {
        self.payloads(after, limit).await
    }

    async fn schedule_reseal(&self, batch: &[StoredPayload]) -> Result<u64, StoreError> {
        self.standing.noted(self.reseal(batch).await)
    }

    async fn schedule_list(&self, filter: &ScheduleFilter, page: &Page) -> Result<Vec<ScheduleRow>, StoreError> {
        self.list(filter, page).await
    }

    async fn schedule_delete(&self, selection: &Selection) -> Result<Deleted, StoreError> {
        self.standing.noted(self.delete(selection).await)
    }

    async fn schedule_pause(&self, id: ScheduleId) -> Result<(), StoreError> {
        self.standing.noted(self.pause(id).await)
    }

    async fn schedule_resume(
        &self,
        id: ScheduleId,
        revision: i64,
        arming: &Arming,
    ) -> Result<Option<UnixMs>, StoreError> {
        self.standing.noted(self.resume(id, revision, arming).await)
    }

    async fn schedule_trigger(&self, id: ScheduleId) -> Result<Triggered, StoreError> {
        self.standing.noted(self.trigger(id).await)
    }

    async fn run_claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        match self.claim(claim).await {
            // What writes nothing works on a full disk as well.
            Ok(nothing) if nothing.runs.is_empty() => Ok(nothing),
            claimed => self.standing.noted(claimed),
        }
    }

    async fn run_settle(&self, batch: &[Settlement]) -> Result<Settled, StoreError> {
        self.standing.noted(self.settle(batch).await)
    }

    async fn run_renew(&self, held: &[(RunId, i64)], lease: Duration) -> Result<Vec<Renewal>, StoreError> {
        self.standing.noted(self.renew(held, lease).await)
    }

    async fn run_get(&self, id: RunId) -> Result<Option<(RunRow, Vec<AttemptRow>)>, StoreError> {
        self.run(id).await
    }

    async fn run_list(
        &self,
        schedule: ScheduleId,
        after: Option<(UnixMs, i64)>,
        limit: i64,
    ) -> Result<Vec<RunRow>, StoreError> {
        self.runs(schedule, after, limit).await
    }

    async fn history_list(&self, filter: &HistoryFilter, page: &HistoryPage) -> Result<Vec<HistoryRow>, StoreError> {
        self.history(filter, page).await
    }

    async fn wake_read(&self) -> Result<WakeReading, StoreError> {
        self.wake().await
    }

    async fn wake_forecast(&self) -> Result<(WakeReading, Forecast), StoreError> {
        self.forecast().await
    }

    async fn prune(&self, limit: i64) -> Result<u64, StoreError> {
        match self.prune_batch(limit).await {
            Ok(0) => Ok(0),
            pruned => self.standing.noted(pruned),
        }
    }

    async fn epoch_next(&self) -> Result<i64, StoreError> {
        self.standing.noted(self.epoch().await)
    }

    async fn ping(&self) -> Result<UnixMs, StoreError> {
        self.now().await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.standing.noted(self.write_probe().await)
    }

    async fn schedule_dry(&self) -> Result<Vec<ScheduleId>, StoreError> {
        self.dry().await
    }

    async fn zone_examine(&self, rules: i32, after: Option<ScheduleId>, limit: i64) -> Result<ZonePage, StoreError> {
        self.examine_zones(rules, after, limit).await
    }

    async fn zone_unsure(&self, limit: i64) -> Result<Vec<Zoned>, StoreError> {
        self.unsure_zones(limit).await
    }

    async fn zone_move(&self, change: &ZoneMove) -> Result<Option<UnixMs>, StoreError> {
        self.standing.noted(self.move_zoned(change).await)
    }

    async fn zone_sure(&self, runs: &[RunId], rules: i32) -> Result<(), StoreError> {
        self.standing.noted(self.mark_sure(runs, rules).await)
    }

    async fn zone_begin(&self, rules: i32) -> Result<(), StoreError> {
        self.standing.noted(self.mark_rules(sql::ZONE_BEGIN, rules).await)
    }

    async fn zone_end(&self, rules: i32) -> Result<(), StoreError> {
        self.standing.noted(self.mark_rules(sql::ZONE_END, rules).await)
    }

    async fn symptoms(&self) -> Result<Symptoms, StoreError> {
        self.read_symptoms().await
    }

    fn is_pooled(&self) -> bool {
        false
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        // Differs: no advisory lock. Of two starters one may find the other's tables half way; by the
        // second try they are whole and recorded.
        match MIGRATIONS.run(&self.writer.pool).await {
            Ok(()) => Ok(()),
            Err(_) => MIGRATIONS.run(&self.writer.pool).await.map_err(StoreError::Migration),
        }
    }

    async fn api_key_create(&self, key: &ApiKey) -> Result<(), StoreError> {
        self.standing.noted(self.create_key(key).await)
    }

    async fn api_key_get(&self, id: Uuid) -> Result<Option<ApiKey>, StoreError> {
        self.key(id).await
    }

    async fn api_key_list(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.keys().await
    }

    async fn api_key_revoke(&self, id: Uuid) -> Result<bool, StoreError> {
        self.standing.noted(self.revoke_key(id).await)
    }

    async fn api_key_exists(&self) -> Result<bool, StoreError> {
        self.any_key().await
    }

    async fn application_usage(
        &self,
        application: &str,
        due: std::ops::Range<UnixMs>,
        limit: i64,
    ) -> Result<Usage, StoreError> {
        self.usage(application, due, limit).await
    }

    async fn schema_check(&self) -> Result<(), StoreError> {
        self.schema().await
    }

    fn statements(&self) -> u64 {
        self.statements.get()
    }

    fn failing_for(&self) -> Option<Duration> {
        self.standing.failing_for()
    }

    async fn close(&self) {
        self.readers.close().await;
        // So that a copy of the file alone holds everything.
        let truncated = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.writer.pool).await;
        if let Err(error) = truncated {
            tracing::warn!(error = &error as &dyn std::error::Error, "the file is closed with its log beside it");
        }
        self.writer.pool.close().await;
    }
}
