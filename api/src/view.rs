//! What callers see of schedules and runs: the wire shapes and the status words.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, SecondsFormat};
use reveille_shared::bus::presence::WorkerPresence;
use reveille_shared::bus::wake::WakeState;
use reveille_shared::model::lateness::LateCause;
use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_shared::model::schedule::{Definition, ScheduleState};
use reveille_shared::model::secret::{self, SecretHeaders};
use reveille_shared::model::{ScheduleId, UnixMs};
use reveille_shared::store::{AttemptRow, CurrentRun, HistoryRow, RunRow, ScheduleRow};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::error::{Problem, internal};

/// The wire's word for where a schedule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Waits for its time; a recurring one between its runs; a paused one.
    Idle,
    /// Is running.
    Processing,
    /// Waits for a retry, or finished failed.
    Failed,
    /// Finished well.
    Done,
    /// Retries exhausted, or refused for good.
    Invalidity,
}

impl Status {
    /// The status of a schedule in this state whose armed or last run is `current`; `retries`: whether its
    /// task has any.
    pub(crate) fn of(state: ScheduleState, current: Option<&CurrentRun>, retries: bool) -> Self {
        let Some(run) = current else {
            return if state == ScheduleState::Finished { Self::Done } else { Self::Idle };
        };
        match run.state {
            RunState::Pending if run.attempt > 0 => Self::Failed,
            RunState::Pending => Self::Idle,
            RunState::Running => Self::Processing,
            RunState::Succeeded => Self::Done,
            RunState::Dead => Self::Invalidity,
            RunState::Failed if run.outcome == Some(OutcomeCode::Refused) => Self::Invalidity,
            // Its worker died and it may not be repeated: the retries it has left are of no use.
            RunState::Failed if run.outcome == Some(OutcomeCode::Unknown) => Self::Failed,
            RunState::Failed if retries => Self::Invalidity,
            RunState::Failed | RunState::Cancelled | RunState::Skipped | RunState::Expired => Self::Failed,
        }
    }

    /// The status of a query's word.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "idle" => Self::Idle,
            "processing" => Self::Processing,
            "failed" => Self::Failed,
            "done" => Self::Done,
            "invalidity" => Self::Invalidity,
            _ => return None,
        })
    }
}

/// A schedule as it is returned: the stored document with the server's fields, secrets masked.
pub(crate) struct ScheduleView {
    pub(crate) name: String,
    pub(crate) status: Status,
    pub(crate) json: Box<RawValue>,
}

/// What the server adds to a returned document.
#[derive(Serialize)]
struct Returned<'a> {
    id: String,
    #[serde(flatten)]
    document: Map<String, Value>,
    task: ReturnedTask<'a>,
    state: ScheduleState,
    revision: i64,
    created_at: String,
    updated_at: String,
}

#[derive(Serialize)]
struct ReturnedTask<'a> {
    #[serde(flatten)]
    document: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
    iteration: i64,
    retry_count: i32,
}

/// What is shown of a schedule whose stored document this version cannot read.
#[derive(Serialize)]
struct Unreadable<'a> {
    id: String,
    #[serde(flatten)]
    named: Map<String, Value>,
    unreadable: bool,
    task: ReturnedTask<'a>,
    state: ScheduleState,
    revision: i64,
    created_at: String,
    updated_at: String,
}

/// Shows a schedule. One whose document cannot be read (a newer version's, in a rolling update) is shown by what is
/// known of it: it must not take the others of a list with it.
pub(crate) fn schedule(row: &ScheduleRow) -> Result<ScheduleView, Problem> {
    match serde_json::from_str(&row.payload) {
        Ok(definition) => readable(row, definition),
        Err(error) => {
            report_once(row.id, &error);
            unreadable(row)
        }
    }
}

fn readable(row: &ScheduleRow, mut definition: Definition) -> Result<ScheduleView, Problem> {
    secret::mask(&mut definition, &SecretHeaders::default());
    definition.traceparent = None;
    let current = row.current.as_ref();
    let retries = definition.task.retries_allowed() != Some(0);
    let status = Status::of(row.state, current, retries);
    let name = definition.name.clone();
    // `data` stays the text it is; everything else may pass through values.
    let data = std::mem::take(&mut definition.task.data);
    let mut document = object(serde_json::to_value(&definition).map_err(unshowable)?);
    let mut task = object(document.remove("task").unwrap_or_default());
    task.remove("data");
    let returned = Returned {
        id: row.id.to_string(),
        document,
        task: returned_task(row, task, Some(&data.0), status),
        state: row.state,
        revision: row.revision,
        created_at: rfc3339(row.created_at),
        updated_at: rfc3339(row.updated_at),
    };
    Ok(ScheduleView { name, status, json: serde_json::value::to_raw_value(&returned).map_err(unshowable)? })
}

