//! What the API documentation says of the shapes on the wire. No value of these types ever exists: requests are
//! read by `reveille_shared::model::document` and answers are written by `view`, and a test holds every answer of
//! every test of this crate against what is said here.
//!
//! Invariant: a schema is never narrower than what is accepted. What it cannot express (a length in bytes, a time
//! zone that exists, fields that exclude each other) stands in the description, and is a 422.

mod answers;
mod document;
mod history;
mod problems;
mod query;
mod timezones;
mod workers;

pub(super) use self::answers::{
    DeletedAnswer, PreviewAnswer, RegisteredAnswer, RunAnswer, RunWithAttempts, ScheduleAnswer, StateAnswer,
    TriggeredAnswer, WakeAnswer,
};
pub(super) use self::document::{PreviewDocument, RegistrationDocument};
pub(super) use self::history::{HistoryEntry, HistoryFilter, HistoryForm, HistoryOf};
pub(super) use self::problems::{
    BadQuery, InvalidDocument, InvalidTiming, NoRun, NoSchedule, NoneMatched, ScheduleConflict, WrongState,
};
pub(super) use self::query::{ClientFilter, ListParameters, Preferences, RunsPage};
pub(super) use self::timezones::TimezonesAnswer;
pub(super) use self::workers::WorkerAnswer;

use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr, Schema};
use utoipa::{Modify, OpenApi as _};

/// Text that every store can keep: PostgreSQL has no place for a NUL. `[^\0]*` in the dialect of JSON Schema.
const STORABLE: &str = r"^[^\u0000]*$";

/// The document without its paths: these come with the routes.
pub(super) fn base() -> OpenApi {
    Base::openapi()
}

/// What holds for every operation, added once the routes are known.
pub(super) fn complete(document: &mut OpenApi) {
    problems::add_common(document);
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Reveille",
        description = include_str!("description.md"),
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    security(("token" = [])),
    tags(
        (name = "schedules", description = "Register, show, change and cancel schedules."),
        (name = "runs", description = "What became of each occurrence of a schedule."),
        (name = "history", description = "What happened to schedules whose task has `history_check`."),
        (name = "service", description = "What the service itself is about to do."),
    ),
    modifiers(&Token),
)]
struct Base;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut OpenApi) {
        let description =
            "A key (`reveille key create`), or the operator's token. A server with neither asks nobody for one.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// A string that is one of the words.
fn words(words: impl IntoIterator<Item = &'static str>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words))
}

/// A value of one of these types.
fn any_of(types: impl IntoIterator<Item = Type>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types))
}

/// A schema that may stand in a field.
fn field(object: ObjectBuilder) -> RefOr<Schema> {
    let object: Object = object.build();
    RefOr::T(Schema::Object(object))
}
