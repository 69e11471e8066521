//! The one exit of runs, on SQLite.
//!
//! Differs: PostgreSQL decides inside one statement. Here the runs of a batch are read by one, what each comes to is
//! decided in Rust, in the batch's order, and the runs are written many at a time: a statement costs a way to the
//! connection's thread and back, which is more than what it does.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};
use uuid::Uuid;

use super::schedule::json;
use super::{SqliteStore, sql};
use crate::model::history::HistoryKind;
use crate::model::lateness::LateCause;
use crate::model::run::{AttemptRecord, Exit, OutcomeCode, RunState, Settlement, Successor};
use crate::model::schedule::ScheduleState;
use crate::model::zone::rules;
use crate::model::{RunId, ScheduleId, UnixMs};
use crate::store::rows::{run_state, schedule_state, storable};
use crate::store::{SettleResult, Settled, StoreError, millis};

impl SqliteStore {
    pub(super) async fn settle(&self, batch: &[Settlement]) -> Result<Settled, StoreError> {
        let (mut transaction, now) = self.begin().await?;
        let mut settled = Settled { now, results: vec![SettleResult::Stale; batch.len()], armed_min: None };
        let mut held = held(&mut transaction, batch).await?;
        // What pauses a schedule goes first, so that nothing else of the batch arms it.
        let mut order: Vec<usize> = (0..batch.len()).collect();
        order.sort_by_key(|index| !batch[*index].exit.pauses());
        let mut left = Vec::with_capacity(batch.len());
        for index in order {
            let settlement = &batch[index];
            let Some(run) = held.get_mut(&settlement.run_id) else { continue };
            if run.lease_token != settlement.lease_token {
                continue;
            }
            if run.state != RunState::Running {
                // Our own earlier copy: nobody else moves a run out of `running` without a new token.
                settled.results[index] = SettleResult::Done(run.state);
                continue;
            }
            let leaving = Leaving::decide(settlement, run);
            run.state = leaving.state;
            settled.results[index] = SettleResult::Done(leaving.state);
            self.follow(&mut transaction, settlement, run, &leaving, &mut settled).await?;
            if leaving.pauses_schedule {
                let (schedule_id, paused) = (run.schedule_id, (ScheduleState::Paused, run.revision + 1));
                held.values_mut()
                    .filter(|other| other.schedule_id == schedule_id)
                    .for_each(|other| other.schedule = Some(paused));
            }
            left.push((settlement, leaving));
        }
        self.leave(&mut transaction, now, &left).await?;
        transaction.commit().await?;
        Ok(settled)
    }

    fn prune_at(&self, now: UnixMs, state: RunState) -> UnixMs {
        now + millis(if state == RunState::Dead { self.settings.retain_dead } else { self.settings.retain_runs })
    }

