//! Schedules on PostgreSQL: register, update, pause, resume, trigger, delete, read.

use std::collections::HashMap;

use sqlx::postgres::{PgRow, PgTransaction};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::run::place;
use super::{PostgresStore, sql};
use crate::model::schedule::ClientKey;
use crate::model::timing::{ArmAt, Arming};
use crate::model::{ScheduleId, UnixMs};
use crate::store::rows::{self, bind_client, schedule_row};
use crate::store::selection::{Condition, client_condition};
use crate::store::{
    Change, Deleted, Page, Registration, ScheduleFilter, ScheduleRow, Selection, StoreError, StoredPayload, Triggered,
    Upserted, UpsertedSchedule,
};

/// How often a registration starts over because the schedule it found unchanged was gone a moment later.
const UPSERT_TRIES: usize = 5;

impl PostgresStore {
    pub(super) async fn upsert(&self, batch: &[Registration]) -> Result<Upserted, StoreError> {
        let mut done: Vec<Option<UpsertedSchedule>> = vec![None; batch.len()];
        let mut now = None;
        for _ in 0..UPSERT_TRIES {
            let open: Vec<usize> = (0..batch.len()).filter(|index| done[*index].is_none()).collect();
            if open.is_empty() {
                break;
            }
            now = self.upsert_open(batch, &open, &mut done).await?.or(now);
        }
        let schedules: Option<Vec<UpsertedSchedule>> = done.into_iter().collect();
        let schedules = schedules.ok_or_else(|| {
            StoreError::Broken("the schedule was deleted and registered again too often meanwhile".to_owned())
        })?;
        let armed_min = schedules.iter().filter_map(|schedule| schedule.due_at).min();
        Ok(Upserted { armed_min, schedules, now })
    }

