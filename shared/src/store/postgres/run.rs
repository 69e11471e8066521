//! Runs on PostgreSQL: claim, settle, renew, read.

use std::time::Duration;

use sqlx::Row;
use uuid::Uuid;

use super::{PostgresStore, sql};
use crate::model::run::{RunState, Settlement};
use crate::model::{RunId, ScheduleId, UnixMs};
use crate::store::rows::{SettleColumns, attempt_row, claimed_run, run_row, run_state};
use crate::store::{AttemptRow, Claim, Claimed, RunRow, SettleResult, Settled, StoreError, millis};

impl PostgresStore {
    pub(super) async fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        self.statements.count(1);
        let rows = sqlx::query(sql::RUN_CLAIM)
            .bind(self.injected_now())
            .bind(i64::from(claim.limit))
            .bind(&claim.owner)
            .bind(millis(claim.lease))
            .bind(&claim.queues)
            .fetch_all(&self.pool)
            .await?;
        let Some(first) = rows.first() else {
            return Err(StoreError::Broken("the claim answered nothing".to_owned()));
        };
        let now = first.try_get("now")?;
        let next_at = first.try_get("next_at")?;
        let mut runs = Vec::with_capacity(rows.len());
        for row in &rows {
            if row.try_get::<Option<Uuid>, _>("id")?.is_some() {
                runs.push(claimed_run(row)?);
            }
        }
        Ok(Claimed::ordered(now, next_at, runs, claim.limit))
    }

    pub(super) async fn settle(&self, batch: &[Settlement]) -> Result<Settled, StoreError> {
        let columns = SettleColumns::of(batch);
        self.statements.count(1);
        let rows = sqlx::query(sql::RUN_SETTLE)
            .bind(self.injected_now())
            .bind(self.retain_ms())
            .bind(columns.run_id)
            .bind(columns.token)
            .bind(columns.exit)
            .bind(columns.state)
            .bind(columns.wait_ms)
            .bind(columns.outcome)
            .bind(columns.http_status)
            .bind(columns.detail)
            .bind(columns.next_at)
            .bind(columns.next_after)
            .bind(columns.coalesced)
            .bind(columns.skipped)
            .bind(columns.next_id)
            .bind(columns.attempt)
            .bind(columns.started_at)
            .bind(columns.ended_at)
            .bind(columns.worker)
            .bind(columns.woken_at)
            .bind(columns.first_byte_at)
            .bind(columns.late_cause)
            .bind(millis(self.settings.retain_dead))
            .bind(columns.pauses)
            .fetch_all(&self.pool)
            .await?;
        let mut settled = Settled { now: 0, results: Vec::with_capacity(batch.len()), armed_min: None };
        for row in &rows {
            settled.now = row.try_get("now")?;
            settled.lower(row.try_get("armed_at")?);
            let to_state: Option<i32> = row.try_get("to_state")?;
            let before_state: Option<i16> = row.try_get("before_state")?;
            let state = to_state.map(|code| code as i16).or(before_state).map(run_state).transpose()?;
            if to_state == Some(RunState::Pending as i32) {
                settled.lower(row.try_get("retry_at")?);
            }
            settled.results.push(state.map_or(SettleResult::Stale, SettleResult::Done));
        }
        Ok(settled)
    }

    pub(super) async fn renew(&self, held: &[(RunId, i64)], lease: Duration) -> Result<Vec<bool>, StoreError> {
        self.statements.count(1);
        let (ids, tokens): (Vec<Uuid>, Vec<i64>) = held.iter().copied().unzip();
        Ok(sqlx::query_scalar(sql::RUN_RENEW)
            .bind(self.injected_now())
            .bind(ids)
            .bind(tokens)
            .bind(millis(lease))
            .fetch_all(&self.pool)
            .await?)
    }

    pub(super) async fn run(&self, id: RunId) -> Result<Option<(RunRow, Vec<AttemptRow>)>, StoreError> {
        self.statements.count(2);
        let Some(row) = sqlx::query(sql::RUN_GET).bind(id).fetch_optional(&self.pool).await? else { return Ok(None) };
        let attempts = sqlx::query(sql::ATTEMPT_LIST).bind(id).fetch_all(&self.pool).await?;
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
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(run_row).collect()
    }
}
