//! Cron expressions: their text, and the instants they stand for, by the rules of Debian's (Vixie's) cron.
//!
//! The `cron` crate serves as a calendar on wall-clock times and nothing more. It never sees the caller's
//! text (its dialect numbers Sunday 1, joins both day fields with AND and lets white space vanish) and
//! never a zoned time (around a clock change it can answer an instant before the one asked about):
//! [`parse`] reads the text and emits explicit number lists, [`search`] maps wall times to instants.
//!
//! - A field is *starred* when its text begins with `*`. A starred day field: both day fields must match;
//!   else one of the two is enough.
//! - An expression is an *interval* when its second, minute or hour is starred, else *fixed*; one of five
//!   fields has second 0.
//! - Fixed, wall time missing: fires once, at the first instant after the gap. Wall time repeated: fires
//!   once, on the first pass.
//! - Interval: fires at every instant whose wall time matches, so nothing in the gap, and on both passes.
//! - A gap of more than three hours (a zone that drops a day) is not made up by either.
//!
//! Invariant: the set of instants depends on expression and zone alone, never on the instant asked from,
//! and the answer is always later than that.

mod parse;
mod search;

pub use search::{Fire, Shift};

use super::zone::Zone;

/// A parsed cron expression.
#[derive(Clone, Debug)]
pub struct CronExpression {
    calendar: search::Calendar,
    /// Whether it follows the clock (second, minute or hour starred) rather than naming times of day.
    interval: bool,
}

/// Why an expression was refused: a sentence that names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(String);

impl CronExpression {
    /// Parses 5 fields (minute first), 6 fields (second first) or a nickname such as `@daily`.
    ///
    /// # Errors
    /// [`CronError`] with what is wrong in which field.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let fields = parse::fields(text)?;
        let interval = fields.second.starred || fields.minute.starred || fields.hour.starred;
        let calendar = search::Calendar::new(&fields.emitted())?;
        Ok(Self { calendar, interval })
    }

    /// The first instant strictly after `from_s` (unix seconds); `None` when none is left, at the latest
    /// after the year 2100, where the calendar ends.
    pub fn next_after(&self, zone: &Zone, from_s: i64) -> Option<Fire> {
        search::next_after(&self.calendar, self.interval, zone, from_s)
    }
}
