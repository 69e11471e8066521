//! Rows to values and back, for both databases: their columns have the same names.

use sqlx::{ColumnIndex, Decode, Row, Type};
use uuid::Uuid;

use super::{
    ApiKey, AttemptRow, CurrentRun, RunRow, ScheduleRow, StoreError, StoredPayload, ZonePage, ZoneStanding, Zoned,
};
use crate::model::access::Scope;
use crate::model::lateness::LateCause;
use crate::model::run::{ClaimedRun, ClaimedSchedule, Exit, OutcomeCode, RunState, Settlement, Successor};
use crate::model::schedule::ScheduleState;

/// Binds the five fields of a client key, in the order all statements take them.
macro_rules! bind_client {
    ($query:expr, $client:expr) => {
        $query
            .bind(&$client.application)
            .bind(&$client.group)
            .bind(&$client.key)
            .bind(&$client.operation)
            .bind(&$client.kind)
    };
}
pub(super) use bind_client;

/// A row of either database, so that the decoders below are written once: a reader for each type of column.
macro_rules! any_row {
    ($($name:ident: $value:ty),* $(,)?) => {
        pub(super) trait AnyRow {
            $(fn $name(&self, column: &str) -> Result<$value, sqlx::Error>;)*
        }

        impl<R> AnyRow for R
        where
            R: Row,
            for<'a> &'a str: ColumnIndex<R>,
            $(for<'r> $value: Decode<'r, R::Database> + Type<R::Database>,)*
        {
            $(fn $name(&self, column: &str) -> Result<$value, sqlx::Error> {
                self.try_get(column)
            })*
        }
    };
}

any_row! {
    id: Uuid,
    maybe_id: Option<Uuid>,
    int: i64,
    maybe_int: Option<i64>,
    small: i32,
    maybe_small: Option<i32>,
    code: i16,
    maybe_code: Option<i16>,
    flag: bool,
    text: String,
    maybe_text: Option<String>,
    bytes: Vec<u8>,
}

/// What is armed of a schedule, for other rules of its zone.
pub(super) fn zoned(row: &impl AnyRow) -> Result<Zoned, StoreError> {
    Ok(Zoned {
        id: row.id("id")?,
        revision: row.int("revision")?,
        payload: row.text("payload")?,
        run_id: row.id("run_id")?,
        nominal_at: row.int("nominal_at")?,
        attempt: row.small("attempt")?,
        taken: row.maybe_int("taken")?,
    })
}

pub(super) fn zone_page<R: AnyRow>(rows: &[R]) -> Result<ZonePage, StoreError> {
    let mut page = ZonePage::default();
    for row in rows {
        page.last = Some(row.id("id")?);
        if row.flag("is_older")? {
            page.zoned.push(zoned(row)?);
        }
    }
    Ok(page)
}

pub(super) fn zone_standing(row: &impl AnyRow) -> Result<ZoneStanding, StoreError> {
    Ok(ZoneStanding {
        version: row.small("zone_version")?,
        examined: row.small("zone_examined")?,
        unsure: row.flag("zone_unsure")?,
    })
}

pub(super) fn schedule_row(row: &impl AnyRow) -> Result<ScheduleRow, StoreError> {
    let current = match row.maybe_id("run_id")? {
        None => None,
        Some(id) => Some(CurrentRun {
            id,
            state: run_state(row.code("run_state")?)?,
            due_at: row.int("due_at")?,
            attempt: row.small("attempt")?,
            outcome: maybe_outcome(row.maybe_text("outcome")?)?,
        }),
    };
    Ok(ScheduleRow {
        id: row.id("id")?,
        payload: row.text("payload")?,
        state: schedule_state(row.code("state")?)?,
        revision: row.int("revision")?,
        iterations: row.int("iterations")?,
        created_at: row.int("created_at")?,
        updated_at: row.int("updated_at")?,
        current,
    })
}

pub(super) fn stored_payload(row: &impl AnyRow) -> Result<StoredPayload, StoreError> {
    Ok(StoredPayload {
        id: row.id("id")?,
        revision: row.int("revision")?,
        payload: row.text("payload")?,
        fingerprint: row.text("fingerprint")?,
    })
}

