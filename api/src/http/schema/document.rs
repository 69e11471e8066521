//! The documents callers send: a registration and the request for a preview.
//!
//! Leniencies are part of the contract and therefore of the schema: null stands for absent in every optional
//! field, and what nobody knows is left out and named in the answer.

use utoipa::ToSchema;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};

use super::{STORABLE, any_of, field};

/// A schedule to register: who registers it, when it fires, and what it does then.
///
/// Optional fields may be null, which means the same as leaving them out. A document that was returned by this API
/// can be sent back as it is: the server's own fields (`id`, `state`, `task.status` …) are accepted and left out. Any
/// other unknown field is left out too, and named in the `warnings` of the answer; in `client` it is refused.
#[derive(ToSchema)]
#[schema(example = json!({
    "name": "nightly report",
    "client": {"operation": "report", "application": "chef", "group": "office", "key": "nightly", "type": "service"},
    "type": "cron",
    "schedule": "0 0 3 * * *",
    "timezone": "Asia/Seoul",
    "task": {
        "type": "rest",
        "connection": {"host": "http://localhost:3000/api/run/report", "headers": {"Content-Type": "application/json"}},
        "data": {"instanceName": "report", "variables": {}},
        "failed_policy": "retry",
        "retry_wait": 60,
        "max_retry_count": 3
    }
}))]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct RegistrationDocument {
    /// A name for people.
    #[schema(max_length = 1024, pattern = "^[^\\u0000]*$", example = "nightly report")]
    name: Option<String>,
    client: Client,
    #[schema(inline)]
    r#type: TimingType,
    #[schema(schema_with = schedule)]
    schedule: Option<String>,
    #[schema(schema_with = timezone)]
    timezone: Option<String>,
    /// Of several schedules that are due at once, the one with the highest priority goes first.
    #[schema(minimum = -100, maximum = 100, default = 0)]
    priority: Option<i16>,
    /// Which workers may take its runs: those that serve this queue.
    #[schema(pattern = "^[A-Za-z0-9_.-]{1,64}$", default = "default")]
    queue: Option<String>,
    task: Task,
}

/// Who registers the schedule. The five together are its identity; each is free text, and empty when left out. Any other
/// field is refused: without it the identity might be that of another schedule.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "documentation")]
struct Client {
    /// Operation of the calling application.
    #[schema(max_length = 255, pattern = "^[^\\u0000]*$", example = "report")]
    operation: Option<String>,
    /// The application.
    #[schema(max_length = 255, pattern = "^[^\\u0000]*$", example = "chef")]
    application: Option<String>,
    /// Group the schedule belongs to.
    #[schema(max_length = 255, pattern = "^[^\\u0000]*$", example = "office")]
    group: Option<String>,
    /// The application's own key.
    #[schema(max_length = 255, pattern = "^[^\\u0000]*$", example = "nightly")]
    key: Option<String>,
    /// Type of client.
    #[schema(max_length = 255, pattern = "^[^\\u0000]*$", example = "service")]
    r#type: Option<String>,
}

/// Which kind of timing `schedule` is:
/// `cron` a calendar expression, `now` at once, `date` a date and time, `delay` a number of seconds, `delay-recur` a
/// number of seconds, again and again, counted from the end of each run.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case", example = "cron")]
#[expect(dead_code, reason = "documentation")]
enum TimingType {
    Cron,
    Now,
    Date,
    Delay,
    DelayRecur,
}

fn schedule() -> RefOr<Schema> {
    field(
        any_of([Type::String, Type::Integer, Type::Null])
            .description(Some(
                "When, in the form that `type` demands; may be left out with `now` alone. `cron`: 5 fields (minute \
                 hour day month weekday), 6 with seconds first, or a nickname such as `@daily`. `date`: \
                 `YYYY-MM-DDThh:mm:ss`, local to `timezone` unless it ends in an offset; a date that has passed is due \
                 now. `delay`, `delay-recur`: seconds, also as a number.",
            ))
            .max_length(Some(1024))
            .pattern(Some(STORABLE))
            .examples(["0 30 9 * * MON-FRI", "2027-01-15T09:00:00", "50"]),
    )
}

fn timezone() -> RefOr<Schema> {
    field(
        any_of([Type::String, Type::Null])
            .description(Some("IANA name of the time zone; left out or empty, the server's default (`UTC`)."))
            .max_length(Some(255))
            .examples(["Asia/Seoul"]),
    )
}

