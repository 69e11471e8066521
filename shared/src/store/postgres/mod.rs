//! The store on PostgreSQL ≥ 13. Every method is one statement, or one short transaction where a
//! second statement must see what the first one's row locks waited for; no hot method is interactive.
//!
//! Session settings travel in the startup packet and idle connections are left alone: a process that
//! has nothing to do sends nothing.

mod access;
mod history;
mod run;
mod schedule;
pub mod sql;
mod wake;

use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use uuid::Uuid;

use super::{
    ApiKey, AttemptRow, Claim, Claimed, Deleted, Forecast, HistoryFilter, HistoryPage, HistoryRow, Page, Registration,
    RunRow, ScheduleFilter, ScheduleRow, Selection, Settled, StatementCounter, Store, StoreError, StoreSettings,
    StoredPayload, Triggered, Upserted, Usage, WakeReading, millis,
};
use crate::model::run::Settlement;
use crate::model::schedule::ClientKey;
use crate::model::timing::Arming;
use crate::model::{RunId, ScheduleId, UnixMs};
use crate::runtime::clock::{Clock, SystemClock};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// Key of the advisory lock under which the schema is migrated: "reveille" in ASCII.
const MIGRATION_LOCK: i64 = 0x7265_7665_696c_6c65;

/// What the planner may choose from. Every statement here is written for loops over indexes, and what else it would
/// think of, it thinks of for want of statistics: a table that was empty when a plan was made is read as a whole by
/// that plan until somebody analyzes it. Generic plans, because those that depend on the values are made anew for each
/// small batch, which takes longer than running them.
pub const PLANNER: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// How long a caller waits for a connection before the database counts as unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// The store on PostgreSQL.
pub struct PostgresStore {
    pool: PgPool,
    settings: StoreSettings,
    statements: StatementCounter,
}

impl PostgresStore {
    /// A store at `url` (`postgres://…`). Connects on first use, so that a role may start before its database.
    ///
    /// # Errors
    /// [`StoreError::Broken`] when the URL is not one.
    pub fn open(url: &str, settings: StoreSettings) -> Result<Self, StoreError> {
        let options: PgConnectOptions =
            url.parse().map_err(|_| StoreError::Broken("the database URL is not a postgres:// URL".to_owned()))?;
        let options = options
            .application_name("reveille")
            .options([
                ("statement_timeout", "10s"),
                ("lock_timeout", "2s"),
                ("idle_in_transaction_session_timeout", "5s"),
            ])
            .options(PLANNER);
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // Idle means silent: no pings, no recycling. A connection that broke meanwhile fails its
            // next statement, and every statement here may be sent again.
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(options);
        Ok(Self { pool, settings, statements: StatementCounter::default() })
    }

    fn injected_now(&self) -> Option<UnixMs> {
        self.settings.injected_now.as_ref().map(super::InjectedNow::get)
    }

    fn retain_ms(&self) -> i64 {
        millis(self.settings.retain_runs)
    }

    async fn migrate_locked(&self) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        // Never a blocking advisory lock: a waiter's snapshot would hold back vacuum and deadlock with
        // CREATE INDEX CONCURRENTLY.
        let clock = SystemClock::new();
        while !sqlx::query_scalar::<_, bool>("SELECT pg_try_advisory_lock($1)")
            .bind(MIGRATION_LOCK)
            .fetch_one(&mut *connection)
            .await?
        {
            clock.sleep(Duration::from_millis(100)).await;
        }
        let outcome = MIGRATIONS.run_direct(None, &mut *connection, false).await;
        sqlx::query("SELECT pg_advisory_unlock($1)").bind(MIGRATION_LOCK).execute(&mut *connection).await?;
        outcome.map_err(StoreError::Migration)
    }
}

/// Whether the same statement may succeed at once: a deadlock or serialization failure was resolved
/// against it.
fn is_resolved_conflict(error: &StoreError) -> bool {
    let StoreError::Unavailable(sqlx::Error::Database(database)) = error else { return false };
    matches!(database.code().as_deref(), Some("40001" | "40P01"))
}

/// Runs `$attempt` again when it lost a deadlock, three times at most.
macro_rules! retried {
    ($attempt:expr) => {{
        let mut tries = 0;
        loop {
            match $attempt.await {
                Err(error) if tries < 3 && is_resolved_conflict(&error) => tries += 1,
                outcome => break outcome,
            }
        }
    }};
}

#[async_trait]
impl Store for PostgresStore {
    async fn schedule_upsert(&self, batch: &[Registration]) -> Result<Upserted, StoreError> {
        retried!(self.upsert(batch))
    }

    async fn schedule_update(&self, registration: &Registration) -> Result<Upserted, StoreError> {
        retried!(self.update(registration))
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
        retried!(self.reseal(batch))
    }

    async fn schedule_list(&self, filter: &ScheduleFilter, page: &Page) -> Result<Vec<ScheduleRow>, StoreError> {
        self.list(filter, page).await
    }

    async fn schedule_delete(&self, selection: &Selection) -> Result<Deleted, StoreError> {
        retried!(self.delete(selection))
    }

    async fn schedule_pause(&self, id: ScheduleId) -> Result<(), StoreError> {
        retried!(self.pause(id))
    }

    async fn schedule_resume(
        &self,
        id: ScheduleId,
        revision: i64,
        arming: &Arming,
    ) -> Result<Option<UnixMs>, StoreError> {
        retried!(self.resume(id, revision, arming))
    }

    async fn schedule_trigger(&self, id: ScheduleId) -> Result<Triggered, StoreError> {
        retried!(self.trigger(id))
    }

    async fn run_claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        retried!(self.claim(claim))
    }

    async fn run_settle(&self, batch: &[Settlement]) -> Result<Settled, StoreError> {
        retried!(self.settle(batch))
    }

    async fn run_renew(&self, held: &[(RunId, i64)], lease: Duration) -> Result<Vec<bool>, StoreError> {
        retried!(self.renew(held, lease))
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
        retried!(self.prune_batch(limit))
    }

    async fn epoch_next(&self) -> Result<i64, StoreError> {
        self.epoch().await
    }

    async fn ping(&self) -> Result<UnixMs, StoreError> {
        self.now().await
    }

    async fn schedule_dry(&self) -> Result<Vec<ScheduleId>, StoreError> {
        self.dry().await
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            match self.migrate_locked().await {
                // A busy table's lock was not had within lock_timeout: let its users through, then again.
                Err(error) if tries < 20 && is_lock_timeout(&error) => tries += 1,
                outcome => return outcome,
            }
        }
    }

    async fn api_key_create(&self, key: &ApiKey) -> Result<(), StoreError> {
        self.create_key(key).await
    }

    async fn api_key_get(&self, id: Uuid) -> Result<Option<ApiKey>, StoreError> {
        self.key(id).await
    }

    async fn api_key_list(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.keys().await
    }

    async fn api_key_revoke(&self, id: Uuid) -> Result<bool, StoreError> {
        self.revoke_key(id).await
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

    async fn close(&self) {
        self.pool.close().await;
    }
}

fn is_lock_timeout(error: &StoreError) -> bool {
    let database = match error {
        StoreError::Migration(
            sqlx::migrate::MigrateError::Execute(sqlx::Error::Database(database))
            | sqlx::migrate::MigrateError::ExecuteMigration(sqlx::Error::Database(database), _),
        )
        | StoreError::Unavailable(sqlx::Error::Database(database)) => database,
        _ => return false,
    };
    database.code().as_deref() == Some("55P03")
}