pub(super) fn claimed_run(row: &impl AnyRow) -> Result<ClaimedRun, StoreError> {
    let schedule = match row.maybe_code("schedule_state")? {
        None => None,
        Some(code) => Some(ClaimedSchedule {
            state: schedule_state(code)?,
            revision: row.int("schedule_revision")?,
            payload: row.text("payload")?,
        }),
    };
    Ok(ClaimedRun {
        id: row.id("id")?,
        schedule_id: row.id("schedule_id")?,
        revision: row.int("revision")?,
        series: row.int("series")?,
        nominal_at: row.int("nominal_at")?,
        due_at: row.int("due_at")?,
        created_at: row.int("created_at")?,
        armed: row.flag("armed")?,
        priority: row.code("priority")?,
        attempt: row.small("attempt")?,
        crashes: row.small("crashes")?,
        lease_token: row.int("lease_token")?,
        reclaimed: row.flag("reclaimed")?,
        late_cause: row.maybe_text("late_cause")?.as_deref().map(late_cause).transpose()?,
        schedule,
    })
}

pub(super) fn run_row(row: &impl AnyRow) -> Result<RunRow, StoreError> {
    Ok(RunRow {
        id: row.id("id")?,
        schedule_id: row.id("schedule_id")?,
        revision: row.int("revision")?,
        series: row.int("series")?,
        nominal_at: row.int("nominal_at")?,
        due_at: row.int("due_at")?,
        armed: row.flag("armed")?,
        queue: row.text("queue")?,
        priority: row.code("priority")?,
        state: run_state(row.code("state")?)?,
        attempt: row.small("attempt")?,
        crashes: row.small("crashes")?,
        lease_token: row.int("lease_token")?,
        lease_owner: row.maybe_text("lease_owner")?,
        lease_until: row.maybe_int("lease_until")?,
        claimed_at: row.maybe_int("claimed_at")?,
        finished_at: row.maybe_int("finished_at")?,
        outcome: maybe_outcome(row.maybe_text("outcome")?)?,
        http_status: row.maybe_small("http_status")?,
        detail: row.maybe_text("detail")?,
        coalesced: row.small("coalesced")?,
        skipped: row.small("skipped")?,
        woken_at: row.maybe_int("woken_at")?,
        dispatched_at: row.maybe_int("dispatched_at")?,
        first_byte_at: row.maybe_int("first_byte_at")?,
        late_cause: row.maybe_text("late_cause")?.as_deref().map(late_cause).transpose()?,
    })
}

pub(super) fn attempt_row(row: &impl AnyRow) -> Result<AttemptRow, StoreError> {
    Ok(AttemptRow {
        attempt: row.small("attempt")?,
        lease_token: row.int("lease_token")?,
        worker: row.text("worker")?,
        started_at: row.int("started_at")?,
        ended_at: row.int("ended_at")?,
        outcome: outcome(&row.text("outcome")?)?,
        http_status: row.maybe_small("http_status")?,
        detail: row.text("detail")?,
    })
}

pub(super) fn api_key(row: &impl AnyRow) -> Result<ApiKey, StoreError> {
    let scope = row.text("scope")?;
    Ok(ApiKey {
        id: row.id("id")?,
        digest: row.bytes("digest")?,
        scope: Scope::from_word(&scope).ok_or_else(|| {
            StoreError::Broken(format!("a key has the scope {scope}, which this version does not know"))
        })?,
        application: row.maybe_text("application")?,
        name: row.text("name")?,
        created_at: row.int("created_at")?,
        expires_at: row.maybe_int("expires_at")?,
        revoked_at: row.maybe_int("revoked_at")?,
    })
}

pub(super) fn run_state(code: i16) -> Result<RunState, StoreError> {
    RunState::from_code(code).ok_or_else(|| unknown("run state", code))
}

pub(super) fn schedule_state(code: i16) -> Result<ScheduleState, StoreError> {
    ScheduleState::from_code(code).ok_or_else(|| unknown("schedule state", code))
}

/// The codes of a filter's states; none named means active and paused.
pub(super) fn state_codes(states: &[ScheduleState]) -> Vec<i16> {
    if states.is_empty() {
        return vec![ScheduleState::Active as i16, ScheduleState::Paused as i16];
    }
    states.iter().map(|state| *state as i16).collect()
}

/// A finished schedule can be neither paused nor resumed.
pub(super) fn refuse_finished(schedule: ScheduleRow) -> Result<ScheduleRow, StoreError> {
    match schedule.state {
        ScheduleState::Finished => Err(StoreError::WrongState(schedule.state)),
        _ => Ok(schedule),
    }
}

/// Why a resume found nothing to resume in a schedule that is not finished.
pub(super) fn resumed_already(schedule: &ScheduleRow) -> Result<Option<crate::model::UnixMs>, StoreError> {
    match schedule.state {
        ScheduleState::Paused => Err(StoreError::RevisionMoved),
        _ => Ok(None),
    }
}

pub(super) fn outcome(word: &str) -> Result<OutcomeCode, StoreError> {
    OutcomeCode::from_word(word).ok_or_else(|| unknown("outcome", word))
}

