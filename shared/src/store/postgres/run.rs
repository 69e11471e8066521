//! Runs on PostgreSQL: claim, settle, renew, read.

use std::collections::HashSet;
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
        let mut settled = Settled { now: 0, results: vec![SettleResult::Stale; batch.len()], armed_min: None };
        let mut unknown: HashSet<usize> = (0..batch.len()).collect();
        for row in &rows {
            settled.now = row.try_get("now")?;
            settled.lower(row.try_get("armed_at")?);
            let Some(ord) = row.try_get::<Option<i64>, _>("ord")? else { continue };
            let state = run_state(row.try_get::<i32, _>("to_state")? as i16)?;
            if state == RunState::Pending {
                settled.lower(row.try_get("retry_at")?);
            }
            unknown.remove(&place(ord));
            settled.results[place(ord)] = SettleResult::Done(state);
        }
        if !unknown.is_empty() {
            self.settled_before(batch, &unknown, &mut settled).await?;
        }
        Ok(settled)
    }

    /// Nobody else moves a run out of `running` without a new token: what still carries ours was settled by an earlier
    /// copy of the same settlement.
    async fn settled_before(
        &self,
        batch: &[Settlement],
        unknown: &HashSet<usize>,
        settled: &mut Settled,
    ) -> Result<(), StoreError> {
        let places: Vec<usize> = unknown.iter().copied().collect();
        self.statements.count(1);
        let rows = sqlx::query(sql::RUN_SETTLED)
            .bind(places.iter().map(|place| batch[*place].run_id).collect::<Vec<Uuid>>())
            .bind(places.iter().map(|place| batch[*place].lease_token).collect::<Vec<i64>>())
            .fetch_all(&self.pool)
            .await?;
        for row in &rows {
            let state = run_state(row.try_get("state")?)?;
            settled.results[places[place(row.try_get("ord")?)]] = SettleResult::Done(state);
        }
        Ok(())
    }

    pub(super) async fn renew(&self, held: &[(RunId, i64)], lease: Duration) -> Result<Vec<bool>, StoreError> {
        self.statements.count(1);
        let (ids, tokens): (Vec<Uuid>, Vec<i64>) = held.iter().copied().unzip();
        let renewed: Vec<i64> = sqlx::query_scalar(sql::RUN_RENEW)
            .bind(self.injected_now())
            .bind(ids)
            .bind(tokens)
            .bind(millis(lease))
            .fetch_all(&self.pool)
            .await?;
        let mut still_held = vec![false; held.len()];
        for ord in renewed {
            still_held[place(ord)] = true;
        }
        Ok(still_held)
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

/// The place in a batch of what a statement numbered from 1.
pub(super) fn place(ord: i64) -> usize {
    usize::try_from(ord - 1).unwrap_or(usize::MAX)
}
