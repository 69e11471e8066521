//! Reading the history: what can be asked, the statement that asks it, the row that comes back.
//!
//! The one statement that is put together from what is asked: with each filter written as «any or this», none of
//! the indexes could be used. Its constants come from fixed lists; everything a caller wrote is bound.

use sqlx::{Database, Encode, QueryBuilder, Type};

use super::StoreError;
use super::rows::{AnyRow, late_cause, outcome, run_state, unknown};
use crate::model::history::HistoryKind;
use crate::model::lateness::LateCause;
use crate::model::run::{OutcomeCode, RunState};
use crate::model::schedule::ClientKey;
use crate::model::{RunId, ScheduleId, UnixMs};

/// Which entries are asked for; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    /// Of the client key, as it was.
    pub application: Option<String>,
    /// Of the client key, as it was.
    pub group: Option<String>,
    /// Of the client key, as it was.
    pub key: Option<String>,
    /// Of the client key, as it was.
    pub operation: Option<String>,
    /// Of the client key, as it was: its type.
    pub client_type: Option<String>,
    /// Of this schedule.
    pub schedule_id: Option<ScheduleId>,
    /// Of this run.
    pub run_id: Option<RunId>,
    /// Of this kind.
    pub kind: Option<HistoryKind>,
    /// With this outcome.
    pub outcome: Option<OutcomeCode>,
    /// At this instant or later.
    pub from: Option<UnixMs>,
    /// Before this instant.
    pub to: Option<UnixMs>,
}

/// A page of the history.
#[derive(Clone, Copy, Debug)]
pub struct HistoryPage {
    /// The entry (`at`, id) it starts after.
    pub after: Option<(UnixMs, i64)>,
    /// Oldest first instead of newest first.
    pub ascending: bool,
    /// How many at most.
    pub limit: i64,
}

/// An entry of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// Grows with every entry of the installation.
    pub id: i64,
    /// When it happened.
    pub at: UnixMs,
    /// What happened.
    pub kind: HistoryKind,
    /// To which schedule.
    pub schedule_id: ScheduleId,
    /// To which run; for a change of the schedule, the run it armed.
    pub run_id: Option<RunId>,
    /// The schedule's client key at that time.
    pub client: ClientKey,
    /// Its name at that time.
    pub name: String,
    /// Its revision; of an execution, the one that armed the run.
    pub revision: i64,
    /// Which attempt it was.
    pub attempt: Option<i32>,
    /// How it ended.
    pub outcome: Option<OutcomeCode>,
    /// The run's state after it.
    pub state: Option<RunState>,
    /// HTTP status of the answer.
    pub http_status: Option<i32>,
    /// From its due time to its dispatch.
    pub lag_ms: Option<i64>,
    /// From its dispatch to its outcome.
    pub duration_ms: Option<i64>,
    /// Why it was late.
    pub late_cause: Option<LateCause>,
    /// One sentence about the outcome.
    pub detail: Option<String>,
    /// Who dispatched it.
    pub worker: Option<String>,
}

/// The statement that reads a page.
pub(super) fn history_select<'a, DB>(filter: &'a HistoryFilter, page: &HistoryPage) -> QueryBuilder<DB>
where
    DB: Database,
    String: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
    uuid::Uuid: Encode<'a, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(
        "SELECT id, at, kind, schedule_id, run_id, application, client_group, client_key, operation, client_type, name,
       revision, attempt, outcome, state, http_status, lag_ms, duration_ms, late_cause, detail, worker
  FROM history WHERE true",
    );
    let texts = [
        ("application", &filter.application),
        ("client_group", &filter.group),
        ("client_key", &filter.key),
        ("operation", &filter.operation),
        ("client_type", &filter.client_type),
    ];
    for (column, asked) in texts {
        if let Some(value) = asked {
            query.push(" AND ").push(column).push(" = ").push_bind(value.clone());
        }
    }
    for (column, asked) in [("schedule_id", filter.schedule_id), ("run_id", filter.run_id)] {
        if let Some(id) = asked {
            query.push(" AND ").push(column).push(" = ").push_bind(id);
        }
    }
    // Literal, so that the partial indexes can be seen to hold them.
    if let Some(kind) = filter.kind {
        query.push(" AND kind = ").push(kind as i16);
    }
    if let Some(outcome) = filter.outcome {
        query.push(" AND outcome = '").push(outcome.as_str()).push("'");
    }
    if let Some(from) = filter.from {
        query.push(" AND at >= ").push_bind(from);
    }
    if let Some(to) = filter.to {
        query.push(" AND at < ").push_bind(to);
    }
    let (beyond, order) = if page.ascending { (" > (", "ASC") } else { (" < (", "DESC") };
    if let Some((at, id)) = page.after {
        query.push(" AND (at, id)").push(beyond).push_bind(at).push(", ").push_bind(id).push(")");
    }
    query.push(format!(" ORDER BY at {order}, id {order} LIMIT {}", page.limit));
    query
}

pub(super) fn history_row(row: &impl AnyRow) -> Result<HistoryRow, StoreError> {
    let kind = row.code("kind")?;
    Ok(HistoryRow {
        id: row.int("id")?,
        at: row.int("at")?,
        kind: HistoryKind::from_code(kind).ok_or_else(|| unknown("kind of history", kind))?,
        schedule_id: row.id("schedule_id")?,
        run_id: row.maybe_id("run_id")?,
        client: ClientKey {
            application: row.text("application")?,
            group: row.text("client_group")?,
            key: row.text("client_key")?,
            operation: row.text("operation")?,
            kind: row.text("client_type")?,
        },
        name: row.text("name")?,
        revision: row.int("revision")?,
        attempt: row.maybe_small("attempt")?,
        outcome: row.maybe_text("outcome")?.as_deref().map(outcome).transpose()?,
        state: row.maybe_code("state")?.map(run_state).transpose()?,
        http_status: row.maybe_small("http_status")?,
        lag_ms: row.maybe_int("lag_ms")?,
        duration_ms: row.maybe_int("duration_ms")?,
        late_cause: row.maybe_text("late_cause")?.as_deref().map(late_cause).transpose()?,
        detail: row.maybe_text("detail")?,
        worker: row.maybe_text("worker")?,
    })
}
