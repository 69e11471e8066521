//! The request for a preview of a timing that is not registered.

use chrono::DateTime;

use super::fields::{Fields, Report, text_of, whole_number};
use super::{Defaults, DocumentError, KINDS, read_schedule, read_timezone, read_timing};
use crate::model::UnixMs;
use crate::model::timing::Timing;

const COUNT_DEFAULT: i64 = 10;
const COUNT_MAX: i64 = 100;
/// Latest `from`: the end of year 2200.
const FROM_MAX: UnixMs = 7_289_654_399_000;

/// What a preview is asked for.
#[derive(Clone, Debug)]
pub struct PreviewRequest {
    /// The timing.
    pub timing: Timing,
    /// Instants strictly after this; `None`: after now.
    pub from: Option<UnixMs>,
    /// How many.
    pub count: usize,
}

/// Reads `{"type","schedule","timezone"?,"from"?,"count"?}`; `from` is RFC 3339 or unix milliseconds.
///
/// # Errors
/// [`DocumentError`], with every fault there is.
pub fn parse_preview(body: &[u8], defaults: &Defaults) -> Result<PreviewRequest, DocumentError> {
    let mut report = Report::default();
    match Fields::document(body, &mut report)?.and_then(|fields| read(fields, defaults, &mut report)) {
        Some(request) if report.errors.is_empty() => Ok(request),
        _ => Err(DocumentError::Fields(report.errors)),
    }
}

fn read(mut fields: Fields<'_>, defaults: &Defaults, report: &mut Report) -> Option<PreviewRequest> {
    let kind = fields.required_word("type", &KINDS, report);
    let schedule = read_schedule(&mut fields, kind, report);
    let timezone = read_timezone(&mut fields, defaults, report);
    let from = read_from(&mut fields, report);
    let count = fields.integer("count", 1..=COUNT_MAX, report).unwrap_or(COUNT_DEFAULT);
    let timing = read_timing(kind, schedule.as_deref(), &timezone, report)?;
    Some(PreviewRequest { timing, from, count: usize::try_from(count).ok()? })
}

fn read_from(fields: &mut Fields<'_>, report: &mut Report) -> Option<UnixMs> {
    let raw = fields.get("from")?;
    let from = match text_of(raw) {
        Some(text) => DateTime::parse_from_rfc3339(&text).ok().map(|at| at.timestamp_millis()),
        None => whole_number(raw),
    };
    let in_range = from.filter(|from| (0..=FROM_MAX).contains(from));
    if in_range.is_none() {
        let detail = "must be an instant from 1970 to 2200, in RFC 3339 or in unix milliseconds";
        report.error(fields.pointer("from"), "format", detail);
    }
    in_range
}
