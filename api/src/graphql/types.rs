//! What callers see: schedules, runs, attempts, the wake state. Reads what the REST views show, so that both
//! surfaces tell the same and what one of them masks the other cannot reveal.

use async_graphql::connection::{Connection, Edge};
use async_graphql::{ComplexObject, Context, Enum, ID, Result, SimpleObject};
use chrono::{DateTime, Utc};
use reveille_shared::bus::wake::WakeState;
use reveille_shared::model::lateness::LateCause;
use reveille_shared::model::timing::PreviewedInstant;
use reveille_shared::model::{ScheduleId, UnixMs};
use reveille_shared::store::{AttemptRow, RunRow};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::client::Client;
use super::errors::{failure, found};
use super::history::{HistoryEntry, HistoryFilterInput, history};
use super::json::JsonText;
use super::limits::page_size;
use super::run_state::RunStateWord;
use super::scalars::{instant, number};
use crate::Service;
use crate::error::internal;

/// State of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ScheduleState {
    /// Has an armed run.
    Active,
    /// Keeps its definition, fires nothing.
    Paused,
    /// A one-shot that ran, or a recurrence without a further instant.
    Finished,
    /// Deleted.
    Deleted,
}

/// What a failed attempt leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ScheduleTaskFailurePolicy {
    /// It is recorded; a one-shot is over, a recurring schedule goes on.
    Ignore,
    /// Attempt again.
    Retry,
    /// Attempt again, then keep as a dead letter.
    RetryDlq,
}

/// Where a schedule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ScheduleTaskStatus {
    /// Waits for its time.
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

/// Where the target of a task is.
#[derive(Clone, Debug, Deserialize, SimpleObject)]
pub(super) struct TaskConnection {
    /// URL, or list of brokers; empty for a connection of the server's configuration.
    #[serde(default)]
    host: String,
    /// Topic, channel, stream or list.
    topic: Option<String>,
    /// Name of a connection of the server's configuration.
    name: Option<String>,
    /// Headers, secrets masked.
    #[serde(default, deserialize_with = "some_json")]
    headers: Option<JsonText>,
}

/// What a schedule does when it fires.
#[derive(Clone, Debug, Deserialize, SimpleObject)]
pub(super) struct ScheduleTask {
    /// `rest`, `kafka` or `redis`.
    #[serde(rename = "type")]
    #[graphql(name = "type")]
    kind: String,
    /// Where the target is; whatever is not a field here stands in the schedule's `document`.
    connection: TaskConnection,
    /// What the target receives, as registered, byte for byte.
    #[serde(deserialize_with = "json")]
    data: JsonText,
    /// Whether its history is recorded.
    #[serde(default)]
    history_check: bool,
    /// What a failed attempt leads to.
    failed_policy: ScheduleTaskFailurePolicy,
    /// Retries after the first attempt; −1: no limit; null: the policy's default.
    max_retry_count: Option<i64>,
    /// Seconds before the first retry.
    retry_wait: Option<i64>,
    /// Where it stands.
    status: ScheduleTaskStatus,
    /// Unix seconds of the armed run, the last one when finished.
    next: Option<i64>,
    /// Successful runs.
    iteration: i64,
    /// Attempts of the current run, minus one.
    retry_count: i64,
    /// Always null: clients of the published schema select it.
    #[serde(skip)]
    #[graphql(name = "last_run", deprecation = "read `runs(first: 1)`")]
    last_run: Option<String>,
}

/// A schedule.
#[derive(Clone, Debug, Deserialize, SimpleObject)]
#[graphql(complex)]
pub(super) struct Schedule {
    /// Its id.
    #[serde(deserialize_with = "id")]
    id: ID,
    /// Human name.
    name: String,
    /// Who registered it.
    client: Client,
    /// `cron`, `now`, `date`, `delay` or `delay-recur`.
    #[serde(rename = "type")]
    #[graphql(name = "type")]
    kind: String,
    /// The timing's text, as registered.
    schedule: String,
    /// IANA time zone name.
    timezone: String,
    /// Higher is claimed first.
    #[serde(default)]
    priority: i32,
    /// Which workers may claim its runs; null: those of the default queue.
    queue: Option<String>,
    /// What it does when it fires.
    task: ScheduleTask,
    /// Its state.
    state: ScheduleState,
    /// Counts its changes.
    revision: i64,
    /// When it was registered first.
    created_at: DateTime<Utc>,
    /// When it was changed last.
    updated_at: DateTime<Utc>,
    /// The whole document as REST returns it: everything that is not a field here is in it.
    #[serde(skip)]
    document: Option<JsonText>,
}

