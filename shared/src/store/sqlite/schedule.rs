//! Schedules on SQLite: register, update, pause, resume, trigger, delete, read.

use std::collections::HashSet;

use sqlx::{AssertSqlSafe, Row, SqliteConnection};
use uuid::Uuid;

use super::{SqliteStore, sql};
use crate::model::history::HistoryKind;
use crate::model::run::RunState;
use crate::model::schedule::{ClientKey, ScheduleState};
use crate::model::timing::{ArmAt, Arming, OnUnchanged};
use crate::model::zone::rules;
use crate::model::{RunId, ScheduleId, UnixMs};
use crate::store::rows::{self, bind_client, schedule_row, schedule_state};
use crate::store::selection::deletion_condition;
use crate::store::{
    Change, Deleted, Page, Registration, ScheduleFilter, ScheduleRow, Selection, StoreError, StoredPayload, Triggered,
    Upserted, UpsertedSchedule,
};

/// New schedules written by one statement.
const CREATE_MANY: [usize; 6] = [32, 16, 8, 4, 2, 1];

/// Schedules deleted by one transaction: while it lasts nothing else is written.
const DELETE_LIMIT: i64 = 500;

impl SqliteStore {
    pub(super) async fn upsert(&self, batch: &[Registration]) -> Result<Upserted, StoreError> {
        let (mut transaction, now) = self.begin().await?;
        let new = if batch.len() > 1 { new_ones(&mut transaction, batch).await? } else { HashSet::new() };
        let mut schedules = create(&mut transaction, now, batch, &new).await?;
        for (index, registration) in batch.iter().enumerate() {
            if schedules[index].is_none() {
                let found = find_by_client(&mut transaction, &registration.client).await?;
                schedules[index] = Some(register(&mut transaction, now, registration, found).await?);
            }
        }
        transaction.commit().await?;
        let schedules: Vec<UpsertedSchedule> = schedules.into_iter().flatten().collect();
        let armed_min = schedules.iter().filter_map(|schedule| schedule.due_at).min();
        Ok(Upserted { armed_min, schedules, now: Some(now) })
    }

    pub(super) async fn update(&self, registration: &Registration) -> Result<Upserted, StoreError> {
        let (mut transaction, now) = self.begin().await?;
        let found = find_by_id(&mut transaction, registration.id).await?.ok_or(StoreError::NotFound)?;
        if let Some(holder) = find_by_client(&mut transaction, &registration.client).await?
            && holder.id != registration.id
        {
            return Err(StoreError::ClientKeyTaken(holder.id));
        }
        let schedule = register(&mut transaction, now, registration, Some(found)).await?;
        transaction.commit().await?;
        Ok(Upserted { armed_min: schedule.due_at, schedules: vec![schedule], now: Some(now) })
    }

    pub(super) async fn pause(&self, id: ScheduleId) -> Result<(), StoreError> {
        let (mut transaction, now) = self.begin().await?;
        let paused = sqlx::query(sql::SCHEDULE_PAUSE).bind(id).bind(now).execute(&mut *transaction).await?;
        if paused.rows_affected() == 0 {
            drop(transaction);
            return self.explain_state(id).await.map(|_| ());
        }
        sqlx::query(sql::RUN_DISARM).bind(id).execute(&mut *transaction).await?;
        tell(&mut transaction, now, HistoryKind::Paused, id, None).await?;
        transaction.commit().await
    }

    pub(super) async fn resume(
        &self,
        id: ScheduleId,
        revision: i64,
        arming: &Arming,
    ) -> Result<Option<UnixMs>, StoreError> {
        let (mut transaction, now) = self.begin().await?;
        let resumed = sqlx::query(sql::SCHEDULE_RESUME)
            .bind(id)
            .bind(now)
            .bind(series_step(arming))
            .bind(revision)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(row) = resumed else {
            drop(transaction);
            return rows::resumed_already(&self.explain_state(id).await?);
        };
        let owner = Owner {
            id,
            revision: row.try_get("revision")?,
            series: row.try_get("series")?,
            queue: row.try_get("queue")?,
            priority: row.try_get("priority")?,
        };
        let run_id = Uuid::now_v7();
        let due_at = arm(&mut transaction, now, &owner, arming, run_id).await?;
        tell(&mut transaction, now, HistoryKind::Resumed, id, Some(run_id)).await?;
        transaction.commit().await?;
        Ok(Some(due_at))
    }

