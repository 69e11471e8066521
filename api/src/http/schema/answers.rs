//! The answers: schedules, runs, the wake state.

use reveille_shared::model::lateness::LateCause;
use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_shared::store::Change;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

use super::{any_of, field, words};

/// A registration that took effect.
#[derive(ToSchema)]
#[schema(as = Registered)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct RegisteredAnswer {
    /// Id of the schedule, old or new.
    id: Uuid,
    /// Its name as stored.
    #[schema(example = "nightly report")]
    name: String,
    client: ClientAnswer,
    #[schema(schema_with = changes)]
    change: String,
    /// Fields that were left out because nobody knows them; absent when there are none.
    #[schema(required = false, nullable = false)]
    warnings: Option<Vec<String>>,
}

/// Who registered a schedule.
#[derive(ToSchema)]
#[schema(as = ClientKey)]
#[expect(dead_code, reason = "documentation")]
pub(super) struct ClientAnswer {
    #[schema(example = "report")]
    operation: String,
    #[schema(example = "chef")]
    application: String,
    #[schema(example = "office")]
    group: String,
    #[schema(example = "nightly")]
    key: String,
    #[schema(example = "service")]
    r#type: String,
}

/// A schedule: the document as it was registered, defaults filled in and secrets masked, with what the server knows.
///
/// It can be sent back to update as it is.
#[derive(ToSchema)]
#[schema(as = Schedule)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct ScheduleAnswer {
    id: Uuid,
    #[schema(example = "nightly report")]
    name: String,
    client: ClientAnswer,
    #[schema(schema_with = timing_types)]
    r#type: String,
    /// When, as registered.
    #[schema(example = "0 0 3 * * *")]
    schedule: String,
    /// IANA name of the time zone.
    #[schema(example = "Asia/Seoul")]
    timezone: String,
    /// Absent when it is 0.
    #[schema(minimum = -100, maximum = 100, required = false)]
    priority: i16,
    /// Absent when it is `default`.
    #[schema(required = false)]
    queue: String,
    task: TaskAnswer,
    /// True where a newer version of the service wrote the document and this one cannot read it. What stands in the
    /// document is then missing.
    #[schema(required = false)]
    unreadable: bool,
    #[schema(schema_with = schedule_states)]
    state: String,
    /// Grows with every change.
    #[schema(minimum = 1)]
    revision: i64,
    #[schema(schema_with = instant)]
    created_at: String,
    #[schema(schema_with = instant)]
    updated_at: String,
}

/// What a schedule does, and where that stands.
#[derive(ToSchema)]
#[schema(as = TaskState)]
#[expect(dead_code, reason = "documentation")]
struct TaskAnswer {
    #[schema(schema_with = target_types)]
    r#type: String,
    connection: ConnectionAnswer,
    /// What the target receives, as registered.
    data: serde_json::Value,
    history_check: bool,
    #[schema(schema_with = policies)]
    failed_policy: String,
    /// Seconds before a retry.
    retry_wait: u64,
    /// Absent when the policy's default holds.
    #[schema(required = false)]
    max_retry_count: i64,
    #[schema(required = false)]
    retry: RetryAnswer,
    /// Seconds an attempt may take; absent when the default holds.
    #[schema(required = false)]
    timeout: f64,
    /// Absent when it is `at_least_once`.
    #[schema(required = false, schema_with = deliveries)]
    delivery: String,
    #[schema(schema_with = statuses)]
    status: String,
    /// Unix seconds at which its armed run is due, of its last one when it is finished; absent while it is paused.
    #[schema(required = false)]
    next: i64,
    /// Runs that succeeded.
    iteration: i64,
    /// Attempts of the current run after the first.
    retry_count: i32,
}

/// How the wait between retries grows.
#[derive(ToSchema)]
#[schema(as = RetryGrowth)]
#[expect(dead_code, reason = "documentation")]
struct RetryAnswer {
    #[schema(schema_with = backoffs)]
    backoff: String,
    factor: f64,
    #[schema(required = false)]
    max_wait: u64,
    jitter: f64,
}

/// Where the target of a schedule is. What was not registered is absent.
#[derive(ToSchema)]
#[schema(as = Target)]
#[expect(dead_code, reason = "documentation")]
struct ConnectionAnswer {
    /// The connection of the server's configuration it goes through.
    #[schema(required = false)]
    name: String,
    /// Where the target is: URL, brokers, or Redis.
    #[schema(required = false, example = "http://localhost:3000/api/run/report")]
    host: String,
    /// HTTP method; absent: POST.
    #[schema(required = false)]
    method: String,
    /// Headers that are sent. Secret values are shown as `***`.
    #[schema(required = false)]
    headers: std::collections::BTreeMap<String, String>,
    /// Kafka topic; Redis channel, stream or list.
    #[schema(required = false)]
    topic: String,
    /// Key of the Kafka record; absent: the id of the run.
    #[schema(required = false)]
    key: String,
    #[schema(required = false, schema_with = modes)]
    mode: String,
    /// Entries a Redis stream or list is trimmed to; absent: it is not.
    #[schema(required = false)]
    maxlen: u64,
    /// Whether it is a failure when nobody received what was published to Redis.
    #[schema(required = false)]
    require_receiver: bool,
    #[schema(required = false, schema_with = bodies)]
    body: String,
    #[schema(required = false, schema_with = formats)]
    format: String,
}