impl Schedule {
    /// Reads a shown document.
    pub(super) fn of(document: Box<RawValue>) -> Result<Self> {
        let schedule: Self = serde_json::from_str(document.get()).map_err(|error| {
            tracing::error!(error = %error, "a shown document cannot be read");
            failure(&internal())
        })?;
        Ok(Self { document: Some(JsonText(document)), ..schedule })
    }

    /// Where a page that starts after it starts.
    pub(super) fn cursor(&self) -> String {
        self.id.0.clone()
    }

    /// The schedule with this id, as the service shows it.
    pub(super) async fn read(service: &Service, id: ScheduleId) -> Result<Option<Self>> {
        let Some(row) = found(service.schedule(id).await)? else { return Ok(None) };
        let shown = crate::view::schedule(&row).map_err(|problem| failure(&problem))?;
        Self::of(shown.json).map(Some)
    }
}

#[ComplexObject]
impl Schedule {
    /// Its runs, newest nominal instant first.
    #[graphql(complexity = "20 + first.unwrap_or(50).max(0) as usize * child_complexity")]
    async fn runs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many at most, 1 to 200; 50 when absent")] first: Option<i32>,
        #[graphql(desc = "Cursor of the run to start after")] after: Option<String>,
    ) -> Result<Connection<String, Run>> {
        let id = Uuid::try_parse(&self.id).map_err(|_| failure(&internal()))?;
        runs(ctx.data()?, id, first, after).await
    }

    /// Its history, newest entry first, when its task has `historyCheck`.
    #[graphql(complexity = "20 + first.unwrap_or(50).max(0) as usize * child_complexity")]
    async fn history(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many at most, 1 to 200; 50 when absent")] first: Option<i32>,
        #[graphql(desc = "Cursor of the entry to start after")] after: Option<String>,
    ) -> Result<Connection<String, HistoryEntry>> {
        history(ctx, Some(HistoryFilterInput::of_schedule(self.id.clone())), false, first, after).await
    }
}

/// Where a run is on its way, by its last attempt.
#[derive(SimpleObject)]
struct Timeline {
    /// When it could be claimed.
    due_at: Option<DateTime<Utc>>,
    /// When a worker was awake for it.
    woken_at: Option<DateTime<Utc>>,
    /// When it was claimed.
    claimed_at: Option<DateTime<Utc>>,
    /// When its target was called.
    dispatched_at: Option<DateTime<Utc>>,
    /// When the target began to answer.
    first_byte_at: Option<DateTime<Utc>>,
    /// When it ended.
    settled_at: Option<DateTime<Utc>>,
}

/// A page of a schedule's runs.
async fn runs(
    service: &Service,
    id: ScheduleId,
    first: Option<i32>,
    after: Option<String>,
) -> Result<Connection<String, Run>> {
    let limit = page_size(first)?;
    let start =
        after.as_deref().map(crate::surface::query::cursor_pair).transpose().map_err(|problem| failure(&problem))?;
    let rows = service.runs(id, start, i64::from(limit) + 1).await; // one more tells whether there is a next page
    let mut rows = found(rows)?.unwrap_or_default();
    let limit = usize::try_from(limit)?;
    let mut page = Connection::new(after.is_some(), rows.len() > limit);
    rows.truncate(limit);
    page.edges = rows
        .into_iter()
        .map(|row| Edge::new(format!("{}_{}", row.nominal_at, row.series), Run { row, attempts: None }))
        .collect();
    Ok(page)
}

