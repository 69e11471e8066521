//! The refusals: which status each has, which stable codes, and an example of each.
//!
//! A handler names those that are its own. What every request can meet (the door, the limits, an outage) is added
//! to all operations here, and what a body can be refused for to those that read one.

use serde_json::json;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Content, ContentBuilder, OpenApi, PathItem, Ref, RefOr, Response};
use utoipa::{PartialSchema, ToResponse, ToSchema};

/// Why a request was refused (RFC 9457).
#[derive(ToSchema)]
#[expect(dead_code, reason = "documentation")]
struct Problem {
    /// Names the kind of problem: `urn:reveille:problem:` and the code.
    #[schema(pattern = "^urn:reveille:problem:[a-z_]+$")]
    r#type: String,
    /// HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Stable word for programs.
    #[schema(pattern = "^[a-z_]+$")]
    code: String,
    /// The kind of problem in words.
    title: String,
    /// What exactly is wrong, for people. It may change.
    detail: String,
    /// The fields at fault: all of them. Absent when no field is at fault.
    errors: Option<Vec<FieldProblem>>,
}

/// A field at fault.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documentation")]
struct FieldProblem {
    /// JSON pointer (RFC 6901) into the request's body, or the name of a query parameter.
    #[schema(example = "/task/connection/host")]
    pointer: String,
    /// Stable word for programs.
    #[schema(pattern = "^[a-z_]+$", example = "required")]
    code: String,
    /// What is wrong with it, for people.
    #[schema(example = "is required")]
    detail: String,
}

/// A kind of refusal as it is documented.
struct Refusal {
    name: &'static str,
    status: u16,
    description: &'static str,
    examples: &'static [Example],
}

