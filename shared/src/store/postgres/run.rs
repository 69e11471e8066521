//! Runs on PostgreSQL: claim, settle, renew, read.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::Row;
use uuid::Uuid;

use super::link::Link;
use super::{PostgresStore, is_lock_timeout, sql};
use crate::model::run::{RunState, Settlement};
use crate::model::zone::rules;
use crate::model::{RunId, ScheduleId, UnixMs};
use crate::store::rows::{SettleColumns, attempt_row, claimed_run, run_row, run_state};
use crate::store::{AttemptRow, Claim, Claimed, Renewal, RunRow, SettleResult, Settled, StoreError, millis};

/// How long settles lock runs before they write them, after somebody else had one locked.
const CAREFUL_FOR: Duration = Duration::from_secs(60);

impl PostgresStore {
    pub(super) async fn claim(&self, link: &mut Link, claim: &Claim) -> Result<Claimed, StoreError> {
        let take = sqlx::query(sql::RUN_CLAIM)
            .bind(self.injected_now())
            .bind(i64::from(claim.limit))
            .bind(&claim.owner)
            .bind(millis(claim.lease))
            .bind(&claim.queues);
        let rows = link.all(take).await?;
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

    pub(super) async fn settle(&self, link: &mut Link, batch: &[Settlement]) -> Result<Settled, StoreError> {
        let columns = SettleColumns::of(batch);
        let statement = if self.is_careful() { sql::RUN_SETTLE_FREE } else { sql::RUN_SETTLE };
        let settle = sqlx::query(statement)
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
            .bind(rules::armed_by().number());
        let rows = match link.all(settle).await {
            Err(error) if is_lock_timeout(&error) && statement == sql::RUN_SETTLE => {
                self.be_careful();
                return Box::pin(self.settle(link, batch)).await;
            }
            rows => rows?,
        };
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
            self.settled_before(link, batch, &unknown, &mut settled).await?;
        }
        Ok(settled)
    }

    /// Whether somebody held the row of a run lately.
    fn is_careful(&self) -> bool {
        self.links.now() < Duration::from_millis(self.careful_until_ms.load(Ordering::Relaxed))
    }

    fn be_careful(&self) {
        tracing::warn!("somebody holds the rows of runs locked: what can be settled without them is settled");
        let until_ms = (self.links.now() + CAREFUL_FOR).as_millis();
        self.careful_until_ms.store(u64::try_from(until_ms).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Nobody else moves a run out of `running` without a new token: what still carries ours and has left it was settled
    /// by an earlier copy of the same settlement.
    async fn settled_before(
        &self,
        link: &mut Link,
        batch: &[Settlement],
        unknown: &HashSet<usize>,
        settled: &mut Settled,
    ) -> Result<(), StoreError> {
        let places: Vec<usize> = unknown.iter().copied().collect();
        let before = sqlx::query(sql::RUN_SETTLED)
            .bind(places.iter().map(|place| batch[*place].run_id).collect::<Vec<Uuid>>())
            .bind(places.iter().map(|place| batch[*place].lease_token).collect::<Vec<i64>>());
        let rows = link.all(before).await?;
        for row in &rows {
            let result = match row.try_get("is_held")? {
                true => SettleResult::Held,
                false => SettleResult::Done(run_state(row.try_get("state")?)?),
            };
            settled.results[places[place(row.try_get("ord")?)]] = result;
        }
        Ok(())
    }

    pub(super) async fn renew(
        &self,
        link: &mut Link,
        held: &[(RunId, i64)],
        lease: Duration,
    ) -> Result<Vec<Renewal>, StoreError> {
        let (ids, tokens): (Vec<Uuid>, Vec<i64>) = held.iter().copied().unzip();
        let renew = sqlx::query(sql::RUN_RENEW).bind(self.injected_now()).bind(ids).bind(tokens).bind(millis(lease));
        let mut renewals = vec![Renewal::Lost; held.len()];
        for row in link.all(renew).await? {
            let renewal = if row.try_get("is_free")? { Renewal::Done } else { Renewal::Held };
            renewals[place(row.try_get("ord")?)] = renewal;
        }
        Ok(renewals)
    }

    pub(super) async fn run(
        &self,
        link: &mut Link,
        id: RunId,
    ) -> Result<Option<(RunRow, Vec<AttemptRow>)>, StoreError> {
        let Some(row) = link.optional(sqlx::query(sql::RUN_GET).bind(id)).await? else { return Ok(None) };
        let attempts = link.all(sqlx::query(sql::ATTEMPT_LIST).bind(id)).await?;
        let attempts = attempts.iter().map(attempt_row).collect::<Result<_, _>>()?;
        Ok(Some((run_row(&row)?, attempts)))
    }

    pub(super) async fn runs(
        &self,
        link: &mut Link,
        schedule: ScheduleId,
        after: Option<(UnixMs, i64)>,
        limit: i64,
    ) -> Result<Vec<RunRow>, StoreError> {
        let (nominal_at, series) = after.unwrap_or((i64::MAX, i64::MAX));
        let list = sqlx::query(sql::RUN_LIST).bind(schedule).bind(nominal_at).bind(series).bind(limit);
        let rows = link.all(list).await?;
        rows.iter().map(run_row).collect()
    }
}

/// The place in a batch of what a statement numbered from 1.
pub(super) fn place(ord: i64) -> usize {
    usize::try_from(ord - 1).unwrap_or(usize::MAX)
}