/// A run: the execution of one occurrence, the same over all its attempts.
pub(super) struct Run {
    row: RunRow,
    /// `None`: not read yet.
    attempts: Option<Vec<AttemptRow>>,
}

impl Run {
    /// The run with this id.
    pub(super) async fn read(service: &Service, id: Uuid) -> Result<Option<Self>> {
        let run = found(service.run(id).await)?;
        Ok(run.map(|(row, attempts)| Self { row, attempts: Some(attempts) }))
    }
}

/// A run: the execution of one occurrence, the same over all its attempts.
#[async_graphql::Object]
impl Run {
    /// Its id; sent to the target as idempotency key.
    async fn id(&self) -> ID {
        self.row.id.into()
    }
    /// The schedule it belongs to.
    async fn schedule_id(&self) -> ID {
        self.row.schedule_id.into()
    }
    /// The schedule it belongs to; null when that is deleted.
    #[graphql(complexity = "20 + child_complexity")]
    async fn schedule(&self, ctx: &Context<'_>) -> Result<Option<Schedule>> {
        Schedule::read(ctx.data()?, self.row.schedule_id).await
    }
    /// Its state.
    async fn state(&self) -> RunStateWord {
        self.row.state.into()
    }
    /// The instant it is the run of.
    async fn nominal_at(&self) -> Option<DateTime<Utc>> {
        instant(self.row.nominal_at)
    }
    /// When it can be claimed.
    async fn due_at(&self) -> Option<DateTime<Utc>> {
        instant(self.row.due_at)
    }
    /// When it was claimed last.
    async fn claimed_at(&self) -> Option<DateTime<Utc>> {
        self.row.claimed_at.and_then(instant)
    }
    /// When it ended.
    async fn finished_at(&self) -> Option<DateTime<Utc>> {
        self.row.finished_at.and_then(instant)
    }
    /// Milliseconds from due to claimed.
    async fn lag_ms(&self) -> Option<f64> {
        self.row.claimed_at.map(|claimed_at| number((claimed_at - self.row.due_at).max(0)))
    }
    /// Where it is on its way, by its last attempt.
    async fn timeline(&self) -> Timeline {
        let shown = crate::view::Timeline::of(&self.row);
        let at = |at: Option<UnixMs>| at.and_then(instant);
        Timeline {
            due_at: instant(shown.due_at),
            woken_at: at(shown.woken_at),
            claimed_at: at(shown.claimed_at),
            dispatched_at: at(shown.dispatched_at),
            first_byte_at: at(shown.first_byte_at),
            settled_at: at(shown.settled_at),
        }
    }
    /// What made it late, when a dispatch began more than a second after its time.
    async fn late_cause(&self) -> Option<&str> {
        self.row.late_cause.map(LateCause::as_str)
    }
    /// The same in a sentence.
    async fn late_reason(&self) -> Option<&str> {
        self.row.late_cause.map(LateCause::sentence)
    }
    /// Attempts so far.
    async fn attempt(&self) -> i32 {
        self.row.attempt
    }
    /// Expired leases so far.
    async fn crashes(&self) -> i32 {
        self.row.crashes
    }
    /// Fencing token of the latest claim.
    async fn lease_token(&self) -> String {
        self.row.lease_token.to_string()
    }
    /// Who claimed it last.
    async fn worker(&self) -> Option<&str> {
        self.row.lease_owner.as_deref()
    }
    /// Whether it is or was the armed one: false for a trigger.
    async fn armed(&self) -> bool {
        self.row.armed
    }
    /// Revision of the schedule that armed it.
    async fn revision(&self) -> i64 {
        self.row.revision
    }
    /// 0 for calendar occurrences, else the arming's number.
    async fn series(&self) -> i64 {
        self.row.series
    }
    /// Its queue.
    async fn queue(&self) -> &str {
        &self.row.queue
    }
    /// Higher is claimed first.
    async fn priority(&self) -> i32 {
        self.row.priority.into()
    }
    /// How its last attempt or the run ended: `ok`, `http_status`, `timeout`, …
    async fn outcome(&self) -> Option<&str> {
        self.row.outcome.map(|outcome| outcome.as_str())
    }
    /// HTTP status of the last answer.
    async fn http_status(&self) -> Option<i32> {
        self.row.http_status
    }
    /// One sentence about the outcome.
    async fn detail(&self) -> Option<&str> {
        self.row.detail.as_deref()
    }
    /// Instants that passed before it started.
    async fn coalesced(&self) -> i32 {
        self.row.coalesced
    }
    /// Instants that passed while it ran.
    async fn skipped(&self) -> i32 {
        self.row.skipped
    }
    /// Its kept attempts, oldest first: those that failed.
    #[graphql(complexity = "20 + 5 * child_complexity")]
    async fn attempts(&self, ctx: &Context<'_>) -> Result<Vec<Attempt>> {
        if let Some(attempts) = &self.attempts {
            return Ok(attempts.iter().map(Attempt::of).collect());
        }
        let service: &Service = ctx.data()?;
        let read = found(service.run(self.row.id).await)?;
        Ok(read.iter().flat_map(|(_, attempts)| attempts).map(Attempt::of).collect())
    }
}