/// What to do when the schedule fires, and what to do when that fails.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documentation")]
struct Task {
    #[schema(inline)]
    r#type: TargetType,
    connection: Connection,
    #[schema(schema_with = data)]
    data: Option<String>,
    /// Whether registration, execution, re-execution and deletion are recorded in the history.
    #[schema(default = false)]
    history_check: Option<bool>,
    #[schema(schema_with = failed_policy)]
    failed_policy: Option<String>,
    /// Seconds before a retry.
    #[schema(minimum = 0, maximum = 31_536_000, default = 60)]
    retry_wait: Option<i64>,
    /// Another name of `retry_wait`, which wins.
    #[schema(minimum = 0, maximum = 31_536_000, deprecated)]
    retry_period: Option<i64>,
    /// Retries after the first attempt: n means n + 1 attempts, 0 none, -1 no limit. Left out: no limit with `retry`
    /// (until the next occurrence, where there is one), 10 with `retry_dlq`.
    #[schema(minimum = -1, maximum = 1_000_000)]
    max_retry_count: Option<i64>,
    retry: Option<RetryShape>,
    #[schema(schema_with = timeout)]
    timeout: Option<f64>,
    #[schema(schema_with = delivery)]
    delivery: Option<String>,
}

/// What kind of target is called: `rest` an HTTP endpoint, `kafka` a topic, `redis` a channel, stream or list.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", example = "rest")]
#[expect(dead_code, reason = "documentation")]
enum TargetType {
    Rest,
    Kafka,
    Redis,
}

fn data() -> RefOr<Schema> {
    let description = "What the target receives: any JSON, at most 32 levels deep, handed on as it is written here. \
                       Left out or null: `{}`. The placeholders `{{run.id}}`, `{{run.scheduled_at}}`, `{{run.attempt}}`, \
                       `{{schedule.id}}` and `{{schedule.name}}` in it are filled in.";
    let any = utoipa::openapi::schema::SchemaType::AnyValue;
    field(ObjectBuilder::new().schema_type(any).description(Some(description)))
}

fn failed_policy() -> RefOr<Schema> {
    optional_words(
        ["ignore", "retry", "retry_dlq"],
        "What a failed attempt leads to: it is recorded and that is all (`ignore`, the default), it is tried again \
         (`retry`), or it is tried again and kept as a dead letter in the end (`retry_dlq`).",
    )
}

fn timeout() -> RefOr<Schema> {
    field(
        any_of([Type::Number, Type::Null])
            .description(Some("Seconds an attempt may take, answer included. Left out: 30."))
            .exclusive_minimum(Some(0))
            .maximum(Some(900)),
    )
}

fn delivery() -> RefOr<Schema> {
    optional_words(
        ["at_least_once", "at_most_once"],
        "Whether an attempt is repeated whose worker died during it: yes (`at_least_once`, the default), so that the \
         target may see it twice under the same idempotency key, or no (`at_most_once`).",
    )
}

