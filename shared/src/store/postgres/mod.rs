//! The store on PostgreSQL ≥ 13. Every method is one statement, or one short transaction where a
//! second statement must see what the first one's row locks waited for; no hot method is interactive.
//!
//! Session settings travel in the startup packet and idle connections are left alone: a process that
//! has nothing to do sends nothing.

mod access;
mod history;
mod hosts;
mod link;
mod run;
mod schedule;
pub mod sql;
mod wake;
mod zone;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

pub use self::hosts::PLANNER;
use self::hosts::{Connected, Hosts};
use self::link::{Call, Links, called};

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
use crate::runtime::clock::{Clock, SystemClock};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(migrations::postgres);

/// Key of the advisory lock under which the schema is migrated: "reveille" in ASCII.
const MIGRATION_LOCK: i64 = 0x7265_7665_696c_6c65;

/// Schedules deleted by one transaction: one that deletes many would hold up all of them.
const DELETE_LIMIT: i64 = 1000;

/// The store on PostgreSQL.
pub struct PostgresStore {
    links: Arc<Links>,
    settings: StoreSettings,
    statements: StatementCounter,
    standing: Standing,
    /// Until when settles are careful, on the links' clock.
    careful_until_ms: AtomicU64,
}

impl PostgresStore {
    /// A store at `url` (`postgres://…`). Connects on first use, so that a role may start before its database.
    ///
    /// # Errors
    /// [`StoreError::Broken`] when the URL is not one.
    pub fn open(url: &str, settings: StoreSettings) -> Result<Self, StoreError> {
        // The server gives up first. Who is still silent when we do is not there any more.
        let hosts = Hosts::of(url, settings.deadline.mul_f64(0.8))?;
        let statements = StatementCounter::default();
        let links = Links::new(hosts, &settings, statements.clone());
        Ok(Self { links, settings, statements, standing: Standing::default(), careful_until_ms: AtomicU64::new(0) })
    }

    fn injected_now(&self) -> Option<UnixMs> {
        self.settings.injected_now.as_ref().map(super::InjectedNow::get)
    }

    fn retain_ms(&self) -> i64 {
        millis(self.settings.retain_runs)
    }

    /// On a connection of its own, for as long as it takes.
    async fn migrate_locked(&self) -> Result<(), StoreError> {
        let Connected { mut connection, is_pooled } = self.links.connect().await?;
        if is_pooled {
            // Behind a pooler only a transaction stays with one session: all of it is one.
            let mut transaction = connection.begin().await?;
            // What the migrations prepare has names, which others of the session may have had before, and want to have after.
            sqlx::raw_sql("DEALLOCATE ALL; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '2s'")
                .execute(&mut *transaction)
                .await?;
            self.lock_schema(&mut transaction, "SELECT pg_try_advisory_xact_lock($1)").await?;
            MIGRATIONS.run_direct(None, &mut *transaction, false).await.map_err(StoreError::Migration)?;
            sqlx::raw_sql("DEALLOCATE ALL").execute(&mut *transaction).await?;
            transaction.commit().await?;
        } else {
            sqlx::raw_sql("SET statement_timeout = 0").execute(&mut connection).await?;
            self.lock_schema(&mut connection, "SELECT pg_try_advisory_lock($1)").await?;
            MIGRATIONS.run_direct(None, &mut connection, false).await.map_err(StoreError::Migration)?;
        }
        // Which gives the lock back.
        Ok(connection.close().await?)
    }

