//! The three fields that say when: `type`, `schedule`, `timezone`. Shared by registration and preview.

use super::Defaults;
use super::fields::Fields;
use super::scalar::{Refusal, Scalar, storable, text, whole, word};
use crate::model::timing::{Timing, TimingError, TimingKind};

const KINDS: [&str; 5] = ["cron", "now", "date", "delay", "delay-recur"];
const MAX_SCHEDULE_BYTES: usize = 1024;
const MAX_TIMEZONE_BYTES: usize = 255;
/// Stands in for a refused zone, so that the schedule text is judged all the same.
const ANY_ZONE: &str = "UTC";

pub(super) struct TimingFields {
    pub(super) kind: TimingKind,
    pub(super) schedule: String,
    pub(super) timezone: String,
    pub(super) timing: Timing,
}

/// `None` only when an error is noted.
pub(super) fn read(fields: &mut Fields<'_>, defaults: &Defaults) -> Option<TimingFields> {
    let kind = fields.required("type", word(&KINDS));
    let schedule = match kind {
        Some(TimingKind::Now) => Some(fields.optional("schedule", schedule_text).unwrap_or_default()),
        Some(_) => fields.required("schedule", schedule_text),
        // Whether it may be absent is unknown.
        None => fields.optional("schedule", schedule_text),
    };
    let timezone = fields.optional("timezone", text(MAX_TIMEZONE_BYTES)).filter(|name| !name.is_empty());
    let timezone = timezone.unwrap_or_else(|| defaults.timezone.clone());
    let (kind, schedule) = (kind?, schedule?);
    let timing = timing(fields, kind, &schedule, &timezone)?;
    Some(TimingFields { kind, schedule, timezone, timing })
}

fn timing(fields: &Fields<'_>, kind: TimingKind, schedule: &str, timezone: &str) -> Option<Timing> {
    let error = match Timing::parse(kind, schedule, timezone) {
        Ok(timing) => return Some(timing),
        Err(error) => error,
    };
    let unzoned = matches!(error, TimingError::Timezone(_)).then(|| Timing::parse(kind, schedule, ANY_ZONE).err());
    for error in std::iter::once(error).chain(unzoned.flatten()) {
        let (name, code) = match error {
            TimingError::Timezone(_) => ("timezone", "invalid_timezone"),
            TimingError::Schedule(_) => ("schedule", "invalid_schedule"),
            TimingError::NeverFires => ("schedule", "never_fires"),
        };
        fields.refuse(name, Refusal::new(code, error.to_string()));
    }
    None
}

/// A string, or the number of seconds of a delay as a number.
fn schedule_text(value: Scalar<'_>) -> Result<String, Refusal> {
    match value {
        Scalar::Text(text) => storable(text, MAX_SCHEDULE_BYTES),
        Scalar::Number(written) => match whole(written)? {
            Some(number) => Ok(number.to_string()),
            None => Err(Refusal::range("is too large a number")),
        },
        _ => Err(Refusal::kind("a string")),
    }
}