    /// What follows from a run's end, and is written beside it.
    async fn follow(
        &self,
        connection: &mut SqliteConnection,
        settlement: &Settlement,
        held: &Held,
        leaving: &Leaving,
        settled: &mut Settled,
    ) -> Result<(), StoreError> {
        let now = settled.now;
        settled.lower(leaving.retry_at(now));
        let prune_at = self.prune_at(now, leaving.state);
        if let Some((record, outcome)) = dispatched(settlement)
            && outcome.code != OutcomeCode::Ok
        {
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
        if leaving.state == RunState::Dead {
            sqlx::query(sql::ATTEMPT_KEEP).bind(settlement.run_id).bind(prune_at).execute(&mut *connection).await?;
        }
        if held.history_check {
            tell(connection, now, settlement, held, leaving).await?;
        }
        if leaving.pauses_schedule {
            sqlx::query(sql::SCHEDULE_PAUSE).bind(held.schedule_id).bind(now).execute(&mut *connection).await?;
            sqlx::query(sql::RUN_DISARM).bind(held.schedule_id).execute(&mut *connection).await?;
            sqlx::query(sql::HISTORY_TELL)
                .bind(held.schedule_id)
                .bind(now)
                .bind(HistoryKind::Paused as i16)
                .bind(None::<Uuid>)
                .execute(&mut *connection)
                .await?;
        }
        if let Some(successor) = leaving.successor {
            settled.lower(arm_successor(connection, now, held, successor).await?);
        }
        // That a one-shot is over, and how, is read from this very run.
        let is_left_to_the_run = leaving.ends_schedule && held.once;
        let finished = leaving.ends_schedule.then_some(prune_at);
        if (leaving.state == RunState::Succeeded || finished.is_some()) && !is_left_to_the_run {
            sqlx::query(sql::SCHEDULE_COUNT)
                .bind(held.schedule_id)
                .bind(i64::from(leaving.state == RunState::Succeeded))
                .bind(finished)
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }

    /// Writes what became of the runs.
    async fn leave(
        &self,
        connection: &mut SqliteConnection,
        now: UnixMs,
        left: &[(&Settlement, Leaving)],
    ) -> Result<(), StoreError> {
        let whole = left.len() / LEAVE_MANY * LEAVE_MANY;
        let (many, few) = left.split_at(whole);
        let parts = many.chunks(LEAVE_MANY).chain(few.chunks(1));
        for part in parts {
            let mut update = sqlx::query(AssertSqlSafe(sql::run_leave(part.len())));
            for (settlement, leaving) in part {
                let ended = leaving.state.is_terminal();
                let record = dispatched(settlement).map(|(record, _)| record);
                update = update
                    .bind(settlement.run_id)
                    .bind(leaving.state as i16)
                    .bind(leaving.retry_at(now))
                    .bind(i64::from(matches!(settlement.exit, Exit::HandBack { .. } | Exit::Postpone { .. })))
                    .bind(ended.then_some(now))
                    .bind(ended.then_some(self.prune_at(now, leaving.state)))
                    .bind(leaving.outcome)
                    .bind(leaving.http_status)
                    .bind(leaving.detail.as_deref())
                    .bind(leaving.coalesced)
                    .bind(leaving.skipped)
                    .bind(record.and_then(|record| record.woken_at))
                    .bind(record.map(|record| record.started_at))
                    .bind(record.and_then(|record| record.first_byte_at))
                    .bind(settlement.late_cause().map(LateCause::as_str));
            }
            update.execute(&mut *connection).await?;
        }
        Ok(())
    }
}

/// Runs written by one statement; what is left over goes one by one, so that there are two statements to prepare.
const LEAVE_MANY: usize = 32;

/// The attempt that a settlement ends: none where there is no outcome.
fn dispatched(settlement: &Settlement) -> Option<(&AttemptRecord, &crate::model::run::Outcome)> {
    settlement.attempt.as_ref().zip(settlement.exit.outcome())
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

/// The runs that a batch names, as they are.
async fn held(connection: &mut SqliteConnection, batch: &[Settlement]) -> Result<HashMap<RunId, Held>, StoreError> {
    let ids: Vec<String> = batch.iter().map(|settlement| settlement.run_id.simple().to_string()).collect();
    let rows = sqlx::query(sql::RUN_HELD).bind(json(&ids)).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get("id")?, held_row(row)?))).collect()
}

fn held_row(row: &SqliteRow) -> Result<Held, StoreError> {
    let schedule = match row.try_get::<Option<i16>, _>("schedule_state")? {
        None => None,
        Some(code) => Some((schedule_state(code)?, row.try_get("schedule_revision")?)),
    };
    Ok(Held {
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
    })
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
    fn retry_at(&self, now: UnixMs) -> Option<UnixMs> {
        (self.state == RunState::Pending).then(|| now.saturating_add(self.wait_ms))
    }

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
            Exit::HandBack { wait_ms, .. } => leaving.wait_ms = *wait_ms,
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
    let record = dispatched(settlement).map(|(record, _)| record);
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
        .bind(matches!(successor, Successor::At(_)).then(|| rules::armed_by().number()))
        .execute(connection)
        .await?;
    Ok((armed.rows_affected() == 1).then_some(at))
}