    /// Never a blocking advisory lock: a waiter's snapshot would hold back vacuum and deadlock with
    /// CREATE INDEX CONCURRENTLY.
    async fn lock_schema(&self, connection: &mut PgConnection, try_lock: &'static str) -> Result<(), StoreError> {
        let clock = SystemClock::new();
        let lock = || sqlx::query_scalar::<_, bool>(try_lock).bind(MIGRATION_LOCK).persistent(false);
        while !lock().fetch_one(&mut *connection).await? {
            clock.sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn delete_all(&self, selection: &Selection) -> Result<Deleted, StoreError> {
        let mut deleted = Deleted { count: 0, in_flight: 0 };
        if matches!(selection, Selection::Client(client) if *client == ClientKey::default()) {
            return Ok(deleted);
        }
        let mut after = None;
        loop {
            let (some, last) =
                called!(self, "schedule_delete", |link| self.delete(&mut link, selection, after, DELETE_LIMIT))?;
            deleted.count += some.count;
            deleted.in_flight += some.in_flight;
            if last.is_none() {
                return Ok(deleted);
            }
            after = last;
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn schedule_upsert(&self, batch: &[Registration]) -> Result<Upserted, StoreError> {
        called!(self, "schedule_upsert", |link| self.upsert(&mut link, batch))
    }

    async fn schedule_update(&self, registration: &Registration) -> Result<Upserted, StoreError> {
        called!(self, "schedule_update", |link| self.update(&mut link, registration))
    }

    async fn schedule_get(&self, id: ScheduleId) -> Result<Option<ScheduleRow>, StoreError> {
        called!(self, "schedule_get", |link| self.get(&mut link, id))
    }

    async fn schedule_payload_by_client(&self, client: &ClientKey) -> Result<Option<String>, StoreError> {
        called!(self, "schedule_payload_by_client", |link| self.payload_by_client(&mut link, client))
    }

    async fn schedule_payloads(&self, after: Option<ScheduleId>, limit: i64) -> Result<Vec<StoredPayload>, StoreError> {
        called!(self, "schedule_payloads", |link| self.payloads(&mut link, after, limit))
    }

    async fn schedule_reseal(&self, batch: &[StoredPayload]) -> Result<u64, StoreError> {
        called!(self, "schedule_reseal", |link| self.reseal(&mut link, batch))
    }

    async fn schedule_list(&self, filter: &ScheduleFilter, page: &Page) -> Result<Vec<ScheduleRow>, StoreError> {
        called!(self, "schedule_list", |link| self.list(&mut link, filter, page))
    }

    async fn schedule_delete(&self, selection: &Selection) -> Result<Deleted, StoreError> {
        self.delete_all(selection).await
    }

    async fn schedule_pause(&self, id: ScheduleId) -> Result<(), StoreError> {
        called!(self, "schedule_pause", |link| self.pause(&mut link, id))
    }

    async fn schedule_resume(
        &self,
        id: ScheduleId,
        revision: i64,
        arming: &Arming,
    ) -> Result<Option<UnixMs>, StoreError> {
        called!(self, "schedule_resume", |link| self.resume(&mut link, id, revision, arming))
    }

    async fn schedule_trigger(&self, id: ScheduleId) -> Result<Triggered, StoreError> {
        let run_id = Uuid::now_v7();
        called!(self, "schedule_trigger", |link| self.trigger(&mut link, id, run_id))
    }

    async fn run_claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        called!(self, "run_claim", |link| self.claim(&mut link, claim))
    }

    async fn run_settle(&self, batch: &[Settlement]) -> Result<Settled, StoreError> {
        called!(self, "run_settle", |link| self.settle(&mut link, batch))
    }

    async fn run_renew(&self, held: &[(RunId, i64)], lease: Duration) -> Result<Vec<Renewal>, StoreError> {
        called!(self, "run_renew", |link| self.renew(&mut link, held, lease))
    }

    async fn run_get(&self, id: RunId) -> Result<Option<(RunRow, Vec<AttemptRow>)>, StoreError> {
        called!(self, "run_get", |link| self.run(&mut link, id))
    }

    async fn run_list(
        &self,
        schedule: ScheduleId,
        after: Option<(UnixMs, i64)>,
        limit: i64,
    ) -> Result<Vec<RunRow>, StoreError> {
        called!(self, "run_list", |link| self.runs(&mut link, schedule, after, limit))
    }

    async fn history_list(&self, filter: &HistoryFilter, page: &HistoryPage) -> Result<Vec<HistoryRow>, StoreError> {
        called!(self, "history_list", |link| self.history(&mut link, filter, page))
    }

    async fn wake_read(&self) -> Result<WakeReading, StoreError> {
        called!(self, "wake_read", |link| self.wake(&mut link))
    }

    async fn wake_forecast(&self) -> Result<(WakeReading, Forecast), StoreError> {
        called!(self, "wake_forecast", |link| self.forecast(&mut link))
    }

    async fn prune(&self, limit: i64) -> Result<u64, StoreError> {
        called!(self, "prune", |link| self.prune_batch(&mut link, limit))
    }

    async fn epoch_next(&self) -> Result<i64, StoreError> {
        called!(self, "epoch_next", |link| self.epoch(&mut link))
    }

    async fn ping(&self) -> Result<UnixMs, StoreError> {
        called!(self, "ping", |link| self.now(&mut link))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        called!(self, "probe", |link| self.write_probe(&mut link))
    }

    async fn schedule_dry(&self) -> Result<Vec<ScheduleId>, StoreError> {
        called!(self, "schedule_dry", |link| self.dry(&mut link))
    }

    async fn zone_examine(&self, rules: i32, after: Option<ScheduleId>, limit: i64) -> Result<ZonePage, StoreError> {
        called!(self, "zone_examine", |link| self.examine_zones(&mut link, rules, after, limit))
    }

    async fn zone_unsure(&self, limit: i64) -> Result<Vec<Zoned>, StoreError> {
        called!(self, "zone_unsure", |link| self.unsure_zones(&mut link, limit))
    }

    async fn zone_move(&self, change: &ZoneMove) -> Result<Option<UnixMs>, StoreError> {
        called!(self, "zone_move", |link| self.move_zoned(&mut link, change))
    }

    async fn zone_sure(&self, runs: &[RunId], rules: i32) -> Result<(), StoreError> {
        called!(self, "zone_sure", |link| self.mark_sure(&mut link, runs, rules))
    }

    async fn zone_begin(&self, rules: i32) -> Result<(), StoreError> {
        called!(self, "zone_begin", |link| self.mark_rules(&mut link, sql::ZONE_BEGIN, rules))
    }

    async fn zone_end(&self, rules: i32) -> Result<(), StoreError> {
        called!(self, "zone_end", |link| self.mark_rules(&mut link, sql::ZONE_END, rules))
    }

    async fn symptoms(&self) -> Result<Symptoms, StoreError> {
        called!(self, "symptoms", |link| self.read_symptoms(&mut link))
    }

    fn is_pooled(&self) -> bool {
        self.links.is_pooled()
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            match self.migrate_locked().await {
                // A busy table's lock was not had within lock_timeout: let its users through, then again.
                Err(error) if tries < 20 && is_busy_schema(&error) => tries += 1,
                outcome => return outcome,
            }
        }
    }

    async fn api_key_create(&self, key: &ApiKey) -> Result<(), StoreError> {
        called!(self, "api_key_create", |link| self.create_key(&mut link, key))
    }

    async fn api_key_get(&self, id: Uuid) -> Result<Option<ApiKey>, StoreError> {
        called!(self, "api_key_get", |link| self.key(&mut link, id))
    }

    async fn api_key_list(&self) -> Result<Vec<ApiKey>, StoreError> {
        called!(self, "api_key_list", |link| self.keys(&mut link))
    }

    async fn api_key_revoke(&self, id: Uuid) -> Result<bool, StoreError> {
        called!(self, "api_key_revoke", |link| self.revoke_key(&mut link, id))
    }

    async fn api_key_exists(&self) -> Result<bool, StoreError> {
        called!(self, "api_key_exists", |link| self.any_key(&mut link))
    }

    async fn application_usage(
        &self,
        application: &str,
        due: std::ops::Range<UnixMs>,
        limit: i64,
    ) -> Result<Usage, StoreError> {
        called!(self, "application_usage", |link| self.usage(&mut link, application, due.clone(), limit))
    }

    async fn schema_check(&self) -> Result<(), StoreError> {
        called!(self, "schema_check", |link| self.schema(&mut link))
    }

    fn statements(&self) -> u64 {
        self.statements.get()
    }

    fn failing_for(&self) -> Option<Duration> {
        self.standing.failing_for()
    }

    async fn close(&self) {
        self.links.close().await;
    }
}

/// 55P03: somebody else held a row or a table for longer than we wait.
fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|database| database.code().as_deref() == Some("55P03"))
}

fn is_busy_schema(error: &StoreError) -> bool {
    match error {
        StoreError::Migration(
            sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _),
        )
        | StoreError::Unavailable(error) => is_lock_timeout(error),
        _ => false,
    }
}