/// What was deleted.
#[derive(ToSchema)]
#[schema(as = Deleted)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct DeletedAnswer {
    /// Schedules deleted.
    #[schema(minimum = 1, example = 1)]
    count: i64,
    /// Runs of theirs that are being carried out at this moment and finish; absent when there are none.
    #[schema(required = false, minimum = 1)]
    in_flight: i64,
}

/// The state a schedule has now.
#[derive(ToSchema)]
#[schema(as = StateChanged)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct StateAnswer {
    id: Uuid,
    #[schema(schema_with = changed_states)]
    state: String,
}

/// The run a trigger made.
#[derive(ToSchema)]
#[schema(as = Triggered)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct TriggeredAnswer {
    run_id: Uuid,
    #[schema(schema_with = instant)]
    due_at: String,
}

/// The next instants of a timing.
#[derive(ToSchema)]
#[schema(as = Preview)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct PreviewAnswer {
    /// In order of time; fewer than asked for when there are no more.
    occurrences: Vec<Occurrence>,
    #[schema(schema_with = daylight_saving)]
    daylight_saving: String,
    /// Version of the rules of time zones (the IANA database) by which they were found.
    #[schema(example = "2026f")]
    zone_rules: String,
}

/// An instant at which a timing fires.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documentation")]
struct Occurrence {
    #[schema(schema_with = instant)]
    at: String,
    /// The same with the offset of the time zone.
    #[schema(example = "2027-01-15T17:00:00+09:00")]
    local: String,
    /// What a change of the clocks did to it, for people; null when nothing.
    #[schema(required = true)]
    note: Option<String>,
}

/// One occurrence of a schedule, over all its attempts.
#[derive(ToSchema)]
#[schema(as = Run)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct RunAnswer {
    /// The same over all attempts; targets receive it as idempotency key.
    id: Uuid,
    schedule_id: Uuid,
    #[schema(schema_with = run_states)]
    state: String,
    /// The instant it is the run of.
    #[schema(schema_with = instant)]
    nominal_at: String,
    /// When it can be started: the nominal instant, or that of its retry.
    #[schema(schema_with = instant)]
    due_at: String,
    #[schema(schema_with = instant_or_null)]
    claimed_at: String,
    #[schema(schema_with = instant_or_null)]
    finished_at: String,
    /// Milliseconds between due and claimed.
    #[schema(required = true, minimum = 0)]
    lag_ms: Option<i64>,
    timeline: Timeline,
    #[schema(schema_with = late_causes_or_null)]
    late_cause: String,
    /// The same for people.
    #[schema(required = true)]
    late_reason: Option<String>,
    /// Attempts so far.
    #[schema(minimum = 0)]
    attempt: i32,
    /// How often the worker that had it died.
    #[schema(minimum = 0)]
    crashes: i32,
    /// Fencing token of the last attempt: it only grows.
    lease_token: i64,
    /// The worker that has it, or had it last.
    #[schema(required = true)]
    worker: Option<String>,
    /// Whether the schedule goes on after it; not so for a triggered run.
    armed: bool,
    /// Revision of the schedule that it is the run of.
    revision: i64,
    /// 0 for what a calendar fired, else the number of the arming.
    series: i64,
    queue: String,
    priority: i16,
    #[schema(schema_with = outcomes_or_null)]
    outcome: String,
    /// What an HTTP target answered last.
    #[schema(required = true, minimum = 100, maximum = 999)]
    http_status: Option<u16>,
    /// What happened, for people.
    #[schema(required = true)]
    detail: Option<String>,
    /// Occurrences that passed while it was being carried out and were merged into the next one.
    coalesced: i64,
    /// Occurrences that were left out by policy.
    skipped: i64,
}

/// The way of a run, by its last attempt. What it has not reached is null.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documentation")]
struct Timeline {
    #[schema(schema_with = instant)]
    due_at: String,
    /// The worker learnt that something is due.
    #[schema(schema_with = instant_or_null)]
    woken_at: String,
    #[schema(schema_with = instant_or_null)]
    claimed_at: String,
    #[schema(schema_with = instant_or_null)]
    dispatched_at: String,
    #[schema(schema_with = instant_or_null)]
    first_byte_at: String,
    #[schema(schema_with = instant_or_null)]
    settled_at: String,
}

/// A run with its latest attempts.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct RunWithAttempts {
    #[serde(flatten)]
    run: RunAnswer,
    /// Its attempts, oldest first, as far as they are kept.
    attempts: Vec<Attempt>,
}

/// One attempt at a run.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documentation")]
struct Attempt {
    /// 1 for the first.
    #[schema(minimum = 1)]
    attempt: i32,
    /// Fencing token that the target received.
    lease_token: i64,
    worker: String,
    #[schema(schema_with = instant)]
    started_at: String,
    #[schema(schema_with = instant)]
    ended_at: String,
    #[schema(schema_with = outcomes)]
    outcome: String,
    #[schema(required = true, minimum = 100, maximum = 999)]
    http_status: Option<u16>,
    #[schema(required = true)]
    detail: Option<String>,
}

