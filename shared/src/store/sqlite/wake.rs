//! What the monitor needs of SQLite: the next wake, pruning, terms; and whether the schema is there.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{MIGRATIONS, SqliteStore, sql};
use crate::model::UnixMs;
use crate::store::rows::zone_standing;
use crate::store::{Backlog, Forecast, StoreError, Symptoms, WakeReading, millis};

impl SqliteStore {
    pub(super) async fn wake(&self) -> Result<WakeReading, StoreError> {
        self.statements.count(1);
        let row = sqlx::query(sql::WAKE_READ).bind(self.injected_now()).fetch_one(&self.readers).await?;
        wake_reading(&row)
    }

    pub(super) async fn forecast(&self) -> Result<(WakeReading, Forecast), StoreError> {
        self.statements.count(1);
        let row = sqlx::query(sql::WAKE_FORECAST)
            .bind(self.injected_now())
            .bind(millis(self.settings.retain_history))
            .fetch_one(&self.readers)
            .await?;
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

    pub(super) async fn read_symptoms(&self) -> Result<Symptoms, StoreError> {
        self.statements.count(3);
        Ok(Symptoms {
            queues: sqlx::query_scalar(sql::QUEUES_PENDING).fetch_all(&self.readers).await?,
            dead: sqlx::query_scalar(sql::DEAD_COUNT).fetch_one(&self.readers).await?,
            failing: sqlx::query_scalar(sql::SCHEDULES_FAILING).fetch_all(&self.readers).await?,
        })
    }

    pub(super) async fn prune_batch(&self, limit: i64) -> Result<u64, StoreError> {
        let (mut transaction, now) = self.begin().await?;
        let later = now.saturating_add(self.retain_ms());
        for statement in [sql::PRUNE_LATER, sql::PRUNE_OVER_LATER] {
            sqlx::query(statement).bind(now).bind(limit).bind(later).execute(&mut *transaction).await?;
        }
        let mut pruned = 0;
        let old = now.saturating_sub(millis(self.settings.retain_history));
        for (statement, until) in [
            (sql::PRUNE_OVER, now),
            (sql::PRUNE_RUNS, now),
            (sql::PRUNE_SCHEDULES, now),
            (sql::PRUNE_ATTEMPTS, now),
            (sql::PRUNE_HISTORY, old),
        ] {
            pruned += sqlx::query(statement).bind(until).bind(limit).execute(&mut *transaction).await?.rows_affected();
        }
        transaction.commit().await?;
        Ok(pruned)
    }

    pub(super) async fn schema(&self) -> Result<(), StoreError> {
        self.statements.count(1);
        let applied: Result<Vec<i64>, sqlx::Error> = sqlx::query_scalar(sql::SCHEMA).fetch_all(&self.readers).await;
        let is_never_migrated = |error: &sqlx::Error| {
            error.as_database_error().is_some_and(|database| database.message().starts_with("no such table"))
        };
        match applied {
            Ok(applied) if MIGRATIONS.iter().all(|needed| applied.contains(&needed.version)) => Ok(()),
            Ok(_) => Err(StoreError::SchemaBehind),
            Err(error) if is_never_migrated(&error) => Err(StoreError::SchemaBehind),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn epoch(&self) -> Result<i64, StoreError> {
        self.statements.count(1);
        Ok(sqlx::query_scalar(sql::EPOCH_NEXT).fetch_one(&self.writer.pool).await?)
    }

    pub(super) async fn write_probe(&self) -> Result<(), StoreError> {
        let (mut transaction, _) = self.begin().await?;
        for step in sql::PROBE {
            sqlx::query(step).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    pub(super) async fn now(&self) -> Result<UnixMs, StoreError> {
        self.statements.count(1);
        let mut connection = self.readers.acquire().await?;
        self.read_now(&mut connection).await
    }
}

fn wake_reading(row: &SqliteRow) -> Result<WakeReading, StoreError> {
    Ok(WakeReading {
        now: row.try_get("now")?,
        next_due: row.try_get("next_due")?,
        next_ahead: row.try_get("next_ahead")?,
        next_lease: row.try_get("next_lease")?,
        overdue: row.try_get("overdue")?,
    })
}