    pub(super) async fn trigger(&self, id: ScheduleId) -> Result<Triggered, StoreError> {
        let (mut transaction, now) = self.begin().await?;
        let kept_until = now.saturating_add(self.retain_ms());
        sqlx::query(sql::SCHEDULE_OVER).bind(id).execute(&mut *transaction).await?;
        let numbered =
            sqlx::query(sql::SCHEDULE_NUMBER).bind(id).bind(kept_until).fetch_optional(&mut *transaction).await?;
        let Some(row) = numbered else {
            drop(transaction);
            let current = self.get(id).await?.ok_or(StoreError::NotFound)?;
            return Err(StoreError::WrongState(current.state));
        };
        let run_id = Uuid::now_v7();
        sqlx::query(sql::RUN_TRIGGER)
            .bind(run_id)
            .bind(id)
            .bind(row.try_get::<i64, _>("revision")?)
            .bind(row.try_get::<i64, _>("series")?)
            .bind(now)
            .bind(row.try_get::<String, _>("queue")?)
            .bind(row.try_get::<i64, _>("priority")?)
            .execute(&mut *transaction)
            .await?;
        tell(&mut transaction, now, HistoryKind::Triggered, id, Some(run_id)).await?;
        transaction.commit().await?;
        Ok(Triggered { run_id, due_at: now })
    }

    pub(super) async fn delete(&self, selection: &Selection) -> Result<Deleted, StoreError> {
        let mut deleted = Deleted { count: 0, in_flight: 0 };
        if matches!(selection, Selection::Client(client) if *client == ClientKey::default()) {
            return Ok(deleted);
        }
        let mut after = Uuid::nil();
        loop {
            let (some, last) = self.delete_some(selection, after).await?;
            deleted.count += some.count;
            deleted.in_flight += some.in_flight;
            match last {
                Some(last) => after = last,
                None => return Ok(deleted),
            }
        }
    }

    /// Deletes what one transaction may; answers the last id beside, if there may be more.
    async fn delete_some(
        &self,
        selection: &Selection,
        after: ScheduleId,
    ) -> Result<(Deleted, Option<ScheduleId>), StoreError> {
        let condition = deletion_condition(selection, 5);
        let (mut transaction, now) = self.begin().await?;
        let mut delete = sqlx::query_scalar(AssertSqlSafe(sql::schedule_delete(&condition.text)))
            .bind(now)
            .bind(self.retain_ms())
            .bind(after)
            .bind(DELETE_LIMIT);
        if let Selection::Id(id) = selection {
            delete = delete.bind(*id);
        }
        for value in condition.values {
            delete = delete.bind(value);
        }
        let ids: Vec<Uuid> = delete.fetch_all(&mut *transaction).await?;
        let listed = json(&ids.iter().map(|id| id.simple().to_string()).collect::<Vec<String>>());
        sqlx::query(sql::HISTORY_TELL_DELETED)
            .bind(&listed)
            .bind(now)
            .bind(HistoryKind::Deleted as i16)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(sql::RUN_CANCEL).bind(&listed).bind(now).bind(self.retain_ms()).execute(&mut *transaction).await?;
        let in_flight: i64 = sqlx::query_scalar(sql::RUN_IN_FLIGHT).bind(&listed).fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        let last = ids.iter().max().copied().filter(|_| ids.len() as i64 == DELETE_LIMIT);
        Ok((Deleted { count: ids.len() as u64, in_flight: in_flight.unsigned_abs() }, last))
    }

    pub(super) async fn get(&self, id: ScheduleId) -> Result<Option<ScheduleRow>, StoreError> {
        self.statements.count(1);
        let row = sqlx::query(sql::SCHEDULE_GET).bind(id).fetch_optional(&self.readers).await?;
        row.as_ref().map(schedule_row).transpose()
    }

    pub(super) async fn list(&self, filter: &ScheduleFilter, page: &Page) -> Result<Vec<ScheduleRow>, StoreError> {
        let (statement, values) = sql::schedule_list(filter, page);
        let mut list = sqlx::query(AssertSqlSafe(statement));
        for value in values {
            list = list.bind(value);
        }
        if let Some(after) = page.after {
            list = list.bind(after);
        }
        self.statements.count(1);
        let rows = list.fetch_all(&self.readers).await?;
        rows.iter().map(schedule_row).collect()
    }

    pub(super) async fn payload_by_client(&self, client: &ClientKey) -> Result<Option<String>, StoreError> {
        self.statements.count(1);
        Ok(bind_client!(sqlx::query_scalar(sql::PAYLOAD_BY_CLIENT), client).fetch_optional(&self.readers).await?)
    }

