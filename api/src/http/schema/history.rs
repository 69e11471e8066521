//! The history: its entries, its filters and its two forms.

use reveille_shared::model::history::HistoryKind;
use reveille_shared::model::run::OutcomeCode;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::answers::{ClientAnswer, instant, late_causes_or_null, outcomes_or_null, run_states_or_null};
use super::{field, words};

/// One thing that happened to a schedule.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct HistoryEntry {
    /// Grows from entry to entry.
    id: i64,
    #[schema(schema_with = instant)]
    at: String,
    #[schema(schema_with = kinds)]
    kind: String,
    schedule_id: Uuid,
    /// The run it is about; null when it is about the schedule.
    #[schema(required = true)]
    run_id: Option<Uuid>,
    client: ClientAnswer,
    /// The schedule's name at that time.
    #[schema(example = "nightly report")]
    name: String,
    /// The schedule's revision at that time.
    revision: i64,
    /// Number of the attempt.
    #[schema(required = true)]
    attempt: Option<i32>,
    #[schema(schema_with = outcomes_or_null)]
    outcome: String,
    #[schema(schema_with = run_states_or_null)]
    state: String,
    /// What an HTTP target answered.
    #[schema(required = true)]
    http_status: Option<u16>,
    /// Milliseconds between due and claimed.
    #[schema(required = true)]
    lag_ms: Option<i64>,
    /// Milliseconds of the attempt.
    #[schema(required = true)]
    duration_ms: Option<i64>,
    #[schema(schema_with = late_causes_or_null)]
    late_cause: String,
    /// What happened, for people.
    #[schema(required = true)]
    detail: Option<String>,
    #[schema(required = true)]
    worker: Option<String>,
}

/// Which entries are asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct HistoryFilter {
    /// Only entries of this kind.
    #[param(schema_with = kinds)]
    kind: Option<String>,
    /// Only entries with this outcome.
    #[param(schema_with = outcomes)]
    outcome: Option<String>,
    /// Only entries about this run.
    run_id: Option<Uuid>,
    /// Only entries from this instant on (RFC 3339).
    #[param(format = DateTime)]
    from: Option<String>,
    /// Only entries before this instant (RFC 3339).
    #[param(format = DateTime)]
    to: Option<String>,
}

/// Whose entries are asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct HistoryOf {
    /// Only entries of this schedule, which may be gone.
    schedule_id: Option<Uuid>,
}

/// In which order and form the entries are answered.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct HistoryForm {
    /// Newest first (`desc`, as without it) or oldest first (`asc`).
    #[param(inline)]
    order: Option<Order>,
    /// Entries per page, 50 without it. Of CSV any number of entries; without it all of them.
    #[param(minimum = 1)]
    limit: Option<i64>,
    /// Where the page begins: taken from the `Link` header of the page before, not made up.
    #[param(pattern = "^[0-9]{1,15}_[0-9]{1,15}$")]
    cursor: Option<String>,
    /// A page as JSON or the whole selection as CSV; without it, what the `Accept` header names.
    #[param(inline)]
    format: Option<Form>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "documentation")]
enum Order {
    Desc,
    Asc,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "documentation")]
enum Form {
    Json,
    Csv,
}

fn kinds() -> RefOr<Schema> {
    field(words(HistoryKind::ALL.map(HistoryKind::as_str)))
}

fn outcomes() -> RefOr<Schema> {
    field(words(OutcomeCode::ALL.map(OutcomeCode::as_str)))
}
