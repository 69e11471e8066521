//! Runs on SQLite: claim, settle, renew, read.

use std::time::Duration;

use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::schedule::json;
use super::{SqliteStore, sql};
use crate::model::history::HistoryKind;
use crate::model::lateness::LateCause;
use crate::model::run::{ClaimedRun, Exit, OutcomeCode, RunState, Settlement, Successor};
use crate::model::schedule::ScheduleState;
use crate::model::{RunId, ScheduleId, UnixMs};
use crate::store::rows::{attempt_row, claimed_run, run_row, run_state, schedule_state, storable};
use crate::store::{AttemptRow, Claim, Claimed, RunRow, SettleResult, Settled, StoreError, millis};

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

    pub(super) async fn settle(&self, batch: &[Settlement]) -> Result<Settled, StoreError> {
        let (mut transaction, now) = self.begin().await?;
        let mut settled = Settled { now, results: Vec::new(), armed_min: None };
        // Differs: what pauses a schedule goes first, so that nothing else of the batch arms it.
        let mut order: Vec<usize> = (0..batch.len()).collect();
        order.sort_by_key(|index| !batch[*index].exit.pauses());
        settled.results = vec![SettleResult::Stale; batch.len()];
        for index in order {
            settled.results[index] = self.settle_one(&mut transaction, &batch[index], &mut settled).await?;
        }
        transaction.commit().await?;
        Ok(settled)
    }

    async fn settle_one(
        &self,
        connection: &mut SqliteConnection,
        settlement: &Settlement,
        settled: &mut Settled,
    ) -> Result<SettleResult, StoreError> {
        let now = settled.now;
        let Some(held) = held(connection, settlement.run_id).await? else { return Ok(SettleResult::Stale) };
        if held.lease_token != settlement.lease_token {
            return Ok(SettleResult::Stale);
        }
        if held.state != RunState::Running {
            // Our own earlier copy: nobody else moves a run out of `running` without a new token.
            return Ok(SettleResult::Done(held.state));
        }
        let leaving = Leaving::decide(settlement, &held);
        let retry_at = match leaving.state {
            RunState::Pending => Some(now.saturating_add(leaving.wait_ms)),
            _ => None,
        };
        let ended = leaving.state.is_terminal();
        let is_dead = leaving.state == RunState::Dead;
        let retain = if is_dead { self.settings.retain_dead } else { self.settings.retain_runs };
        let prune_at = now + millis(retain);
        let dispatched = settlement.attempt.as_ref().zip(settlement.exit.outcome());
        if let Some((record, outcome)) = dispatched.filter(|(_, outcome)| outcome.code != OutcomeCode::Ok) {
            sqlx::query(sql::ATTEMPT_INSERT)
                .bind(settlement.run_id)
                .bind(settlement.lease_token)
                .bind(record.attempt)
                .bind(storable(&record.worker))
                .bind(record.started_at)
                .bind(record.ended_at)
                .bind(outcome.code.as_str())
                .bind(leaving.http_status)
                .bind(&leaving.detail)
                .bind(prune_at)
                .execute(&mut *connection)
                .await?;
        }
        if is_dead {
            sqlx::query(sql::ATTEMPT_KEEP).bind(settlement.run_id).bind(prune_at).execute(&mut *connection).await?;
        }
        if held.history_check {
            tell(connection, now, settlement, &held, &leaving).await?;
        }
        let record = dispatched.map(|(record, _)| record);
        sqlx::query(sql::RUN_LEAVE)
            .bind(settlement.run_id)
            .bind(leaving.state as i16)
            .bind(retry_at)
            .bind(i64::from(matches!(settlement.exit, Exit::HandBack { .. } | Exit::Postpone { .. })))
            .bind(ended.then_some(now))
            .bind(ended.then_some(prune_at))
            .bind(leaving.outcome)
            .bind(leaving.http_status)
            .bind(leaving.detail)
            .bind(leaving.coalesced)
            .bind(leaving.skipped)
            .bind(record.and_then(|record| record.woken_at))
            .bind(record.map(|record| record.started_at))
            .bind(record.and_then(|record| record.first_byte_at))
            .bind(record.and_then(|record| record.late_cause).map(LateCause::as_str))
            .execute(&mut *connection)
            .await?;
        settled.lower(retry_at);
        if leaving.pauses_schedule {
            sqlx::query(sql::SCHEDULE_PAUSE).bind(held.schedule_id).bind(now).execute(&mut *connection).await?;
            sqlx::query(sql::RUN_DISARM).bind(held.schedule_id).execute(&mut *connection).await?;
        }
        let finished = leaving.ends_schedule.then_some(prune_at);
        if let Some(successor) = leaving.successor {
            settled.lower(arm_successor(connection, now, &held, successor).await?);
        }
        // That a one-shot is over, and how, is read from this very run.
        let is_left_to_the_run = leaving.ends_schedule && held.once;
        if (leaving.state == RunState::Succeeded || finished.is_some()) && !is_left_to_the_run {
            sqlx::query(sql::SCHEDULE_COUNT)
                .bind(held.schedule_id)
                .bind(i64::from(leaving.state == RunState::Succeeded))
                .bind(finished)
                .execute(&mut *connection)
                .await?;
        }
        Ok(SettleResult::Done(leaving.state))
    }

    pub(super) async fn renew(&self, held: &[(RunId, i64)], lease: Duration) -> Result<Vec<bool>, StoreError> {
        let (mut transaction, now) = self.begin().await?;
        let mut renewed = Vec::with_capacity(held.len());
        for (id, token) in held {
            let done = sqlx::query(sql::RUN_RENEW)
                .bind(id)
                .bind(token)
                .bind(now + millis(lease))
                .execute(&mut *transaction)
                .await?;
            renewed.push(done.rows_affected() == 1);
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

/// A run about to be settled, with its schedule.
struct Held {
    state: RunState,
    lease_token: i64,
    schedule_id: ScheduleId,
    revision: i64,
    series: i64,
    nominal_at: UnixMs,
    armed: bool,
    queue: String,
    priority: i64,
    due_at: UnixMs,
    attempt: i32,
    lease_owner: Option<String>,
    history_check: bool,
    once: bool,
    schedule: Option<(ScheduleState, i64)>,
}

impl Held {
    /// Whether its schedule is active and has not moved on.
    fn is_of_active(&self) -> bool {
        self.schedule == Some((ScheduleState::Active, self.revision))
    }

    /// Whether its schedule still wants what the run leads to. A triggered run may outlive a finished one.
    fn is_live(&self) -> bool {
        let Some((state, revision)) = self.schedule else { return false };
        let wanted = state == ScheduleState::Active || state == ScheduleState::Finished && !self.armed;
        wanted && revision == self.revision
    }
}

async fn held(connection: &mut SqliteConnection, id: RunId) -> Result<Option<Held>, StoreError> {
    let Some(row) = sqlx::query(sql::RUN_HELD).bind(id).fetch_optional(connection).await? else { return Ok(None) };
    let schedule = match row.try_get::<Option<i16>, _>("schedule_state")? {
        None => None,
        Some(code) => Some((schedule_state(code)?, row.try_get("schedule_revision")?)),
    };
    Ok(Some(Held {
        state: run_state(row.try_get("state")?)?,
        lease_token: row.try_get("lease_token")?,
        schedule_id: row.try_get("schedule_id")?,
        revision: row.try_get("revision")?,
        series: row.try_get("series")?,
        nominal_at: row.try_get("nominal_at")?,
        armed: row.try_get("armed")?,
        queue: row.try_get("queue")?,
        priority: row.try_get("priority")?,
        due_at: row.try_get("due_at")?,
        attempt: row.try_get("attempt")?,
        lease_owner: row.try_get("lease_owner")?,
        history_check: row.try_get("history_check")?,
        once: row.try_get("once")?,
        schedule,
    }))
}

/// What a settlement comes to, given what the schedule says now.
struct Leaving {
    state: RunState,
    wait_ms: i64,
    outcome: Option<&'static str>,
    http_status: Option<i64>,
    detail: Option<String>,
    coalesced: i32,
    skipped: i32,
    successor: Option<Successor>,
    ends_schedule: bool,
    pauses_schedule: bool,
}

impl Leaving {
    fn decide(settlement: &Settlement, held: &Held) -> Self {
        let live = held.is_live();
        let replaced = OutcomeCode::Replaced.as_str();
        let mut leaving = Self {
            state: RunState::Pending,
            wait_ms: 0,
            outcome: None,
            http_status: None,
            detail: None,
            coalesced: 0,
            skipped: 0,
            successor: None,
            ends_schedule: false,
            pauses_schedule: false,
        };
        match &settlement.exit {
            Exit::Finish { state, outcome, successor, coalesced, skipped, pauses } => {
                leaving.state = *state;
                leaving.outcome = Some(outcome.code.as_str());
                leaving.http_status = outcome.http_status.map(i64::from);
                leaving.detail = Some(storable(&outcome.detail));
                (leaving.coalesced, leaving.skipped) = (*coalesced, *skipped);
                leaving.pauses_schedule = *pauses && held.is_of_active() && !held.once;
                if held.armed && live && !leaving.pauses_schedule {
                    leaving.successor = *successor;
                    leaving.ends_schedule = successor.is_none();
                }
            }
            Exit::Retry { wait_ms, outcome } => {
                leaving.state = if live { RunState::Pending } else { RunState::Failed };
                leaving.wait_ms = *wait_ms;
                leaving.outcome = Some(if live { outcome.code.as_str() } else { replaced });
                leaving.http_status = outcome.http_status.map(i64::from);
                leaving.detail = Some(storable(&outcome.detail));
            }
            Exit::HandBack { .. } | Exit::Postpone { .. } if !live => {
                leaving.state = RunState::Cancelled;
                leaving.outcome = Some(replaced);
            }
            Exit::HandBack { wait_ms } => leaving.wait_ms = *wait_ms,
            Exit::Postpone { wait_ms, outcome } => {
                leaving.wait_ms = *wait_ms;
                leaving.outcome = Some(outcome.code.as_str());
                leaving.detail = Some(storable(&outcome.detail));
            }
        }
        leaving
    }
}

/// Tells the history how a run was settled.
async fn tell(
    connection: &mut SqliteConnection,
    now: UnixMs,
    settlement: &Settlement,
    held: &Held,
    leaving: &Leaving,
) -> Result<(), StoreError> {
    let record = settlement.attempt.as_ref().filter(|_| settlement.exit.outcome().is_some());
    let kind = match record {
        Some(record) if record.attempt > 1 => HistoryKind::Reexecuted,
        Some(_) => HistoryKind::Executed,
        None if leaving.state == RunState::Pending => return Ok(()),
        None => HistoryKind::Dropped,
    };
    let outcome = record.and_then(|_| settlement.exit.outcome()).map(|outcome| outcome.code.as_str());
    sqlx::query(sql::HISTORY_TELL_RUN)
        .bind(held.schedule_id)
        .bind(now)
        .bind(kind as i16)
        .bind(settlement.run_id)
        .bind(held.revision)
        .bind(held.attempt)
        .bind(outcome.or(leaving.outcome))
        .bind(leaving.state as i16)
        .bind(leaving.http_status)
        .bind(record.map(|record| (record.started_at - held.due_at).max(0)))
        .bind(record.map(|record| record.ended_at - record.started_at))
        .bind(record.and_then(|record| record.late_cause).map(LateCause::as_str))
        .bind(&leaving.detail)
        .bind(&held.lease_owner)
        .execute(connection)
        .await?;
    Ok(())
}

async fn arm_successor(
    connection: &mut SqliteConnection,
    now: UnixMs,
    held: &Held,
    successor: Successor,
) -> Result<Option<UnixMs>, StoreError> {
    let at = match successor {
        Successor::At(at) => at,
        Successor::AfterMs(after) => now.saturating_add(after).max(held.nominal_at + 1),
    };
    let armed = sqlx::query(sql::RUN_ARM_SUCCESSOR)
        .bind(Uuid::now_v7())
        .bind(held.schedule_id)
        .bind(held.revision)
        .bind(held.series)
        .bind(at)
        .bind(&held.queue)
        .bind(held.priority)
        .bind(now)
        .execute(connection)
        .await?;
    Ok((armed.rows_affected() == 1).then_some(at))
}