    pub(super) async fn payloads(
        &self,
        after: Option<ScheduleId>,
        limit: i64,
    ) -> Result<Vec<StoredPayload>, StoreError> {
        self.statements.count(1);
        let rows = sqlx::query(sql::SCHEDULE_PAYLOADS).bind(after).bind(limit).fetch_all(&self.readers).await?;
        rows.iter().map(rows::stored_payload).collect()
    }

    pub(super) async fn reseal(&self, batch: &[StoredPayload]) -> Result<u64, StoreError> {
        let (mut transaction, _) = self.begin().await?;
        let mut written = 0;
        for stored in batch {
            let one = sqlx::query(sql::SCHEDULE_RESEAL)
                .bind(stored.id)
                .bind(stored.revision)
                .bind(&stored.payload)
                .bind(&stored.fingerprint)
                .execute(&mut *transaction)
                .await?;
            written += one.rows_affected();
        }
        transaction.commit().await?;
        Ok(written)
    }

    pub(super) async fn dry(&self) -> Result<Vec<ScheduleId>, StoreError> {
        self.statements.count(1);
        Ok(sqlx::query_scalar(sql::SCHEDULE_DRY).fetch_all(&self.readers).await?)
    }

    /// Why a state change found nothing to change: `Ok` when it had been made already.
    async fn explain_state(&self, id: ScheduleId) -> Result<ScheduleRow, StoreError> {
        let current = self.get(id).await?.ok_or(StoreError::NotFound)?;
        rows::refuse_finished(current)
    }
}

/// The places of a batch whose client keys nobody has.
async fn new_ones(connection: &mut SqliteConnection, batch: &[Registration]) -> Result<HashSet<usize>, StoreError> {
    let keys: Vec<[&str; 5]> = batch
        .iter()
        .map(|registration| {
            let client = &registration.client;
            [&client.application, &client.group, &client.key, &client.operation, &client.kind].map(String::as_str)
        })
        .collect();
    let found: Vec<i64> = sqlx::query_scalar(sql::SCHEDULES_FOUND).bind(json(&keys)).fetch_all(connection).await?;
    let found: HashSet<usize> = found.into_iter().filter_map(|place| usize::try_from(place).ok()).collect();
    Ok((0..batch.len()).filter(|place| !found.contains(place)).collect())
}

/// Writes and arms the new ones of a batch, many by a statement: each statement is a way to the connection's thread and
/// back. Answers what became of them, by place.
async fn create(
    connection: &mut SqliteConnection,
    now: UnixMs,
    batch: &[Registration],
    new: &HashSet<usize>,
) -> Result<Vec<Option<UpsertedSchedule>>, StoreError> {
    let mut created = vec![None; batch.len()];
    let new: Vec<usize> = (0..batch.len()).filter(|place| new.contains(place)).collect();
    let mut rest = &new[..];
    while !rest.is_empty() {
        // Few different numbers, so that there are few statements to prepare.
        let size = CREATE_MANY.into_iter().find(|size| *size <= rest.len()).unwrap_or(1);
        let (part, after) = rest.split_at(size);
        rest = after;
        let statement = sql::schedules_insert(part.len());
        let mut schedules = sqlx::query(AssertSqlSafe(statement));
        for place in part {
            let registration = &batch[*place];
            schedules = bind_client!(schedules.bind(registration.id), &registration.client)
                .bind(&registration.name)
                .bind(fingerprint(registration, now))
                .bind(&registration.payload)
                .bind(&registration.queue)
                .bind(registration.priority)
                .bind(series_step(&registration.arming))
                .bind(now)
                .bind(now)
                .bind(registration.history_check)
                .bind(registration.arming.is_once());
        }
        schedules.execute(&mut *connection).await?;
        let statement = sql::runs_arm(part.len());
        let mut runs = sqlx::query(AssertSqlSafe(statement));
        for place in part {
            let registration = &batch[*place];
            let nominal_at = nominal_at(&registration.arming, now);
            let due_at = nominal_at.max(now);
            let series = series_step(&registration.arming);
            runs = runs
                .bind(registration.run_id)
                .bind(registration.id)
                .bind(series)
                .bind(nominal_at)
                .bind(due_at)
                .bind(&registration.queue)
                .bind(registration.priority)
                .bind(now);
            // Twice, as it has no number here.
            let zone_rules = zone_rules(&registration.arming);
            runs = runs.bind(zone_rules).bind(zone_rules);
            created[*place] = Some(UpsertedSchedule {
                id: registration.id,
                revision: 1,
                change: Change::Created,
                due_at: Some(due_at),
            });
        }
        runs.execute(&mut *connection).await?;
        for place in part.iter().filter(|place| batch[**place].history_check) {
            let Registration { id, run_id, .. } = &batch[*place];
            tell(connection, now, HistoryKind::Registered, *id, Some(*run_id)).await?;
        }
    }
    Ok(created)
}