    /// Answers the database's now.
    async fn upsert_open(
        &self,
        batch: &[Registration],
        open: &[usize],
        done: &mut [Option<UpsertedSchedule>],
    ) -> Result<Option<UnixMs>, StoreError> {
        let of = |index: &usize| &batch[*index];
        let column = |field: fn(&Registration) -> &str| open.iter().map(|i| field(of(i))).collect::<Vec<&str>>();
        let times: Vec<ArmColumns> = open.iter().map(|i| ArmColumns::of(&of(i).arming)).collect();
        self.statements.count(1);
        let rows = sqlx::query(sql::SCHEDULE_UPSERT)
            .bind(self.injected_now())
            .bind(open.iter().map(|i| of(i).id).collect::<Vec<Uuid>>())
            .bind(column(|r| &r.client.application))
            .bind(column(|r| &r.client.group))
            .bind(column(|r| &r.client.key))
            .bind(column(|r| &r.client.operation))
            .bind(column(|r| &r.client.kind))
            .bind(column(|r| &r.name))
            .bind(column(|r| &r.payload))
            .bind(column(|r| &r.fingerprint))
            .bind(column(|r| &r.queue))
            .bind(open.iter().map(|i| of(i).priority).collect::<Vec<i16>>())
            .bind(times.iter().map(|t| t.calendar).collect::<Vec<bool>>())
            .bind(times.iter().map(|t| t.at).collect::<Vec<Option<i64>>>())
            .bind(times.iter().map(|t| t.after).collect::<Vec<Option<i64>>>())
            .bind(times.iter().map(|t| t.unchanged).collect::<Vec<i16>>())
            .bind(open.iter().map(|i| of(i).run_id).collect::<Vec<Uuid>>())
            .bind(open.iter().map(|i| of(i).history_check).collect::<Vec<bool>>())
            .fetch_all(&self.pool)
            .await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) if violates(&error, "runs_once") => {
                let clients: Vec<&ClientKey> = open.iter().map(|i| &of(i).client).collect();
                return Err(self.occurrence_taken(&clients).await?);
            }
            Err(error) => return Err(error.into()),
        };
        let mut places: HashMap<ScheduleId, usize> = HashMap::new();
        let mut now = None;
        for row in &rows {
            now = Some(row.try_get("now")?);
            let id: Uuid = row.try_get("id")?;
            match row.try_get::<i32, _>("part")? {
                0 => {
                    let index = open[place(row.try_get("ord")?)];
                    let revision: i64 = row.try_get("revision")?;
                    let change = if revision == 1 { Change::Created } else { Change::Replaced };
                    done[index] = Some(UpsertedSchedule { id, revision, change, due_at: None });
                    places.insert(id, index);
                }
                1 => {
                    let schedule = places.get(&id).and_then(|index| done[*index].as_mut());
                    let schedule = schedule.ok_or_else(|| {
                        StoreError::Broken("a registration armed a schedule that it did not write".to_owned())
                    })?;
                    schedule.due_at = Some(row.try_get("due_at")?);
                }
                _ => {
                    let index = open[place(row.try_get("ord")?)];
                    done[index] = Some(self.left_alone(row, of(&index)).await?);
                }
            }
        }
        Ok(now)
    }

    async fn upsert_unchanged(&self, registration: &Registration) -> Result<Option<UpsertedSchedule>, StoreError> {
        let client = &registration.client;
        self.statements.count(1);
        let found = bind_client!(sqlx::query(sql::SCHEDULE_FIND), client).fetch_optional(&self.pool).await?;
        match found {
            Some(found) => Ok(Some(self.left_alone(&found, registration).await?)),
            None => Ok(None),
        }
    }

    /// What an unchanged registration found.
    async fn left_alone(&self, found: &PgRow, registration: &Registration) -> Result<UpsertedSchedule, StoreError> {
        let id: Uuid = found.try_get("id")?;
        let mut due_at: Option<UnixMs> = found.try_get("due_at")?;
        if found.try_get("armed_missing")? {
            due_at = self.rearm(id, registration).await?;
        }
        Ok(UpsertedSchedule { id, revision: found.try_get("revision")?, change: Change::Unchanged, due_at })
    }

    /// Heals a schedule that has no armed run (rule 3), which only a bug or a hand in the tables makes.
    async fn rearm(&self, id: ScheduleId, registration: &Registration) -> Result<Option<UnixMs>, StoreError> {
        let arm = ArmColumns::of(&registration.arming);
        self.statements.count(1);
        let armed = sqlx::query_scalar(sql::SCHEDULE_REARM)
            .bind(self.injected_now())
            .bind(id)
            .bind(registration.run_id)
            .bind(arm.calendar)
            .bind(arm.at)
            .bind(arm.after)
            .fetch_optional(&self.pool)
            .await;
        self.taken_by_id(armed, id).await
    }

    pub(super) async fn update(&self, registration: &Registration) -> Result<Upserted, StoreError> {
        let client = &registration.client;
        let arm = ArmColumns::of(&registration.arming);
        self.statements.count(1);
        let updated =
            bind_client!(sqlx::query(sql::SCHEDULE_UPDATE).bind(self.injected_now()).bind(registration.id), client)
                .bind(&registration.name)
                .bind(&registration.fingerprint)
                .bind(&registration.payload)
                .bind(&registration.queue)
                .bind(registration.priority)
                .bind(arm.at)
                .bind(arm.after)
                .bind(arm.unchanged)
                .bind(registration.run_id)
                .bind(arm.calendar)
                .bind(registration.history_check)
                .fetch_optional(&self.pool)
                .await;
        if let Err(error) = &updated
            && violates(error, "schedules_client")
        {
            let holder = self.id_by_client(client).await?;
            return Err(holder.map_or(StoreError::NotFound, StoreError::ClientKeyTaken));
        }
        let mut now = None;
        let schedule = match self.taken_by_id(updated, registration.id).await? {
            Some(row) => {
                now = Some(row.try_get("now")?);
                let (revision, due_at) = (row.try_get("revision")?, row.try_get("due_at")?);
                UpsertedSchedule { id: registration.id, revision, change: Change::Replaced, due_at }
            }
            None => self.update_unchanged(registration).await?,
        };
        Ok(Upserted { armed_min: schedule.due_at, schedules: vec![schedule], now })
    }

    async fn update_unchanged(&self, registration: &Registration) -> Result<UpsertedSchedule, StoreError> {
        let current = self.get(registration.id).await?.ok_or(StoreError::NotFound)?;
        match self.upsert_unchanged(registration).await? {
            Some(found) if found.id == current.id => Ok(found),
            Some(found) => Err(StoreError::ClientKeyTaken(found.id)),
            None => Err(StoreError::NotFound),
        }
    }

    pub(super) async fn pause(&self, id: ScheduleId) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let paused: i64 = sqlx::query_scalar(sql::SCHEDULE_PAUSE)
            .bind(self.injected_now())
            .bind(id)
            .fetch_one(&mut *transaction)
            .await?;
        sqlx::query(sql::RUN_DISARM).bind(id).execute(&mut *transaction).await?;
        if paused == 0 {
            transaction.rollback().await?;
            return self.explain_state(id).await.map(|_| ());
        }
        Ok(transaction.commit().await?)
    }

    pub(super) async fn resume(
        &self,
        id: ScheduleId,
        revision: i64,
        arming: &Arming,
    ) -> Result<Option<UnixMs>, StoreError> {
        let arm = ArmColumns::of(arming);
        self.statements.count(1);
        let resumed = sqlx::query_scalar(sql::SCHEDULE_RESUME)
            .bind(self.injected_now())
            .bind(id)
            .bind(Uuid::now_v7())
            .bind(arm.calendar)
            .bind(arm.at)
            .bind(arm.after)
            .bind(revision)
            .fetch_optional(&self.pool)
            .await;
        match self.taken_by_id(resumed, id).await? {
            Some(due_at) => Ok(Some(due_at)),
            None => rows::resumed_already(&self.explain_state(id).await?),
        }
    }

    pub(super) async fn trigger(&self, id: ScheduleId) -> Result<Triggered, StoreError> {
        let run_id = Uuid::now_v7();
        self.statements.count(1);
        let triggered = sqlx::query_scalar(sql::SCHEDULE_TRIGGER)
            .bind(self.injected_now())
            .bind(id)
            .bind(run_id)
            .bind(self.retain_ms())
            .fetch_optional(&self.pool)
            .await?;
        if let Some(due_at) = triggered {
            return Ok(Triggered { run_id, due_at });
        }
        let current = self.get(id).await?.ok_or(StoreError::NotFound)?;
        Err(StoreError::WrongState(current.state))
    }

    pub(super) async fn delete(&self, selection: &Selection) -> Result<Deleted, StoreError> {
        let condition = match selection {
            Selection::Id(_) => Condition { text: " AND s.id = $3".to_owned(), values: Vec::new() },
            Selection::Client(client) if *client == ClientKey::default() => {
                return Ok(Deleted { count: 0, in_flight: 0 });
            }
            Selection::Client(client) => client_condition(client, 3),
        };
        let mut transaction = self.begin().await?;
        let mut delete = sqlx::query_scalar(AssertSqlSafe(sql::schedule_delete(&condition.text)))
            .bind(self.injected_now())
            .bind(self.retain_ms());
        if let Selection::Id(id) = selection {
            delete = delete.bind(*id);
        }
        for value in condition.values {
            delete = delete.bind(value);
        }
        let ids: Vec<Uuid> = delete.fetch_all(&mut *transaction).await?;
        sqlx::query(sql::RUN_CANCEL)
            .bind(self.injected_now())
            .bind(&ids)
            .bind(self.retain_ms())
            .execute(&mut *transaction)
            .await?;
        let in_flight: i64 = sqlx::query_scalar(sql::RUN_IN_FLIGHT).bind(&ids).fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Deleted { count: ids.len() as u64, in_flight: in_flight.unsigned_abs() })
    }

    pub(super) async fn get(&self, id: ScheduleId) -> Result<Option<ScheduleRow>, StoreError> {
        self.statements.count(1);
        let row = sqlx::query(sql::SCHEDULE_GET).bind(id).fetch_optional(&self.pool).await?;
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
        let rows = list.fetch_all(&self.pool).await?;
        rows.iter().map(schedule_row).collect()
    }

    pub(super) async fn payload_by_client(&self, client: &ClientKey) -> Result<Option<String>, StoreError> {
        match self.id_by_client(client).await? {
            Some(id) => Ok(self.get(id).await?.map(|schedule| schedule.payload)),
            None => Ok(None),
        }
    }

    pub(super) async fn payloads(
        &self,
        after: Option<ScheduleId>,
        limit: i64,
    ) -> Result<Vec<StoredPayload>, StoreError> {
        self.statements.count(1);
        let rows = sqlx::query(sql::SCHEDULE_PAYLOADS).bind(after).bind(limit).fetch_all(&self.pool).await?;
        rows.iter().map(rows::stored_payload).collect()
    }

    pub(super) async fn reseal(&self, batch: &[StoredPayload]) -> Result<u64, StoreError> {
        self.statements.count(1);
        let written = sqlx::query(sql::SCHEDULE_RESEAL)
            .bind(batch.iter().map(|stored| stored.id).collect::<Vec<Uuid>>())
            .bind(batch.iter().map(|stored| stored.revision).collect::<Vec<i64>>())
            .bind(batch.iter().map(|stored| stored.payload.as_str()).collect::<Vec<&str>>())
            .bind(batch.iter().map(|stored| stored.fingerprint.as_str()).collect::<Vec<&str>>())
            .execute(&self.pool)
            .await?;
        Ok(written.rows_affected())
    }

    pub(super) async fn dry(&self) -> Result<Vec<ScheduleId>, StoreError> {
        self.statements.count(1);
        Ok(sqlx::query_scalar(sql::SCHEDULE_DRY).fetch_all(&self.pool).await?)
    }

    async fn id_by_client(&self, client: &ClientKey) -> Result<Option<ScheduleId>, StoreError> {
        self.statements.count(1);
        let row = bind_client!(sqlx::query(sql::SCHEDULE_FIND), client).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.try_get("id")).transpose()?)
    }

    /// Why a state change found nothing to change: `Ok` when it had been made already.
    async fn explain_state(&self, id: ScheduleId) -> Result<ScheduleRow, StoreError> {
        let current = self.get(id).await?.ok_or(StoreError::NotFound)?;
        rows::refuse_finished(current)
    }

    async fn begin(&self) -> Result<PgTransaction<'static>, StoreError> {
        self.statements.count(4); // begin, two statements, commit
        Ok(self.pool.begin().await?)
    }

    async fn occurrence_taken(&self, clients: &[&ClientKey]) -> Result<StoreError, StoreError> {
        let column = |field: fn(&ClientKey) -> &str| clients.iter().map(|c| field(c)).collect::<Vec<&str>>();
        self.statements.count(1);
        let latest: Option<UnixMs> = sqlx::query_scalar(sql::LATEST_BY_CLIENT)
            .bind(column(|c| &c.application))
            .bind(column(|c| &c.group))
            .bind(column(|c| &c.key))
            .bind(column(|c| &c.operation))
            .bind(column(|c| &c.kind))
            .fetch_one(&self.pool)
            .await?;
        Ok(StoreError::OccurrenceTaken { latest: latest.unwrap_or(0) })
    }

    async fn taken_by_id<T>(
        &self,
        outcome: Result<Option<T>, sqlx::Error>,
        id: ScheduleId,
    ) -> Result<Option<T>, StoreError> {
        match outcome {
            Err(error) if violates(&error, "runs_once") => {
                self.statements.count(1);
                let latest: Option<UnixMs> =
                    sqlx::query_scalar(sql::LATEST_BY_ID).bind(id).fetch_one(&self.pool).await?;
                Err(StoreError::OccurrenceTaken { latest: latest.unwrap_or(0) })
            }
            outcome => Ok(outcome?),
        }
    }
}

/// An arming as the statements take it.
struct ArmColumns {
    calendar: bool,
    at: Option<i64>,
    after: Option<i64>,
    unchanged: i16,
}

impl ArmColumns {
    fn of(arming: &Arming) -> Self {
        let (at, after) = match arming.at {
            ArmAt::At(at) => (Some(at), None),
            ArmAt::AfterMs(after) => (None, Some(after)),
        };
        Self { calendar: arming.calendar, at, after, unchanged: arming.unchanged as i16 }
    }
}

fn violates(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().is_some_and(|database| database.constraint() == Some(constraint))
}
