//! What the monitor needs of PostgreSQL: the next wake, pruning, terms; and whether the schema is there.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::link::Link;
use super::{MIGRATIONS, PostgresStore, sql};
use crate::model::UnixMs;
use crate::store::rows::zone_standing;
use crate::store::{Backlog, Forecast, StoreError, Symptoms, WakeReading, millis};

impl PostgresStore {
    pub(super) async fn wake(&self, link: &mut Link) -> Result<WakeReading, StoreError> {
        let row = link.one(sqlx::query(sql::WAKE_READ).bind(self.injected_now())).await?;
        wake_reading(&row)
    }

    pub(super) async fn forecast(&self, link: &mut Link) -> Result<(WakeReading, Forecast), StoreError> {
        let forecast =
            sqlx::query(sql::WAKE_FORECAST).bind(self.injected_now()).bind(millis(self.settings.retain_history));
        let row = link.one(forecast).await?;
        let reading = wake_reading(&row)?;
        let backlog = Backlog {
            overdue_runs: reading.overdue,
            running_runs: row.try_get("running")?,
            due_next_minute: row.try_get("next_minute")?,
            due_next_five_minutes: row.try_get("next_five_minutes")?,
            as_of_ms: reading.now,
        };
        let next_prune = row.try_get("next_prune")?;
        Ok((reading, Forecast { backlog, next_prune, zones: zone_standing(&row)? }))
    }

    pub(super) async fn prune_batch(&self, link: &mut Link, limit: i64) -> Result<u64, StoreError> {
        let prune = sqlx::query(sql::PRUNE)
            .bind(self.injected_now())
            .bind(limit)
            .bind(millis(self.settings.retain_history))
            .bind(self.retain_ms());
        let pruned: i64 = link.value(prune).await?;
        Ok(pruned.unsigned_abs())
    }

    pub(super) async fn read_symptoms(&self, link: &mut Link) -> Result<Symptoms, StoreError> {
        Ok(Symptoms {
            queues: link.values(sqlx::query(sql::QUEUES_PENDING)).await?,
            dead: link.value(sqlx::query(sql::DEAD_COUNT)).await?,
            failing: link.values(sqlx::query(sql::SCHEDULES_FAILING)).await?,
        })
    }

    pub(super) async fn schema(&self, link: &mut Link) -> Result<(), StoreError> {
        let applied: Result<Vec<i64>, sqlx::Error> = link.values(sqlx::query(sql::SCHEMA)).await;
        let is_never_migrated = |error: &sqlx::Error| {
            error.as_database_error().is_some_and(|database| database.code().as_deref() == Some("42P01"))
        };
        match applied {
            Ok(applied) if MIGRATIONS.iter().all(|needed| applied.contains(&needed.version)) => Ok(()),
            Ok(_) => Err(StoreError::SchemaBehind),
            Err(error) if is_never_migrated(&error) => Err(StoreError::SchemaBehind),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn epoch(&self, link: &mut Link) -> Result<i64, StoreError> {
        Ok(link.value(sqlx::query(sql::EPOCH_NEXT)).await?)
    }

    pub(super) async fn write_probe(&self, link: &mut Link) -> Result<(), StoreError> {
        link.execute(sqlx::query(sql::PROBE)).await?;
        Ok(())
    }

    pub(super) async fn now(&self, link: &mut Link) -> Result<UnixMs, StoreError> {
        Ok(link.value(sqlx::query(sql::NOW).bind(self.injected_now())).await?)
    }
}

fn wake_reading(row: &PgRow) -> Result<WakeReading, StoreError> {
    Ok(WakeReading {
        now: row.try_get("now")?,
        next_due: row.try_get("next_due")?,
        next_ahead: row.try_get("next_ahead")?,
        next_lease: row.try_get("next_lease")?,
        overdue: row.try_get("overdue")?,
    })
}
