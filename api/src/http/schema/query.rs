//! Parameters: filters, pages and preferences.

use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// The filters by the client key.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct ClientFilter {
    /// Only schedules of this application. An empty filter is no filter, as with all of them.
    #[param(pattern = "^[^\\u0000]*$", example = "chef")]
    application: Option<String>,
    /// Only schedules of this group.
    #[param(pattern = "^[^\\u0000]*$", example = "office")]
    group: Option<String>,
    /// Only schedules of this client type.
    #[param(pattern = "^[^\\u0000]*$", example = "service")]
    r#type: Option<String>,
    /// Only schedules with this key.
    #[param(pattern = "^[^\\u0000]*$", example = "nightly")]
    key: Option<String>,
    /// Only schedules of this operation.
    #[param(pattern = "^[^\\u0000]*$", example = "report")]
    operation: Option<String>,
}

/// What a list of schedules is asked for beside its filters.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct ListParameters {
    /// Only schedules in this state: what the schedule is (`active`, `paused`, `finished`), where its task stands
    /// (`idle`, `processing`, `failed`, `done`, `invalidity`), or `all`. Without it, all but the finished ones.
    #[param(inline)]
    state: Option<State>,
    /// Schedules per page. Without `limit` and `cursor` the answer is complete.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u8>,
    /// Where the page begins: taken from the `Link` header of the page before, not made up.
    cursor: Option<Uuid>,
}

/// A page of runs.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct RunsPage {
    /// Runs per page; 50 without it.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u8>,
    /// Where the page begins: taken from the `Link` header of the page before, not made up.
    #[param(pattern = "^[0-9]{1,15}_[0-9]{1,15}$")]
    cursor: Option<String>,
}

/// What a registration may prefer.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct Preferences {
    /// `handling=strict` (RFC 7240) refuses a document with unknown fields instead of leaving them out.
    #[param(required = false, rename = "Prefer", example = "handling=strict")]
    prefer: String,
}

/// What `state` may ask for.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "documentation")]
enum State {
    Active,
    Paused,
    Finished,
    All,
    Idle,
    Processing,
    Failed,
    Done,
    Invalidity,
}
