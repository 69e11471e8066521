//! The request for a preview: a timing that nobody has registered yet.

use chrono::DateTime;

use super::fields::{Fields, Findings};
use super::scalar::{Refusal, Scalar, integer, whole};
use super::{Defaults, DocumentError, timing};
use crate::model::UnixMs;
use crate::model::timing::Timing;

const DEFAULT_COUNT: usize = 10;
const MAX_COUNT: i64 = 100;
/// The end of the year 9999, the last that RFC 3339 can write.
const LATEST_MS: UnixMs = 253_402_300_799_999;

/// Which instants of which timing are asked for.
#[derive(Clone, Debug)]
pub struct PreviewRequest {
    /// The timing.
    pub timing: Timing,
    /// The instant to look from; absent: now.
    pub from: Option<UnixMs>,
    /// How many instants, 1 to 100.
    pub count: usize,
}

/// Reads a preview request; fields it does not know are passed over.
///
/// # Errors
/// [`DocumentError::Syntax`] for bytes that are not JSON, [`DocumentError::Fields`] with every wrong field.
pub fn parse_preview(body: &[u8], defaults: &Defaults) -> Result<PreviewRequest, DocumentError> {
    let findings = Findings::default();
    let read = Fields::of_document(body, &findings)?.and_then(|fields| request(fields, defaults));
    let (errors, _) = findings.into_parts();
    match read {
        Some(request) if errors.is_empty() => Ok(request),
        _ => Err(DocumentError::Fields(errors)),
    }
}

fn request(mut fields: Fields<'_>, defaults: &Defaults) -> Option<PreviewRequest> {
    let timing = timing::read(&mut fields, defaults);
    let from = fields.optional("from", instant);
    let count = fields.optional("count", integer(1..=MAX_COUNT));
    Some(PreviewRequest { timing: timing?.timing, from, count: count.unwrap_or(DEFAULT_COUNT) })
}

/// An RFC 3339 text or unix milliseconds.
fn instant(value: Scalar<'_>) -> Result<UnixMs, Refusal> {
    let at = match value {
        Scalar::Text(text) => Some(rfc3339(&text)?),
        Scalar::Number(written) => whole(written)?,
        _ => return Err(Refusal::kind("an RFC 3339 text or unix milliseconds")),
    };
    at.filter(|at| (0..=LATEST_MS).contains(at)).ok_or_else(|| Refusal::range("must lie in the years 1970 to 9999"))
}

fn rfc3339(text: &str) -> Result<UnixMs, Refusal> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.timestamp_millis())
        .map_err(|_| Refusal::format("must be an RFC 3339 text with an offset, such as 2026-01-01T09:00:00+09:00"))
}