/// Name and client where they can be told, so that its owner finds it; nothing else of the document: where its
/// secrets are is not known.
fn unreadable(row: &ScheduleRow) -> Result<ScheduleView, Problem> {
    let mut document = serde_json::from_str(&row.payload).map(object).unwrap_or_default();
    document.retain(|name, value| match name.as_str() {
        "name" => value.is_string(),
        "client" => value.as_object().is_some_and(|fields| fields.values().all(Value::is_string)),
        _ => false,
    });
    let status = Status::of(row.state, row.current.as_ref(), false);
    let name = document.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let shown = Unreadable {
        id: row.id.to_string(),
        named: document,
        unreadable: true,
        task: returned_task(row, Map::new(), None, status),
        state: row.state,
        revision: row.revision,
        created_at: rfc3339(row.created_at),
        updated_at: rfc3339(row.updated_at),
    };
    Ok(ScheduleView { name, status, json: serde_json::value::to_raw_value(&shown).map_err(unshowable)? })
}

fn returned_task<'a>(
    row: &ScheduleRow,
    document: Map<String, Value>,
    data: Option<&'a RawValue>,
    status: Status,
) -> ReturnedTask<'a> {
    let current = row.current.as_ref();
    ReturnedTask {
        document,
        data,
        status,
        next: current.map(|run| run.due_at.div_euclid(1000)),
        iteration: row.iterations,
        retry_count: current.map_or(0, |run| (run.attempt - 1).max(0)),
    }
}

fn unshowable(error: serde_json::Error) -> Problem {
    tracing::error!(error = %error, "a schedule cannot be written as JSON");
    internal()
}

/// Schedules that were reported; of more than these nobody needs every id.
const REPORTED_MAX: usize = 1000;

/// The log belongs to the process, and so does what stands in it.
static REPORTED: Mutex<BTreeSet<ScheduleId>> = Mutex::new(BTreeSet::new());

