//! Schedules on PostgreSQL: register, update, pause, resume, trigger, delete, read.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::link::{Link, PgQuery};
use super::run::place;
use super::{PostgresStore, sql};
use crate::model::schedule::ClientKey;
use crate::model::timing::{ArmAt, Arming};
use crate::model::zone::rules;
use crate::model::{RunId, ScheduleId, UnixMs};
use crate::store::rows::{self, bind_client, schedule_row};
use crate::store::selection::deletion_condition;
use crate::store::{
    Change, Deleted, Page, Registration, ScheduleFilter, ScheduleRow, Selection, StoreError, StoredPayload, Triggered,
    Upserted, UpsertedSchedule,
};

/// How often a registration starts over because the schedule it found unchanged was gone a moment later.
const UPSERT_TRIES: usize = 5;

impl PostgresStore {
    pub(super) async fn upsert(&self, link: &mut Link, batch: &[Registration]) -> Result<Upserted, StoreError> {
        let mut done: Vec<Option<UpsertedSchedule>> = vec![None; batch.len()];
        let mut now = None;
        for _ in 0..UPSERT_TRIES {
            let open: Vec<usize> = (0..batch.len()).filter(|index| done[*index].is_none()).collect();
            if open.is_empty() {
                break;
            }
            now = self.upsert_open(link, batch, &open, &mut done).await?.or(now);
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
        link: &mut Link,
        batch: &[Registration],
        open: &[usize],
        done: &mut [Option<UpsertedSchedule>],
    ) -> Result<Option<UnixMs>, StoreError> {
        let of = |index: &usize| &batch[*index];
        let upsert = match open {
            [one] => self.upsert_one(of(one)),
            several => self.upsert_several(&several.iter().map(of).collect::<Vec<_>>()),
        };
        let rows = link.all(upsert).await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) if violates(&error, "runs_once") => {
                let clients: Vec<&ClientKey> = open.iter().map(|i| &of(i).client).collect();
                return Err(self.occurrence_taken(link, &clients).await?);
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
                    done[index] = Some(self.left_alone(link, row, of(&index)).await?);
                }
            }
        }
        Ok(now)
    }

    fn upsert_several<'a>(&self, batch: &[&'a Registration]) -> PgQuery<'a> {
        let column = |field: fn(&'a Registration) -> &'a str| batch.iter().map(|r| field(r)).collect::<Vec<&'a str>>();
        let times: Vec<ArmColumns> = batch.iter().map(|r| ArmColumns::of(&r.arming)).collect();
        sqlx::query(sql::SCHEDULE_UPSERT)
            .bind(self.injected_now())
            .bind(batch.iter().map(|r| r.id).collect::<Vec<Uuid>>())
            .bind(column(|r| &r.client.application))
            .bind(column(|r| &r.client.group))
            .bind(column(|r| &r.client.key))
            .bind(column(|r| &r.client.operation))
            .bind(column(|r| &r.client.kind))
            .bind(column(|r| &r.name))
            .bind(column(|r| &r.payload))
            .bind(column(|r| &r.fingerprint))
            .bind(column(|r| &r.queue))
            .bind(batch.iter().map(|r| r.priority).collect::<Vec<i16>>())
            .bind(times.iter().map(|t| t.calendar).collect::<Vec<bool>>())
            .bind(times.iter().map(|t| t.at).collect::<Vec<Option<i64>>>())
            .bind(times.iter().map(|t| t.after).collect::<Vec<Option<i64>>>())
            .bind(times.iter().map(|t| t.unchanged).collect::<Vec<i16>>())
            .bind(batch.iter().map(|r| r.run_id).collect::<Vec<Uuid>>())
            .bind(batch.iter().map(|r| r.history_check).collect::<Vec<bool>>())
            .bind(rules::armed_by().number())
    }

    fn upsert_one<'a>(&self, registration: &'a Registration) -> PgQuery<'a> {
        let arm = ArmColumns::of(&registration.arming);
        let one = sqlx::query(sql::SCHEDULE_UPSERT_ONE).bind(self.injected_now()).bind(registration.id);
        bind_client!(one, &registration.client)
            .bind(&registration.name)
            .bind(&registration.payload)
            .bind(&registration.fingerprint)
            .bind(&registration.queue)
            .bind(registration.priority)
            .bind(arm.calendar)
            .bind(arm.at)
            .bind(arm.after)
            .bind(arm.unchanged)
            .bind(registration.run_id)
            .bind(registration.history_check)
            .bind(rules::armed_by().number())
    }

    async fn upsert_unchanged(
        &self,
        link: &mut Link,
        registration: &Registration,
    ) -> Result<Option<UpsertedSchedule>, StoreError> {
        let client = &registration.client;
        let found = link.optional(bind_client!(sqlx::query(sql::SCHEDULE_FIND), client)).await?;
        match found {
            Some(found) => Ok(Some(self.left_alone(link, &found, registration).await?)),
            None => Ok(None),
        }
    }

    /// What an unchanged registration found.
    async fn left_alone(
        &self,
        link: &mut Link,
        found: &PgRow,
        registration: &Registration,
    ) -> Result<UpsertedSchedule, StoreError> {
        let id: Uuid = found.try_get("id")?;
        let mut due_at: Option<UnixMs> = found.try_get("due_at")?;
        if found.try_get("armed_missing")? {
            due_at = self.rearm(link, id, registration).await?;
        }
        Ok(UpsertedSchedule { id, revision: found.try_get("revision")?, change: Change::Unchanged, due_at })
    }

    /// Heals a schedule that has no armed run (rule 3), which only a bug or a hand in the tables makes.
    async fn rearm(
        &self,
        link: &mut Link,
        id: ScheduleId,
        registration: &Registration,
    ) -> Result<Option<UnixMs>, StoreError> {
        let arm = ArmColumns::of(&registration.arming);
        let rearm = sqlx::query(sql::SCHEDULE_REARM)
            .bind(self.injected_now())
            .bind(id)
            .bind(registration.run_id)
            .bind(arm.calendar)
            .bind(arm.at)
            .bind(arm.after)
            .bind(rules::armed_by().number());
        let armed = link.optional_value(rearm).await;
        self.taken_by_id(link, armed, id).await
    }

    pub(super) async fn update(&self, link: &mut Link, registration: &Registration) -> Result<Upserted, StoreError> {
        let client = &registration.client;
        let arm = ArmColumns::of(&registration.arming);
        let update =
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
                .bind(rules::armed_by().number());
        let updated = link.optional(update).await;
        if let Err(error) = &updated
            && violates(error, "schedules_client")
        {
            let holder = self.id_by_client(link, client).await?;
            return Err(holder.map_or(StoreError::NotFound, StoreError::ClientKeyTaken));
        }
        let mut now = None;
        let schedule = match self.taken_by_id(link, updated, registration.id).await? {
            Some(row) => {
                now = Some(row.try_get("now")?);
                let (revision, due_at) = (row.try_get("revision")?, row.try_get("due_at")?);
                UpsertedSchedule { id: registration.id, revision, change: Change::Replaced, due_at }
            }
            None => self.update_unchanged(link, registration).await?,
        };
        Ok(Upserted { armed_min: schedule.due_at, schedules: vec![schedule], now })
    }

    async fn update_unchanged(
        &self,
        link: &mut Link,
        registration: &Registration,
    ) -> Result<UpsertedSchedule, StoreError> {
        let current = self.get(link, registration.id).await?.ok_or(StoreError::NotFound)?;
        match self.upsert_unchanged(link, registration).await? {
            Some(found) if found.id == current.id => Ok(found),
            Some(found) => Err(StoreError::ClientKeyTaken(found.id)),
            None => Err(StoreError::NotFound),
        }
    }

    pub(super) async fn pause(&self, link: &mut Link, id: ScheduleId) -> Result<(), StoreError> {
        link.begin("").await?;
        let paused: i64 = link.value(sqlx::query(sql::SCHEDULE_PAUSE).bind(self.injected_now()).bind(id)).await?;
        if paused == 0 {
            return self.explain_state(link, id).await.map(|_| ());
        }
        link.execute(sqlx::query(sql::RUN_DISARM).bind(id)).await?;
        Ok(())
    }

    pub(super) async fn resume(
        &self,
        link: &mut Link,
        id: ScheduleId,
        revision: i64,
        arming: &Arming,
    ) -> Result<Option<UnixMs>, StoreError> {
        let arm = ArmColumns::of(arming);
        let resume = sqlx::query(sql::SCHEDULE_RESUME)
            .bind(self.injected_now())
            .bind(id)
            .bind(Uuid::now_v7())
            .bind(arm.calendar)
            .bind(arm.at)
            .bind(arm.after)
            .bind(revision)
            .bind(rules::armed_by().number());
        let resumed = link.optional_value(resume).await;
        match self.taken_by_id(link, resumed, id).await? {
            Some(due_at) => Ok(Some(due_at)),
            None => rows::resumed_already(&self.explain_state(link, id).await?),
        }
    }

    pub(super) async fn trigger(
        &self,
        link: &mut Link,
        id: ScheduleId,
        run_id: RunId,
    ) -> Result<Triggered, StoreError> {
        let trigger =
            sqlx::query(sql::SCHEDULE_TRIGGER).bind(self.injected_now()).bind(id).bind(run_id).bind(self.retain_ms());
        let triggered = match link.optional_value(trigger).await {
            // An earlier copy of this call was committed, and its answer was lost.
            Err(error) if violates(&error, "runs_pkey") => {
                Some(link.one(sqlx::query(sql::RUN_GET).bind(run_id)).await?.try_get("due_at")?)
            }
            triggered => triggered?,
        };
        if let Some(due_at) = triggered {
            return Ok(Triggered { run_id, due_at });
        }
        let current = self.get(link, id).await?.ok_or(StoreError::NotFound)?;
        Err(StoreError::WrongState(current.state))
    }

    /// Deletes up to `limit` of what is selected, after this id; answers the last one beside, if there may be more.
    pub(super) async fn delete(
        &self,
        link: &mut Link,
        selection: &Selection,
        after: Option<ScheduleId>,
        limit: i64,
    ) -> Result<(Deleted, Option<ScheduleId>), StoreError> {
        let condition = deletion_condition(selection, 5);
        link.begin("").await?;
        let mut delete = sqlx::query(AssertSqlSafe(sql::schedule_delete(&condition.text)))
            .bind(self.injected_now())
            .bind(self.retain_ms())
            .bind(after.unwrap_or(Uuid::nil()))
            .bind(limit);
        if let Selection::Id(id) = selection {
            delete = delete.bind(*id);
        }
        for value in &condition.values {
            delete = delete.bind(value);
        }
        let ids: Vec<Uuid> = link.values(delete).await?;
        let last = ids.iter().max().copied().filter(|_| ids.len() as i64 == limit);
        let count = ids.len() as u64;
        let cancel = sqlx::query(sql::RUN_CANCEL).bind(self.injected_now()).bind(&ids).bind(self.retain_ms());
        link.execute(cancel).await?;
        let in_flight: i64 = link.value(sqlx::query(sql::RUN_IN_FLIGHT).bind(&ids)).await?;
        Ok((Deleted { count, in_flight: in_flight.unsigned_abs() }, last))
    }

    pub(super) async fn get(&self, link: &mut Link, id: ScheduleId) -> Result<Option<ScheduleRow>, StoreError> {
        let row = link.optional(sqlx::query(sql::SCHEDULE_GET).bind(id)).await?;
        row.as_ref().map(schedule_row).transpose()
    }

    pub(super) async fn list(
        &self,
        link: &mut Link,
        filter: &ScheduleFilter,
        page: &Page,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        let (statement, values) = sql::schedule_list(filter, page);
        let mut list = sqlx::query(AssertSqlSafe(statement));
        for value in values {
            list = list.bind(value);
        }
        if let Some(after) = page.after {
            list = list.bind(after);
        }
        let rows = link.all(list).await?;
        rows.iter().map(schedule_row).collect()
    }

    pub(super) async fn payload_by_client(
        &self,
        link: &mut Link,
        client: &ClientKey,
    ) -> Result<Option<String>, StoreError> {
        match self.id_by_client(link, client).await? {
            Some(id) => Ok(self.get(link, id).await?.map(|schedule| schedule.payload)),
            None => Ok(None),
        }
    }

    pub(super) async fn payloads(
        &self,
        link: &mut Link,
        after: Option<ScheduleId>,
        limit: i64,
    ) -> Result<Vec<StoredPayload>, StoreError> {
        let rows = link.all(sqlx::query(sql::SCHEDULE_PAYLOADS).bind(after).bind(limit)).await?;
        rows.iter().map(rows::stored_payload).collect()
    }

    pub(super) async fn reseal(&self, link: &mut Link, batch: &[StoredPayload]) -> Result<u64, StoreError> {
        let reseal = sqlx::query(sql::SCHEDULE_RESEAL)
            .bind(batch.iter().map(|stored| stored.id).collect::<Vec<Uuid>>())
            .bind(batch.iter().map(|stored| stored.revision).collect::<Vec<i64>>())
            .bind(batch.iter().map(|stored| stored.payload.as_str()).collect::<Vec<&str>>())
            .bind(batch.iter().map(|stored| stored.fingerprint.as_str()).collect::<Vec<&str>>());
        Ok(link.execute(reseal).await?)
    }

    pub(super) async fn dry(&self, link: &mut Link) -> Result<Vec<ScheduleId>, StoreError> {
        Ok(link.values(sqlx::query(sql::SCHEDULE_DRY)).await?)
    }

    async fn id_by_client(&self, link: &mut Link, client: &ClientKey) -> Result<Option<ScheduleId>, StoreError> {
        let row = link.optional(bind_client!(sqlx::query(sql::SCHEDULE_FIND), client)).await?;
        Ok(row.map(|row| row.try_get("id")).transpose()?)
    }

    /// Why a state change found nothing to change: `Ok` when it had been made already.
    async fn explain_state(&self, link: &mut Link, id: ScheduleId) -> Result<ScheduleRow, StoreError> {
        let current = self.get(link, id).await?.ok_or(StoreError::NotFound)?;
        rows::refuse_finished(current)
    }

    async fn occurrence_taken(&self, link: &mut Link, clients: &[&ClientKey]) -> Result<StoreError, StoreError> {
        let column = |field: fn(&ClientKey) -> &str| clients.iter().map(|c| field(c)).collect::<Vec<&str>>();
        let latest = sqlx::query(sql::LATEST_BY_CLIENT)
            .bind(column(|c| &c.application))
            .bind(column(|c| &c.group))
            .bind(column(|c| &c.key))
            .bind(column(|c| &c.operation))
            .bind(column(|c| &c.kind));
        let latest: Option<UnixMs> = link.value(latest).await?;
        Ok(StoreError::OccurrenceTaken { latest: latest.unwrap_or(0) })
    }

    async fn taken_by_id<T>(
        &self,
        link: &mut Link,
        outcome: Result<Option<T>, sqlx::Error>,
        id: ScheduleId,
    ) -> Result<Option<T>, StoreError> {
        match outcome {
            Err(error) if violates(&error, "runs_once") => {
                let latest: Option<UnixMs> = link.value(sqlx::query(sql::LATEST_BY_ID).bind(id)).await?;
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
