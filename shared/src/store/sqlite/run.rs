//! Runs on SQLite: claim, renew, read.

use std::time::Duration;

use sqlx::{Row, SqliteConnection};

use super::schedule::json;
use super::{SqliteStore, sql};
use crate::model::run::ClaimedRun;
use crate::model::{RunId, ScheduleId, UnixMs};
use crate::store::rows::{attempt_row, claimed_run, run_row};
use crate::store::{AttemptRow, Claim, Claimed, Renewal, RunRow, StoreError, millis};

impl SqliteStore {
    pub(super) async fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        let (mut transaction, now) = self.begin().await?;
        let queues = json(&claim.queues);
        let mut take = Take { now, owner: &claim.owner, lease_until: now + millis(claim.lease), runs: Vec::new() };
        let share = i64::from((claim.limit / 2).max(1));
        take.some(&mut transaction, (sql::EXPIRED, sql::TAKE_EXPIRED), &queues, 0, share).await?;
        let bands = sqlx::query(sql::BANDS).bind(&queues).fetch_all(&mut *transaction).await?;
        for band in bands {
            let free = i64::from(claim.limit) - take.runs.len() as i64;
            if free <= 0 {
                break;
            }
            let (queue, priority): (String, i64) = (band.try_get("queue")?, band.try_get("priority")?);
            take.some(&mut transaction, (sql::READY, sql::TAKE_READY), &queue, priority, free).await?;
        }
        let next_at = sqlx::query_scalar(sql::NEXT_AT).bind(now).fetch_optional(&mut *transaction).await?;
        let runs = take.runs;
        transaction.commit().await?;
        Ok(Claimed::ordered(now, next_at, runs, claim.limit))
    }

    pub(super) async fn renew(&self, held: &[(RunId, i64)], lease: Duration) -> Result<Vec<Renewal>, StoreError> {
        let (mut transaction, now) = self.begin().await?;
        let mut renewed = Vec::with_capacity(held.len());
        for (id, token) in held {
            let done = sqlx::query(sql::RUN_RENEW)
                .bind(id)
                .bind(token)
                .bind(now + millis(lease))
                .execute(&mut *transaction)
                .await?;
            renewed.push(if done.rows_affected() == 1 { Renewal::Done } else { Renewal::Lost });
        }
        transaction.commit().await?;
        Ok(renewed)
    }

    pub(super) async fn run(&self, id: RunId) -> Result<Option<(RunRow, Vec<AttemptRow>)>, StoreError> {
        self.statements.count(2);
        let row = sqlx::query(sql::RUN_GET).bind(id).fetch_optional(&self.readers).await?;
        let Some(row) = row else { return Ok(None) };
        let attempts = sqlx::query(sql::ATTEMPT_LIST).bind(id).fetch_all(&self.readers).await?;
        let attempts = attempts.iter().map(attempt_row).collect::<Result<_, _>>()?;
        Ok(Some((run_row(&row)?, attempts)))
    }

    pub(super) async fn runs(
        &self,
        schedule: ScheduleId,
        after: Option<(UnixMs, i64)>,
        limit: i64,
    ) -> Result<Vec<RunRow>, StoreError> {
        let (nominal_at, series) = after.unwrap_or((i64::MAX, i64::MAX));
        self.statements.count(1);
        let rows = sqlx::query(sql::RUN_LIST)
            .bind(schedule)
            .bind(nominal_at)
            .bind(series)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(run_row).collect()
    }
}

/// A claim in progress.
struct Take<'a> {
    now: UnixMs,
    owner: &'a str,
    lease_until: UnixMs,
    runs: Vec<ClaimedRun>,
}

impl Take<'_> {
    /// Reads what is there to take, then takes the same: one transaction, one order, one limit.
    async fn some(
        &mut self,
        connection: &mut SqliteConnection,
        (read, take): (&'static str, &'static str),
        queue: &str,
        priority: i64,
        limit: i64,
    ) -> Result<(), StoreError> {
        let rows =
            sqlx::query(read).bind(self.now).bind(queue).bind(priority).bind(limit).fetch_all(&mut *connection).await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in &rows {
            self.runs.push(claimed_run(row)?);
        }
        sqlx::query(take)
            .bind(self.now)
            .bind(queue)
            .bind(priority)
            .bind(limit)
            .bind(self.owner)
            .bind(self.lease_until)
            .execute(connection)
            .await?;
        Ok(())
    }
}