/// Whoever lists every second does not fill the log.
fn report_once(id: ScheduleId, error: &serde_json::Error) {
    let mut reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    if reported.len() < REPORTED_MAX && reported.insert(id) {
        // Where, not what: the error's own text quotes the document.
        tracing::error!(schedule.id = %id, line = error.line(), column = error.column(), "a stored document cannot be read");
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Shows a run.
pub(crate) fn run(row: &RunRow) -> Value {
    json!({
        "id": row.id,
        "schedule_id": row.schedule_id,
        "state": row.state,
        "nominal_at": rfc3339(row.nominal_at),
        "due_at": rfc3339(row.due_at),
        "claimed_at": row.claimed_at.map(rfc3339),
        "finished_at": row.finished_at.map(rfc3339),
        "lag_ms": row.claimed_at.map(|claimed_at| (claimed_at - row.due_at).max(0)),
        "timeline": timeline(row),
        "late_cause": row.late_cause.map(LateCause::as_str),
        "late_reason": row.late_cause.map(LateCause::sentence),
        "attempt": row.attempt,
        "crashes": row.crashes,
        "lease_token": row.lease_token,
        "worker": row.lease_owner,
        "armed": row.armed,
        "revision": row.revision,
        "series": row.series,
        "queue": row.queue,
        "priority": row.priority,
        "outcome": row.outcome.map(OutcomeCode::as_str),
        "http_status": row.http_status,
        "detail": row.detail,
        "coalesced": row.coalesced,
        "skipped": row.skipped,
    })
}

/// Where a run is on its way, by its last attempt; what lies behind a retry is not its way any more.
pub(crate) struct Timeline {
    pub(crate) due_at: UnixMs,
    pub(crate) woken_at: Option<UnixMs>,
    pub(crate) claimed_at: Option<UnixMs>,
    pub(crate) dispatched_at: Option<UnixMs>,
    pub(crate) first_byte_at: Option<UnixMs>,
    pub(crate) settled_at: Option<UnixMs>,
}

impl Timeline {
    pub(crate) fn of(row: &RunRow) -> Self {
        let of_last = |at: Option<UnixMs>| at.filter(|_| row.state.is_terminal());
        Self {
            due_at: row.due_at,
            woken_at: of_last(row.woken_at),
            claimed_at: row.claimed_at.filter(|_| row.state != RunState::Pending),
            dispatched_at: of_last(row.dispatched_at),
            first_byte_at: of_last(row.first_byte_at),
            settled_at: row.finished_at,
        }
    }
}

fn timeline(row: &RunRow) -> Value {
    let timeline = Timeline::of(row);
    json!({
        "due_at": rfc3339(timeline.due_at),
        "woken_at": timeline.woken_at.map(rfc3339),
        "claimed_at": timeline.claimed_at.map(rfc3339),
        "dispatched_at": timeline.dispatched_at.map(rfc3339),
        "first_byte_at": timeline.first_byte_at.map(rfc3339),
        "settled_at": timeline.settled_at.map(rfc3339),
    })
}

/// Shows an entry of the history.
pub(crate) fn history(row: &HistoryRow) -> Value {
    json!({
        "id": row.id,
        "at": rfc3339(row.at),
        "kind": row.kind.as_str(),
        "schedule_id": row.schedule_id,
        "run_id": row.run_id,
        "client": row.client,
        "name": row.name,
        "revision": row.revision,
        "attempt": row.attempt,
        "outcome": row.outcome.map(OutcomeCode::as_str),
        "state": row.state.map(RunState::as_str),
        "http_status": row.http_status,
        "lag_ms": row.lag_ms,
        "duration_ms": row.duration_ms,
        "late_cause": row.late_cause.map(LateCause::as_str),
        "detail": row.detail,
        "worker": row.worker,
    })
}

/// The header of the history as a table; [`history_cells`] in the same order.
pub(crate) const HISTORY_COLUMNS: [&str; 21] = [
    "id",
    "at",
    "kind",
    "schedule_id",
    "run_id",
    "application",
    "group",
    "key",
    "operation",
    "type",
    "name",
    "revision",
    "attempt",
    "outcome",
    "state",
    "http_status",
    "lag_ms",
    "duration_ms",
    "late_cause",
    "detail",
    "worker",
];

/// An entry of the history as a line of a table.
pub(crate) fn history_cells(row: &HistoryRow) -> [String; 21] {
    fn cell(value: Option<impl ToString>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let client = &row.client;
    [
        row.id.to_string(),
        rfc3339(row.at),
        row.kind.as_str().to_owned(),
        row.schedule_id.to_string(),
        cell(row.run_id),
        client.application.clone(),
        client.group.clone(),
        client.key.clone(),
        client.operation.clone(),
        client.kind.clone(),
        row.name.clone(),
        row.revision.to_string(),
        cell(row.attempt),
        cell(row.outcome.map(OutcomeCode::as_str)),
        cell(row.state.map(RunState::as_str)),
        cell(row.http_status),
        cell(row.lag_ms),
        cell(row.duration_ms),
        cell(row.late_cause.map(LateCause::as_str)),
        cell(row.detail.as_deref()),
        cell(row.worker.as_deref()),
    ]
}

/// Shows a kept attempt.
pub(crate) fn attempt(row: &AttemptRow) -> Value {
    json!({
        "attempt": row.attempt,
        "lease_token": row.lease_token,
        "worker": row.worker,
        "started_at": rfc3339(row.started_at),
        "ended_at": rfc3339(row.ended_at),
        "outcome": row.outcome.as_str(),
        "http_status": row.http_status,
        "detail": row.detail,
    })
}

/// Shows the wake state; `next_ms` is null when nothing is scheduled.
pub(crate) fn wake(state: Option<&WakeState>) -> Value {
    match state {
        None => json!({"known": false, "next_ms": null, "next_at": null}),
        Some(state) => json!({
            "known": true,
            "next_ms": state.next(),
            "next_at": state.next().map(rfc3339),
            "epoch": state.epoch,
            "seq": state.seq,
            "nonce": state.nonce,
            "db_ms": state.db_ms,
        }),
    }
}

/// Shows a worker.
pub(crate) fn worker(worker: &WorkerPresence) -> Value {
    json!({
        "name": worker.name,
        "version": worker.version,
        "zone_rules": worker.zone_rules,
        "queues": worker.queues,
        "slots": worker.slots,
        "in_flight": worker.in_flight,
        "draining": worker.draining,
        "started_at": rfc3339(worker.started_at),
        "told_at": rfc3339(worker.told_at),
        "targets": worker.targets,
    })
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn rfc3339(at: UnixMs) -> String {
    DateTime::from_timestamp_millis(at).map_or_else(String::new, |at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
}