/// A kept attempt of a run.
#[derive(SimpleObject)]
pub(super) struct Attempt {
    /// 1 for the first dispatch.
    attempt: i32,
    /// The fencing token it carried.
    lease_token: String,
    /// Who dispatched it.
    worker: String,
    /// When it began.
    started_at: Option<DateTime<Utc>>,
    /// When it ended.
    ended_at: Option<DateTime<Utc>>,
    /// How it ended.
    outcome: &'static str,
    /// HTTP status of the answer.
    http_status: Option<i32>,
    /// One sentence about the outcome.
    detail: String,
}

impl Attempt {
    fn of(row: &AttemptRow) -> Self {
        Self {
            attempt: row.attempt,
            lease_token: row.lease_token.to_string(),
            worker: row.worker.clone(),
            started_at: instant(row.started_at),
            ended_at: instant(row.ended_at),
            outcome: row.outcome.as_str(),
            http_status: row.http_status,
            detail: row.detail.clone(),
        }
    }
}

/// An instant of a timing, before it is registered.
#[derive(SimpleObject)]
pub(super) struct Occurrence {
    /// The instant.
    at: Option<DateTime<Utc>>,
    /// The same by the clocks of the timing's zone.
    local: String,
    /// What a change of those clocks does to it.
    note: Option<String>,
}

impl From<PreviewedInstant> for Occurrence {
    fn from(previewed: PreviewedInstant) -> Self {
        Self { at: instant(previewed.at), local: previewed.local, note: previewed.note.map(|note| note.to_string()) }
    }
}

/// The wake state as this process sees it.
#[derive(SimpleObject)]
pub(super) struct Wake {
    /// Whether there is one.
    known: bool,
    /// The next instant in Unix milliseconds; null when nothing is scheduled.
    next_ms: Option<f64>,
    /// The same as a time.
    next_at: Option<DateTime<Utc>>,
    /// The leading monitor's term.
    epoch: Option<i64>,
    /// Counts the changes under one nonce.
    seq: Option<String>,
    /// Names the life of the state.
    nonce: Option<String>,
    /// The database's clock at the last heartbeat, in Unix milliseconds.
    db_ms: Option<f64>,
}

impl Wake {
    pub(super) fn of(state: Option<&WakeState>) -> Self {
        let next = state.and_then(WakeState::next);
        Self {
            known: state.is_some(),
            next_ms: next.map(number),
            next_at: next.and_then(instant),
            epoch: state.map(|state| state.epoch),
            seq: state.map(|state| state.seq.to_string()),
            nonce: state.map(|state| state.nonce.to_string()),
            db_ms: state.map(|state| number(state.db_ms)),
        }
    }
}

fn json<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<JsonText, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(JsonText)
}

fn some_json<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<JsonText>, D::Error> {
    json(deserializer).map(Some)
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<ID, D::Error> {
    String::deserialize(deserializer).map(ID)
}
