//! Documents: what callers send, read leniently where the contract is lenient and refused by field where
//! it is not. All faults of a document are reported at once, each by its JSON pointer.
//!
//! Pure: decides what a text means, never whether it is registered. Whatever the bytes, it answers.

mod fields;
mod fingerprint;
mod preview;
mod task;

pub use self::fingerprint::fingerprint;
pub use self::preview::{PreviewRequest, parse_preview};
pub use self::task::{SECRET_MASK, is_secret_header};

use self::fields::{Fields, Report, is_number, whole_number};
use super::schedule::{ClientKey, DEFAULT_QUEUE, Definition};
use super::task::TaskKind;
use super::timing::{Timing, TimingError, TimingKind};
use super::zone::Zone;

/// Longest client field in bytes: the five are one key of an index.
const CLIENT_FIELD_MAX: usize = 255;
const NAME_MAX: usize = 1024;
const SCHEDULE_MAX: usize = 1024;
const TIMEZONE_MAX: usize = 64;
const QUEUE_MAX: usize = 64;

/// What a server adds to documents that leave it out.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Zone of a document that names none.
    pub timezone: String,
    /// Kinds of target this deployment can call.
    pub targets: Vec<TaskKind>,
}

/// A document that can be registered.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What it says.
    pub definition: Definition,
    /// When it fires.
    pub timing: Timing,
    /// A sentence for each field that nobody knows and that was left out.
    pub warnings: Vec<String>,
}

/// A field at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// JSON pointer (RFC 6901).
    pub pointer: String,
    /// Stable word for programs.
    pub code: &'static str,
    /// What is wrong, for people.
    pub detail: String,
}

/// Why a document was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is not JSON.
    #[error("malformed JSON: {detail}")]
    Syntax {
        /// Where and why, for people.
        detail: String,
    },
    /// These fields are at fault.
    #[error("invalid fields: {0:?}")]
    Fields(Vec<FieldError>),
}

/// Reads a registration document. `strict`: unknown fields are faults and not warnings.
///
/// # Errors
/// [`DocumentError`], with every fault there is.
pub fn parse(body: &[u8], defaults: &Defaults, strict: bool) -> Result<Parsed, DocumentError> {
    let mut report = Report::default();
    let outcome = Fields::document(body, &mut report)?.and_then(|fields| read(fields, defaults, &mut report));
    if strict {
        report.refuse_unknown();
    }
    match outcome {
        Some((definition, timing)) if report.errors.is_empty() => {
            Ok(Parsed { definition, timing, warnings: report.warnings() })
        }
        _ => Err(DocumentError::Fields(report.errors)),
    }
}

fn read(mut fields: Fields<'_>, defaults: &Defaults, report: &mut Report) -> Option<(Definition, Timing)> {
    fields.ignore(&["id", "state", "revision", "created_at", "updated_at", "warnings"]);
    let name = fields.text("name", NAME_MAX, report).unwrap_or_default();
    let client = read_client(&mut fields, report);
    let kind = fields.required_word("type", &KINDS, report);
    let schedule = read_schedule(&mut fields, kind, report);
    let timezone = read_timezone(&mut fields, defaults, report);
    let priority = fields.integer("priority", -100..=100, report).unwrap_or(0);
    let queue = read_queue(&mut fields, report);
    let task = task::read(&mut fields, defaults, report);
    fields.finish(report);
    let timing = read_timing(kind, schedule.as_deref(), &timezone, report);
    let definition = Definition {
        name,
        client: client?,
        kind: kind?,
        schedule: schedule?,
        timezone,
        priority: i16::try_from(priority).ok()?,
        queue,
        task: task?,
    };
    Some((definition, timing?))
}

const KINDS: [(&str, TimingKind); 5] = [
    ("cron", TimingKind::Cron),
    ("now", TimingKind::Now),
    ("date", TimingKind::Date),
    ("delay", TimingKind::Delay),
    ("delay-recur", TimingKind::DelayRecur),
];

fn read_client(fields: &mut Fields<'_>, report: &mut Report) -> Option<ClientKey> {
    let mut client = fields.required_object("client", report)?;
    let mut field = |name| client.text(name, CLIENT_FIELD_MAX, report).unwrap_or_default();
    let key = ClientKey {
        operation: field("operation"),
        application: field("application"),
        group: field("group"),
        key: field("key"),
        kind: field("type"),
    };
    client.finish(report);
    Some(key)
}

/// A string, or a number as published clients send it. `now` needs none.
fn read_schedule(fields: &mut Fields<'_>, kind: Option<TimingKind>, report: &mut Report) -> Option<String> {
    match fields.get("schedule") {
        None if kind == Some(TimingKind::Now) => Some(String::new()),
        Some(raw) if is_number(raw) => {
            Some(whole_number(raw).map_or_else(|| raw.get().to_owned(), |whole| whole.to_string()))
        }
        _ => fields.required_text("schedule", SCHEDULE_MAX, report),
    }
}

fn read_timezone(fields: &mut Fields<'_>, defaults: &Defaults, report: &mut Report) -> String {
    let timezone = fields.text("timezone", TIMEZONE_MAX, report).filter(|zone| !zone.is_empty());
    timezone.unwrap_or_else(|| defaults.timezone.clone())
}

fn read_queue(fields: &mut Fields<'_>, report: &mut Report) -> String {
    let Some(queue) = fields.text("queue", QUEUE_MAX, report) else { return DEFAULT_QUEUE.to_owned() };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if queue.is_empty() || !queue.bytes().all(is_name) {
        report.error(fields.pointer("queue"), "format", "a queue is named by letters, digits, `_`, `.` and `-`");
    }
    queue
}

/// The timing, `None` where a part is missing or at fault. The zone and the schedule may both be.
fn read_timing(
    kind: Option<TimingKind>,
    schedule: Option<&str>,
    timezone: &str,
    report: &mut Report,
) -> Option<Timing> {
    let zone = Zone::parse(timezone).map_err(|error| timing_error(error, report));
    let timezone = if zone.is_ok() { timezone } else { "UTC" };
    let timing = Timing::parse(kind?, schedule?, timezone).map_err(|error| timing_error(error, report));
    timing.ok().filter(|_| zone.is_ok())
}

fn timing_error(error: TimingError, report: &mut Report) {
    let (pointer, code) = match error {
        TimingError::Schedule(_) => ("/schedule", "invalid_schedule"),
        TimingError::Timezone(_) => ("/timezone", "invalid_timezone"),
        TimingError::NeverFires => ("/schedule", "never_fires"),
    };
    report.error(pointer, code, error.to_string());
}
