//! The registration document: from the bytes of a request to a validated [`Definition`] and back to an
//! identity ([`fingerprint()`]).
//!
//! It owns what the wire accepts: leniencies, limits, and how a refusal names its field. It never asks
//! the clock (whether a timing still fires is [`Timing::arming`]), never opens a connection and never
//! reads a sealed secret.
//!
//! Invariants: a refusal names every field that is wrong, not the first one; a member written twice
//! counts with its last value, everywhere; no input makes it panic.

mod connection;
mod fields;
mod fingerprint;
mod headers;
mod preview;
mod scalar;
mod task;
mod timing;

use std::collections::BTreeMap;

use super::schedule::{ClientKey, DEFAULT_QUEUE, Definition};
use super::task::TaskKind;
use super::timing::Timing;
use fields::{Fields, Findings};
use scalar::{Refusal, Scalar, integer, text};

pub use fingerprint::fingerprint;
pub use preview::{PreviewRequest, parse_preview};

const MAX_NAME_BYTES: usize = 1024;
const MAX_CLIENT_FIELD_BYTES: usize = 255;
const MAX_QUEUE_BYTES: usize = 64;
/// What the server writes into the documents it returns; accepted back and left out.
const SERVER_MANAGED: [&str; 6] = ["id", "state", "revision", "created_at", "updated_at", "warnings"];

/// What the server adds to a document, and what it can do with it.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Zone of a document that names none.
    pub timezone: String,
    /// Kinds of target this server can dispatch.
    pub targets: Vec<TaskKind>,
    /// The connections of its configuration that a document may name.
    pub connections: BTreeMap<String, TaskKind>,
}

/// An accepted document.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The document in its validated form.
    pub definition: Definition,
    /// Its timing.
    pub timing: Timing,
    /// One sentence per thing that was left out.
    pub warnings: Vec<String>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) to the field; empty for the document itself.
    pub pointer: String,
    /// Stable code for programs.
    pub code: &'static str,
    /// Sentence for people.
    pub detail: String,
}

/// Why a document was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON in UTF-8.
    #[error("the document is not JSON: {detail}")]
    Syntax {
        /// Where the text stops being JSON.
        detail: String,
    },
    /// JSON, with fields that are missing or wrong: all of them, never empty.
    #[error("{} field(s) of the document are missing or wrong", .0.len())]
    Fields(Vec<FieldError>),
}

/// Reads a registration document. A field nobody knows is named in the warnings and left out; with
/// `strict` it is an error.
///
/// # Errors
/// [`DocumentError::Syntax`] for bytes that are not JSON, [`DocumentError::Fields`] with every wrong field.
pub fn parse(body: &[u8], defaults: &Defaults, strict: bool) -> Result<Parsed, DocumentError> {
    let findings = Findings::default();
    let read = Fields::of_document(body, &findings)?.and_then(|document| registration(document, defaults));
    let (mut errors, unknown) = findings.into_parts();
    if strict {
        errors.extend(unknown.into_iter().map(fields::UnknownField::into_error));
        return accepted(read, errors, Vec::new());
    }
    accepted(read, errors, unknown.into_iter().map(fields::UnknownField::into_warning).collect())
}

fn accepted(
    read: Option<(Definition, Timing)>,
    errors: Vec<FieldError>,
    warnings: Vec<String>,
) -> Result<Parsed, DocumentError> {
    match read {
        Some((definition, timing)) if errors.is_empty() => Ok(Parsed { definition, timing, warnings }),
        _ => Err(DocumentError::Fields(errors)),
    }
}

/// `None` only when an error is noted; every field is read before that is decided.
fn registration(mut document: Fields<'_>, defaults: &Defaults) -> Option<(Definition, Timing)> {
    let name = document.optional("name", text(MAX_NAME_BYTES));
    let client = document.required_object("client").map(client);
    let timing = timing::read(&mut document, defaults);
    let priority = document.optional("priority", integer(-100..=100));
    let queue = document.optional("queue", queue_name);
    let task = document.required_object("task").map(|task| task::read(task, defaults));
    document.finish(&SERVER_MANAGED);

    let timing = timing?;
    let definition = Definition {
        traceparent: None,
        name: name.unwrap_or_default(),
        client: client?,
        kind: timing.kind,
        schedule: timing.schedule,
        timezone: timing.timezone,
        priority: priority.unwrap_or_default(),
        queue: queue.unwrap_or_else(|| DEFAULT_QUEUE.to_owned()),
        task: task??,
    };
    Some((definition, timing.timing))
}

fn client(mut client: Fields<'_>) -> ClientKey {
    let mut field = |name| client.optional(name, text(MAX_CLIENT_FIELD_BYTES)).unwrap_or_default();
    let key = ClientKey {
        operation: field("operation"),
        application: field("application"),
        group: field("group"),
        key: field("key"),
        kind: field("type"),
    };
    // An identity that lost a misspelt field is that of another schedule, which would be replaced.
    client.finish_closed("operation, application, group, key and type");
    key
}

fn queue_name(value: Scalar<'_>) -> Result<String, Refusal> {
    let name = text(MAX_QUEUE_BYTES)(value)?;
    let permitted = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if name.is_empty() || !name.bytes().all(permitted) {
        return Err(Refusal::format("must be 1 to 64 letters, digits, `_`, `.` or `-`"));
    }
    Ok(name)
}
