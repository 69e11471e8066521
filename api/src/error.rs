//! Refusals: every one is `application/problem+json` (RFC 9457) with a stable `code` and, where a field
//! is at fault, its JSON pointer.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reveille_shared::bus::BusError;
use reveille_shared::model::document::{DocumentError, FieldError};
use reveille_shared::model::schedule::ScheduleState;
use reveille_shared::store::StoreError;
use serde::Serialize;

/// Seconds after which a caller may try again when the database is away.
const RETRY_AFTER_S: &str = "5";

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Stable word for programs.
    pub code: &'static str,
    /// The same for people, without details.
    pub title: &'static str,
    /// What exactly is wrong, for people.
    pub detail: String,
    /// The fields at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
}

/// A field at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldProblem {
    /// JSON pointer (RFC 6901) into the request's body, or the name of a query parameter.
    pub pointer: String,
    /// Stable word for programs.
    pub code: &'static str,
    /// What is wrong with it.
    pub detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status: status.as_u16(), code, title, detail: detail.into(), errors: Vec::new() }
    }

    /// Whoever asks is not known.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "not authorized", detail)
    }

    /// Whoever asks may not.
    pub(crate) fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, "forbidden", detail)
    }

    /// Whoever asks has had enough for now.
    pub(crate) fn too_many(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, "too much", detail)
    }

    /// The same, naming the field at fault.
    pub(crate) fn at(mut self, pointer: &str) -> Self {
        let detail = self.detail.clone();
        self.errors.push(FieldProblem { pointer: pointer.to_owned(), code: self.code, detail });
        self
    }

    /// There is nothing at that address.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "not found", detail)
    }

    /// The request's query says something it cannot say.
    pub(crate) fn bad_query(parameter: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let field = FieldProblem { pointer: parameter.to_owned(), code: "query", detail: detail.clone() };
        let problem = Self::new(StatusCode::BAD_REQUEST, "bad_query", "the query cannot be read", detail);
        Self { errors: vec![field], ..problem }
    }

    /// The document's fields are at fault.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = errors.first().map(|error| format!("{}: {}", error.pointer, error.detail)).unwrap_or_default();
        let errors = errors
            .into_iter()
            .map(|error| FieldProblem { pointer: error.pointer, code: error.code, detail: error.detail })
            .collect();
        let title = "the document is not valid";
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_document", title, detail) }
    }

    /// One field is at fault.
    pub(crate) fn invalid_field(pointer: &str, code: &'static str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError { pointer: pointer.to_owned(), code, detail: detail.into() }])
    }
}

impl From<DocumentError> for Problem {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Syntax { detail } => {
                Self::new(StatusCode::BAD_REQUEST, "malformed_json", "the body is not JSON", detail)
            }
            DocumentError::Fields(errors) => Self::invalid(errors),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::from(&error)
    }
}

/// One failure may be answered to several.
impl From<&StoreError> for Problem {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::not_found("there is no schedule with this id"),
            StoreError::ClientKeyTaken(holder) => Self::new(
                StatusCode::CONFLICT,
                "client_key_taken",
                "the client key belongs to another schedule",
                format!("schedule {holder} has this client key"),
            ),
            StoreError::WrongState(state) => wrong_state(*state),
            StoreError::OccurrenceTaken { .. } | StoreError::RevisionMoved => Self::new(
                StatusCode::CONFLICT,
                "occurrence_taken",
                "the schedule changed at the same time",
                "another change of this schedule won the race several times in a row; try again",
            ),
            StoreError::Unavailable(_) if error.is_of_a_lock() => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "schedule_locked",
                "the schedule is held by somebody else",
                "another transaction of the database holds the schedule's row for longer than anybody here does; nothing was \
                 changed, try again",
            ),
            StoreError::Unavailable(error) => {
                tracing::warn!(error = %error, "database unavailable, request refused");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "database_unavailable",
                    "the database is unavailable",
                    "the database did not answer; whether the request took effect is unknown, repeating it is safe",
                )
            }
            StoreError::Broken(_) | StoreError::SchemaBehind | StoreError::Migration(_) => {
                tracing::error!(error = %error, "database error, request failed");
                internal()
            }
        }
    }
}

impl From<BusError> for Problem {
    fn from(_: BusError) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "bus_unavailable",
            "the wake state cannot be read",
            "Redis did not answer; schedules are accepted and known instants fire all the same",
        )
    }
}

fn wrong_state(state: ScheduleState) -> Problem {
    let word = match state {
        ScheduleState::Active => "active",
        ScheduleState::Paused => "paused",
        ScheduleState::Finished => "finished",
        ScheduleState::Deleted => "deleted",
    };
    let detail = format!("the schedule is {word}");
    Problem::new(StatusCode::CONFLICT, "wrong_state", "the schedule's state does not allow this", detail)
}

/// Our fault; details are in the log, not in the answer.
pub(crate) fn internal() -> Problem {
    let detail = "the request failed for a reason that is in this server's log";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error", detail)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        problem_response(&self)
    }
}

/// A problem with the URN that names its kind: the code, globally unique.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(flatten)]
    problem: &'a Problem,
}

/// A problem as an answer.
pub fn problem_response(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = Body { kind: format!("urn:reveille:problem:{}", problem.code), problem };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            _ = headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S))
        }
        StatusCode::TOO_MANY_REQUESTS => _ = headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
        // RFC 6750, section 3.
        StatusCode::UNAUTHORIZED => _ = headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        // RFC 9110, section 12.5.3.
        StatusCode::UNSUPPORTED_MEDIA_TYPE if problem.code == "unsupported_content_encoding" => {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        StatusCode::FORBIDDEN if problem.code == "insufficient_scope" => {
            let value = HeaderValue::from_static("Bearer error=\"insufficient_scope\"");
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        _ => {}
    }
    response
}