fn nominal_at(arming: &Arming, now: UnixMs) -> UnixMs {
    match arming.at {
        ArmAt::At(at) => at,
        ArmAt::AfterMs(after) => now.saturating_add(after),
    }
}

/// A list as the statements take it.
pub(super) fn json<T: serde::Serialize>(values: &[T]) -> String {
    serde_json::to_string(values).unwrap_or_else(|_| "[]".to_owned())
}

/// A schedule that is there already.
struct Found {
    id: ScheduleId,
    state: ScheduleState,
    revision: i64,
    series: i64,
    fingerprint: String,
    due_at: Option<UnixMs>,
    running: bool,
    /// How a one-shot ended of which its run alone says that it is over.
    armed_outcome: Option<i16>,
}

impl Found {
    fn is_over(&self) -> bool {
        self.state == ScheduleState::Finished || self.armed_outcome.is_some()
    }

    /// What its row has to count before it stands for another revision.
    fn uncounted(&self) -> i64 {
        i64::from(self.armed_outcome == Some(RunState::Succeeded as i16))
    }
}

/// What arming needs to know of a schedule.
struct Owner {
    id: ScheduleId,
    revision: i64,
    series: i64,
    queue: String,
    priority: i16,
}

async fn find_by_client(connection: &mut SqliteConnection, client: &ClientKey) -> Result<Option<Found>, StoreError> {
    let row = bind_client!(sqlx::query(sql::SCHEDULE_FIND), client).fetch_optional(connection).await?;
    row.as_ref().map(found).transpose()
}

async fn find_by_id(connection: &mut SqliteConnection, id: ScheduleId) -> Result<Option<Found>, StoreError> {
    let row = sqlx::query(sql::SCHEDULE_FIND_BY_ID).bind(id).fetch_optional(connection).await?;
    row.as_ref().map(found).transpose()
}

fn found(row: &sqlx::sqlite::SqliteRow) -> Result<Found, StoreError> {
    Ok(Found {
        id: row.try_get("id")?,
        state: schedule_state(row.try_get("state")?)?,
        revision: row.try_get("revision")?,
        series: row.try_get("series")?,
        fingerprint: row.try_get("fingerprint")?,
        due_at: row.try_get("due_at")?,
        running: row.try_get("running")?,
        armed_outcome: row.try_get("armed_outcome")?,
    })
}

/// Writes one registration over what was found under its client key or id.
async fn register(
    connection: &mut SqliteConnection,
    now: UnixMs,
    registration: &Registration,
    found: Option<Found>,
) -> Result<UpsertedSchedule, StoreError> {
    let fingerprint = fingerprint(registration, now);
    let arming = &registration.arming;
    let Some(found) = found else {
        let owner = Owner {
            id: registration.id,
            revision: 1,
            series: series_step(arming),
            queue: registration.queue.clone(),
            priority: registration.priority,
        };
        write(connection, sql::SCHEDULE_INSERT, owner.id, owner.series, &fingerprint, now, registration)
            .bind(0)
            .execute(&mut *connection)
            .await?;
        let due_at = arm(connection, now, &owner, arming, registration.run_id).await?;
        if registration.history_check {
            tell(connection, now, HistoryKind::Registered, owner.id, Some(registration.run_id)).await?;
        }
        return Ok(upserted(&owner, Change::Created, Some(due_at)));
    };
    let mut owner = Owner {
        id: found.id,
        revision: found.revision,
        series: found.series,
        queue: registration.queue.clone(),
        priority: registration.priority,
    };
    if found.fingerprint == fingerprint && !found.is_over() {
        let dry = found.state == ScheduleState::Active && found.due_at.is_none() && !found.running;
        let due_at = match dry {
            true => Some(arm(connection, now, &owner, arming, registration.run_id).await?),
            false => found.due_at,
        };
        return Ok(upserted(&owner, Change::Unchanged, due_at));
    }
    owner.series += series_step(arming);
    let row = write(connection, sql::SCHEDULE_REPLACE, owner.id, owner.series, &fingerprint, now, registration)
        .bind(found.uncounted())
        .fetch_one(&mut *connection)
        .await?;
    owner.revision = row.try_get("revision")?;
    let due_at = match schedule_state(row.try_get("state")?)? {
        ScheduleState::Active => Some(arm(connection, now, &owner, arming, registration.run_id).await?),
        _ => None,
    };
    if registration.history_check {
        tell(connection, now, HistoryKind::Updated, owner.id, due_at.map(|_| registration.run_id)).await?;
    }
    Ok(upserted(&owner, Change::Replaced, due_at))
}