fn maybe_outcome(word: Option<String>) -> Result<Option<OutcomeCode>, StoreError> {
    word.as_deref().map(outcome).transpose()
}

pub(super) fn late_cause(word: &str) -> Result<LateCause, StoreError> {
    LateCause::from_word(word).ok_or_else(|| unknown("late cause", word))
}

pub(super) fn unknown(what: &str, value: impl std::fmt::Display) -> StoreError {
    StoreError::Broken(format!("the database holds the {what} `{value}`, which this version does not know"))
}

/// A batch of settlements, column by column.
#[derive(Default)]
pub(super) struct SettleColumns {
    pub(super) run_id: Vec<Uuid>,
    pub(super) token: Vec<i64>,
    pub(super) exit: Vec<i16>,
    pub(super) state: Vec<i16>,
    pub(super) wait_ms: Vec<i64>,
    pub(super) outcome: Vec<Option<&'static str>>,
    pub(super) http_status: Vec<Option<i32>>,
    pub(super) detail: Vec<Option<String>>,
    pub(super) next_at: Vec<Option<i64>>,
    pub(super) next_after: Vec<Option<i64>>,
    pub(super) coalesced: Vec<i32>,
    pub(super) skipped: Vec<i32>,
    pub(super) pauses: Vec<bool>,
    pub(super) next_id: Vec<Uuid>,
    pub(super) attempt: Vec<Option<i32>>,
    pub(super) started_at: Vec<Option<i64>>,
    pub(super) ended_at: Vec<Option<i64>>,
    pub(super) worker: Vec<Option<String>>,
    pub(super) woken_at: Vec<Option<i64>>,
    pub(super) first_byte_at: Vec<Option<i64>>,
    pub(super) late_cause: Vec<Option<&'static str>>,
}

impl SettleColumns {
    pub(super) fn of(batch: &[Settlement]) -> Self {
        let mut columns = Self::default();
        for settlement in batch {
            columns.push(settlement);
        }
        columns
    }

    fn push(&mut self, settlement: &Settlement) {
        let (exit, state, wait_ms, outcome, successor, coalesced, skipped) = match &settlement.exit {
            Exit::Finish { state, outcome, successor, coalesced, skipped, .. } => {
                (0, *state, 0, Some(outcome), *successor, *coalesced, *skipped)
            }
            Exit::Retry { wait_ms, outcome } => (1, RunState::Pending, *wait_ms, Some(outcome), None, 0, 0),
            Exit::HandBack { wait_ms, .. } => (2, RunState::Pending, *wait_ms, None, None, 0, 0),
            Exit::Postpone { wait_ms, outcome } => (3, RunState::Pending, *wait_ms, Some(outcome), None, 0, 0),
        };
        let (next_at, next_after) = match successor {
            None => (None, None),
            Some(Successor::At(at)) => (Some(at), None),
            Some(Successor::AfterMs(after)) => (None, Some(after)),
        };
        // Nothing was attempted where there is no outcome.
        let attempt = settlement.attempt.as_ref().filter(|_| outcome.is_some());
        self.run_id.push(settlement.run_id);
        self.token.push(settlement.lease_token);
        self.exit.push(exit);
        self.state.push(state as i16);
        self.wait_ms.push(wait_ms);
        self.outcome.push(outcome.map(|outcome| outcome.code.as_str()));
        self.http_status.push(outcome.and_then(|outcome| outcome.http_status.map(i32::from)));
        self.detail.push(outcome.map(|outcome| storable(&outcome.detail)));
        self.next_at.push(next_at);
        self.next_after.push(next_after);
        self.coalesced.push(coalesced);
        self.skipped.push(skipped);
        self.pauses.push(settlement.exit.pauses());
        self.next_id.push(Uuid::now_v7());
        self.attempt.push(attempt.map(|attempt| attempt.attempt));
        self.started_at.push(attempt.map(|attempt| attempt.started_at));
        self.ended_at.push(attempt.map(|attempt| attempt.ended_at));
        self.worker.push(attempt.map(|attempt| storable(&attempt.worker)));
        self.woken_at.push(attempt.and_then(|attempt| attempt.woken_at));
        self.first_byte_at.push(attempt.and_then(|attempt| attempt.first_byte_at));
        self.late_cause.push(settlement.late_cause().map(LateCause::as_str));
    }
}

/// Longest sentence kept about an outcome, in bytes.
const DETAIL_MAX: usize = 4096;

/// Text a database can hold: PostgreSQL refuses NUL, and one such outcome would fail its whole batch.
pub(super) fn storable(text: &str) -> String {
    let end = (0..=DETAIL_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].replace('\0', "\u{fffd}")
}