/// One of the words, or null.
fn optional_words<const N: usize>(known: [&'static str; N], description: &str) -> RefOr<Schema> {
    let values = known.into_iter().map(Into::into).chain([serde_json::Value::Null]);
    field(any_of([Type::String, Type::Null]).description(Some(description)).enum_values(Some(values)))
}

/// How the wait between retries grows. Left out: it does not.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documentation")]
struct RetryShape {
    #[schema(schema_with = backoff)]
    backoff: Option<String>,
    /// Growth per retry when exponential.
    #[schema(minimum = 1, maximum = 10, default = 2)]
    factor: Option<f64>,
    /// Longest wait in seconds.
    #[schema(minimum = 1, maximum = 31_536_000)]
    max_wait: Option<i64>,
    /// Share of the wait that is random.
    #[schema(minimum = 0, maximum = 1, default = 0)]
    jitter: Option<f64>,
}

fn backoff() -> RefOr<Schema> {
    optional_words(["fixed", "exponential"], "Always the same wait (`fixed`, the default), or one that is multiplied.")
}

/// Where the target is, and in which form it wants the message.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documentation")]
struct Connection {
    /// A connection of the server's configuration, instead of `host`: credentials then stay there.
    #[schema(min_length = 1, max_length = 64, pattern = "^[^\\u0000]*$")]
    name: Option<String>,
    /// Where the target is; demanded unless `name` is given. `rest`: an http or https URL without user and password.
    /// `kafka`: brokers, `host:port`, separated by commas. `redis`: `redis://` or `rediss://`, also with `+sentinel` or
    /// `+cluster`.
    #[schema(max_length = 2048, pattern = "^[^\\u0000]*$", example = "http://localhost:3000/api/run/report")]
    host: Option<String>,
    #[schema(schema_with = method)]
    method: Option<String>,
    #[schema(schema_with = headers)]
    headers: Option<String>,
    /// Kafka topic; Redis channel, stream or list. Demanded by these two.
    #[schema(max_length = 249, pattern = "^[^\\u0000]*$")]
    topic: Option<String>,
    /// Key of the Kafka record. Left out: the id of the run.
    #[schema(max_length = 1024, pattern = "^[^\\u0000]*$")]
    key: Option<String>,
    #[schema(schema_with = mode)]
    mode: Option<String>,
    /// Entries a Redis stream or list is trimmed to. Left out: it is not.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    maxlen: Option<i64>,
    /// Whether it is a failure when nobody received what was published to Redis.
    #[schema(default = false)]
    require_receiver: Option<bool>,
    #[schema(schema_with = body)]
    body: Option<String>,
    #[schema(schema_with = format)]
    format: Option<String>,
}

fn method() -> RefOr<Schema> {
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    field(
        any_of([Type::String, Type::Null])
            .description(Some(format!("HTTP method: {}, in any case. Left out: POST.", methods.join(", "))))
            .pattern(Some(format!("^({})$", methods.map(in_any_case).join("|"))))
            .examples(["POST"]),
    )
}

fn in_any_case(word: &str) -> String {
    word.chars().map(|letter| format!("[{letter}{}]", letter.to_ascii_lowercase())).collect()
}

fn headers() -> RefOr<Schema> {
    let value = any_of([Type::String, Type::Number, Type::Boolean])
        .max_length(Some(4096))
        .pattern(Some(r"^[^\u0000-\u0008\u000A-\u001F\u007F]*$"));
    // `tchar` of RFC 9110, section 5.6.2.
    let name = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$"));
    field(
        any_of([Type::Object, Type::Null])
            .description(Some(
                "Headers to send (`rest`, `kafka`). Those that belong to the connection or name the run cannot be set. \
                 The values of `Authorization`, `Cookie`, `X-Api-Key` and the like are shown as `***`; `***` sent back \
                 keeps what is stored.",
            ))
            .property_names(Some(name.build()))
            .additional_properties(Some(AdditionalProperties::RefOr(field(value))))
            .max_properties(Some(32))
            .examples([serde_json::json!({"X-Tenant": "chef"})]),
    )
}

fn mode() -> RefOr<Schema> {
    optional_words(
        ["publish", "stream", "list"],
        "How Redis is told: PUBLISH to a channel (`publish`, the default), XADD to a `stream`, or LPUSH to a `list`.",
    )
}

fn body() -> RefOr<Schema> {
    optional_words(
        ["data", "schedule"],
        "What is sent: `data` alone, or the whole `schedule` document. Left out: the server's default, `data`.",
    )
}

fn format() -> RefOr<Schema> {
    optional_words(
        ["raw", "cloudevents"],
        "The form of the message: as it is (`raw`, the default), or CloudEvents 1.0 (`cloudevents`).",
    )
}

/// A timing that nobody has registered yet.
#[derive(ToSchema)]
#[schema(example = json!({"type": "cron", "schedule": "30 2 * * *", "timezone": "Europe/Berlin", "count": 3}))]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct PreviewDocument {
    #[schema(inline)]
    r#type: TimingType,
    #[schema(schema_with = schedule)]
    schedule: Option<String>,
    #[schema(schema_with = timezone)]
    timezone: Option<String>,
    #[schema(schema_with = from)]
    from: Option<String>,
    /// How many instants.
    #[schema(minimum = 1, maximum = 100, default = 10)]
    count: Option<i64>,
}

fn from() -> RefOr<Schema> {
    field(
        any_of([Type::String, Type::Integer, Type::Null])
            .description(Some(
                "The instant to look from, RFC 3339 with an offset or unix milliseconds, in the years 1970 to 9999. \
                 Left out: now.",
            ))
            .minimum(Some(0))
            .maximum(Some(253_402_300_799_999_i64))
            .examples(["2027-01-01T09:00:00+09:00"]),
    )
}