/// When the service wakes next, as this process knows it.
#[derive(ToSchema)]
#[schema(as = Wake)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct WakeAnswer {
    /// Whether anybody has said yet when the next run is due.
    known: bool,
    /// Unix milliseconds of the next run; null when none is scheduled.
    #[schema(required = true)]
    next_ms: Option<i64>,
    #[schema(schema_with = instant_or_null)]
    next_at: String,
    /// Number of the monitor's term of office.
    #[schema(required = false)]
    epoch: i64,
    /// Grows with every publication of the same epoch.
    #[schema(required = false)]
    seq: u64,
    /// Names the wake state itself: another one after Redis lost its data.
    #[schema(required = false)]
    nonce: u64,
    /// What the database's clock showed when it was read last, in unix milliseconds.
    #[schema(required = false)]
    db_ms: i64,
}

pub(super) fn instant() -> RefOr<Schema> {
    field(rfc3339(ObjectBuilder::new().schema_type(Type::String)))
}

pub(super) fn instant_or_null() -> RefOr<Schema> {
    field(rfc3339(any_of([Type::String, Type::Null])))
}

fn rfc3339(object: ObjectBuilder) -> ObjectBuilder {
    object
        .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::DateTime)))
        .description(Some("RFC 3339 in UTC, with milliseconds."))
        .examples(["2027-01-15T08:00:00.000Z"])
}

fn changes() -> RefOr<Schema> {
    let description = "What became of the schedule: `created`, `replaced` (also when the same document was armed anew), or \
                       `unchanged`.";
    field(words(Change::ALL.map(Change::as_str)).description(Some(description)).examples(["created"]))
}

fn timing_types() -> RefOr<Schema> {
    field(words(["cron", "now", "date", "delay", "delay-recur"]))
}

fn target_types() -> RefOr<Schema> {
    field(words(["rest", "kafka", "redis"]))
}

fn policies() -> RefOr<Schema> {
    field(words(["ignore", "retry", "retry_dlq"]))
}

fn deliveries() -> RefOr<Schema> {
    field(words(["at_least_once", "at_most_once"]))
}

fn backoffs() -> RefOr<Schema> {
    field(words(["fixed", "exponential"]))
}

fn modes() -> RefOr<Schema> {
    let description = "How Redis is told: PUBLISH, XADD or LPUSH; absent: `publish`.";
    field(words(["publish", "stream", "list"]).description(Some(description)))
}

fn bodies() -> RefOr<Schema> {
    let description = "What is sent: the task's data or the whole document; absent: the server's default, `data`.";
    field(words(["data", "schedule"]).description(Some(description)))
}

fn formats() -> RefOr<Schema> {
    let description = "The form of the message; absent: `raw`.";
    field(words(["raw", "cloudevents"]).description(Some(description)))
}

fn statuses() -> RefOr<Schema> {
    let description = "`idle` waits for its time, `processing` is running, `failed` waits for a retry or finished \
                       failed, `done` finished well, `invalidity` retries exhausted or refused for good.";
    field(words(["idle", "processing", "failed", "done", "invalidity"]).description(Some(description)))
}

fn schedule_states() -> RefOr<Schema> {
    let description = "`active` has a run to come, `paused` was stopped, `finished` has no run to come.";
    field(words(["active", "paused", "finished", "deleted"]).description(Some(description)))
}

fn changed_states() -> RefOr<Schema> {
    field(words(["active", "paused"]))
}

fn run_states() -> RefOr<Schema> {
    field(words(RunState::ALL.map(RunState::as_str)))
}

fn outcomes() -> RefOr<Schema> {
    field(words(OutcomeCode::ALL.map(OutcomeCode::as_str)).description(Some(OUTCOME)))
}

pub(super) fn outcomes_or_null() -> RefOr<Schema> {
    words_or_null(OutcomeCode::ALL.map(OutcomeCode::as_str), OUTCOME)
}

pub(super) fn run_states_or_null() -> RefOr<Schema> {
    words_or_null(RunState::ALL.map(RunState::as_str), "State of the run.")
}

pub(super) fn late_causes_or_null() -> RefOr<Schema> {
    words_or_null(LateCause::ALL.map(LateCause::as_str), "Why it was more than a second late; null when it was not.")
}

fn daylight_saving() -> RefOr<Schema> {
    let description = "How a cron expression takes a change of the clocks: `interval` follows the clock, so nothing is made up \
                       and both passes of a repeated hour fire; `fixed` names times of day, each of which fires once. Null for \
                       other types.";
    words_or_null(["interval", "fixed"], description)
}

fn words_or_null<const N: usize>(words: [&'static str; N], description: &str) -> RefOr<Schema> {
    let values = words.into_iter().map(serde_json::Value::from).chain([serde_json::Value::Null]);
    field(any_of([Type::String, Type::Null]).enum_values(Some(values)).description(Some(description)))
}

const OUTCOME: &str = "How it ended: `ok`, or what went wrong.";