/// An arming that is never equal to the one before gets a fingerprint nothing else has.
fn fingerprint(registration: &Registration, now: UnixMs) -> String {
    let rearm = match (registration.arming.unchanged, registration.arming.at) {
        (OnUnchanged::Rearm, _) => true,
        (OnUnchanged::KeepWhileFuture, ArmAt::At(at)) => at <= now,
        _ => false,
    };
    match rearm {
        true => format!("{}:{}", registration.fingerprint, registration.run_id),
        false => registration.fingerprint.clone(),
    }
}

fn series_step(arming: &Arming) -> i64 {
    i64::from(!arming.calendar)
}

fn upserted(owner: &Owner, change: Change, due_at: Option<UnixMs>) -> UpsertedSchedule {
    UpsertedSchedule { id: owner.id, revision: owner.revision, change, due_at }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Insert and replace take the same parameters; the last, what is to be added to the iterations, is theirs to bind.
fn write<'q>(
    _connection: &SqliteConnection,
    statement: &'static str,
    id: ScheduleId,
    series: i64,
    fingerprint: &'q str,
    now: UnixMs,
    registration: &'q Registration,
) -> Query<'q> {
    bind_client!(sqlx::query(statement).bind(id), registration.client)
        .bind(&registration.name)
        .bind(fingerprint)
        .bind(&registration.payload)
        .bind(&registration.queue)
        .bind(registration.priority)
        .bind(series)
        .bind(now)
        .bind(registration.history_check)
        .bind(registration.arming.is_once())
}

/// Tells the history what became of a schedule, if that asks for it.
async fn tell(
    connection: &mut SqliteConnection,
    now: UnixMs,
    kind: HistoryKind,
    id: ScheduleId,
    run_id: Option<RunId>,
) -> Result<(), StoreError> {
    sqlx::query(sql::HISTORY_TELL).bind(id).bind(now).bind(kind as i16).bind(run_id).execute(connection).await?;
    Ok(())
}

async fn arm(
    connection: &mut SqliteConnection,
    now: UnixMs,
    owner: &Owner,
    arming: &Arming,
    run_id: Uuid,
) -> Result<UnixMs, StoreError> {
    let nominal_at = nominal_at(arming, now);
    if arming.calendar && is_behind(connection, owner.id, nominal_at).await? {
        return Err(occurrence_taken(connection, owner.id).await?);
    }
    let due_at = nominal_at.max(now);
    let armed = sqlx::query(sql::RUN_ARM)
        .bind(run_id)
        .bind(owner.id)
        .bind(owner.revision)
        .bind(if arming.calendar { 0 } else { owner.series })
        .bind(nominal_at)
        .bind(due_at)
        .bind(&owner.queue)
        .bind(owner.priority)
        .bind(now)
        .bind(zone_rules(arming))
        .execute(&mut *connection)
        .await;
    match armed {
        Ok(_) => Ok(due_at),
        // Differs: SQLite names the columns of the broken constraint, not the constraint.
        Err(sqlx::Error::Database(error)) if error.message().contains("runs.nominal_at") => {
            Err(occurrence_taken(connection, owner.id).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// The version of the rules by which an instant was found; `None` where no zone counts.
fn zone_rules(arming: &Arming) -> Option<i32> {
    matches!(arming.at, ArmAt::At(_)).then(|| rules::armed_by().number())
}

/// Whether a later instant of the schedule was run already.
async fn is_behind(connection: &mut SqliteConnection, id: ScheduleId, at: UnixMs) -> Result<bool, StoreError> {
    let ahead: Option<UnixMs> = sqlx::query_scalar(sql::RUN_AHEAD).bind(id).bind(at).fetch_optional(connection).await?;
    Ok(ahead.is_some())
}

async fn occurrence_taken(connection: &mut SqliteConnection, id: ScheduleId) -> Result<StoreError, StoreError> {
    let latest: Option<UnixMs> = sqlx::query_scalar(sql::LATEST_BY_ID).bind(id).fetch_one(connection).await?;
    Ok(StoreError::OccurrenceTaken { latest: latest.unwrap_or(0) })
}