struct Example {
    code: &'static str,
    title: &'static str,
    detail: &'static str,
    /// Pointer, code and detail of a field at fault.
    field: Option<[&'static str; 3]>,
}

const fn example(code: &'static str, title: &'static str, detail: &'static str) -> Example {
    Example { code, title, detail, field: None }
}

/// Each becomes a type that handlers name in their `responses`, and a response component of that name.
macro_rules! refusals {
    ($($name:ident $status:literal $description:literal [$($example:expr),+ $(,)?])+) => {
        $(
            pub(in crate::http) struct $name;

            impl $name {
                const REFUSAL: Refusal = Refusal {
                    name: stringify!($name),
                    status: $status,
                    description: $description,
                    examples: &[$($example),+],
                };
            }

            impl<'r> ToResponse<'r> for $name {
                fn response() -> (&'r str, RefOr<Response>) {
                    (Self::REFUSAL.name, RefOr::T(Self::REFUSAL.response()))
                }
            }
        )+

        const ALL: &[Refusal] = &[$($name::REFUSAL),+];
    };
}

refusals! {
    BadQuery 400 "The query says something it cannot say; `errors` names the parameter." [
        Example {
            field: Some(["limit", "query", "limit is a number from 1 to 200"]),
            ..example("bad_query", "the query cannot be read", "limit is a number from 1 to 200")
        },
    ]
    UnreadableBody 400 "The body is not JSON in UTF-8, or ended too early." [
        example("malformed_json", "the body is not JSON", "expected value at line 1 column 1"),
        example("incomplete_body", "incomplete body", "the body could not be read to its end"),
    ]
    Unauthorized 401 "There are no credentials, or they are not valid." [
        example("unauthorized", "not authorized", "send a key as `Authorization: Bearer …`"),
    ]
    Forbidden 403 "The key does not reach this far, or the request comes from a page of another site." [
        example("insufficient_scope", "forbidden", "this needs a key with the scope `write`, yours has `read`"),
        Example {
            field: Some(["/client/application", "wrong_application", "your key is limited to the application `chef`"]),
            ..example("wrong_application", "forbidden", "your key is limited to the application `chef`")
        },
        example("cross_site", "cross-site request", "pages of other sites may not call the API"),
    ]
    NoSchedule 404 "There is no schedule with this id. A text that is no id is answered in the same way." [
        example("not_found", "not found", "there is no schedule with this id"),
    ]
    NoRun 404 "There is no run with this id, or it was pruned." [
        example("not_found", "not found", "there is no run with this id"),
    ]
    NoneMatched 404 "No schedule matched." [
        example("not_found", "not found", "no schedule matched"),
    ]
    BodyTimeout 408 "The body did not arrive in time." [
        example("body_timeout", "request timeout", "the body did not arrive within 10 s"),
    ]
    ScheduleConflict 409 "The document cannot be written beside what is there." [
        example(
            "client_key_taken",
            "the client key belongs to another schedule",
            "schedule 01a0d2bd-1c00-7a00-8000-000000000000 has this client key",
        ),
        OCCURRENCE_TAKEN,
    ]
    WrongState 409 "The schedule's state does not allow this." [
        example("wrong_state", "the schedule's state does not allow this", "the schedule is finished"),
        OCCURRENCE_TAKEN,
    ]
    BodyTooLarge 413 "The body is larger than 256 KiB." [
        example("body_too_large", "payload too large", "the body is larger than 262144 bytes"),
    ]
    EncodedBody 415 "The body is compressed: send it as it is." [
        example(
            "unsupported_content_encoding",
            "unsupported content encoding",
            "the body is sent with `Content-Encoding: gzip`: send it as it is",
        ),
    ]
    InvalidDocument 422 "The document is not valid; `errors` names every field that is wrong." [
        Example {
            field: Some(["/task/connection/host", "required", "is required"]),
            ..example("invalid_document", "the document is not valid", "/task/connection/host: is required")
        },
        Example {
            field: Some(["/task/connection/headers/Cookie", "no_secret_key", NO_SECRET_KEY]),
            ..example("no_secret_key", "the document is not valid", NO_SECRET_KEY)
        },
    ]
    InvalidTiming 422 "The timing is not valid; `errors` names every field that is wrong." [
        Example {
            field: Some(["/schedule", "required", "is required"]),
            ..example("invalid_document", "the document is not valid", "/schedule: is required")
        },
    ]
    TooMany 429 "The application asks too often, or has reached its quota." [
        example("rate_limited", "too much", "at most 100 requests a second per application"),
        example("quota_exceeded", "too much", "the application `chef` has reached its quota of 1000 schedules"),
    ]
    Internal 500 "The server is at fault; its log says how." [
        example("internal", "internal error", "the request failed for a reason that is in this server's log"),
    ]
    Unavailable 503 "The server cannot answer now. Whether the request took effect is unknown; repeating it is safe." [
        example(
            "database_unavailable",
            "the database is unavailable",
            "the database did not answer; whether the request took effect is unknown, repeating it is safe",
        ),
        example(
            "schedule_locked",
            "the schedule is held by somebody else",
            "another transaction of the database holds the schedule's row for longer than anybody here does; nothing was \
             changed, try again",
        ),
        example(
            "bus_unavailable",
            "the wake state cannot be read",
            "Redis did not answer; schedules are accepted and known instants fire all the same",
        ),
        example("timeout", "the request took too long", "the request was given up; whether it took effect is unknown"),
    ]
}

const OCCURRENCE_TAKEN: Example = example(
    "occurrence_taken",
    "the schedule changed at the same time",
    "another change of this schedule won the race several times in a row; try again",
);

const NO_SECRET_KEY: &str =
    "this server has no secret key, and stores no secret in the clear; use a reference, secret://name";

/// What every request can meet.
const COMMON: [Refusal; 5] =
    [Unauthorized::REFUSAL, Forbidden::REFUSAL, TooMany::REFUSAL, Internal::REFUSAL, Unavailable::REFUSAL];
/// What a request with a body can meet besides.
const OF_BODIES: [Refusal; 4] =
    [UnreadableBody::REFUSAL, BodyTimeout::REFUSAL, BodyTooLarge::REFUSAL, EncodedBody::REFUSAL];

impl Refusal {
    fn response(&self) -> Response {
        let codes: Vec<&str> = self.examples.iter().map(|example| example.code).collect();
        let narrowed = ObjectBuilder::new()
            .property("status", ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([self.status])))
            .property("code", ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes)));
        let schema = AllOfBuilder::new().item(Ref::from_schema_name("Problem")).item(narrowed);
        let content = self
            .examples
            .iter()
            .fold(Content::builder().schema(Some(schema)), |content, example| self.with_example(content, example));
        let mut response =
            ResponseBuilder::new().description(self.description).content("application/problem+json", content.build());
        if self.status == 401 {
            response = response.header("WWW-Authenticate", header(Type::String, "`Bearer`."));
        }
        if self.status == 415 {
            response = response.header("Accept-Encoding", header(Type::String, "`identity`."));
        }
        if matches!(self.status, 429 | 503) {
            response = response.header("Retry-After", header(Type::Integer, "Seconds to wait before trying again."));
        }
        response.build()
    }

    fn with_example(&self, content: ContentBuilder, example: &Example) -> ContentBuilder {
        let mut value = json!({
            "type": format!("urn:reveille:problem:{}", example.code),
            "status": self.status,
            "code": example.code,
            "title": example.title,
            "detail": example.detail,
        });
        if let Some([pointer, code, detail]) = example.field {
            value["errors"] = json!([{"pointer": pointer, "code": code, "detail": detail}]);
        }
        content.examples_from_iter([(example.code, ExampleBuilder::new().value(Some(value)).build())])
    }
}

fn header(kind: Type, description: &str) -> Header {
    let mut header = Header::new(ObjectBuilder::new().schema_type(kind));
    header.description = Some(description.to_owned());
    header
}

/// Adds the refusals that no handler names, and the components they all refer to.
pub(super) fn add_common(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    components.schemas.extend(schemas);
    components.responses.extend(ALL.iter().map(|refusal| (refusal.name.to_owned(), RefOr::T(refusal.response()))));
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        let of_body = OF_BODIES.iter().filter(|_| operation.request_body.is_some());
        for refusal in COMMON.iter().chain(of_body) {
            let reference = RefOr::Ref(Ref::from_response_name(refusal.name));
            operation.responses.responses.entry(refusal.status.to_string()).or_insert(reference);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}
