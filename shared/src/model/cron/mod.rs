//! Cron expressions: their text, and the instants they stand for, by the rules of Debian's (Vixie's) cron.
//!
//! [`parse`] reads the text, [`calendar`] and [`days`] know which wall-clock times it means, and [`search`] maps these to
//! instants. Beyond Vixie's there is what many libraries add: `L`, `L-3`, `15W`, `LW`, `5L`, `5#2`, `?` in one of the two day
//! fields, and a range of weekdays that ends on Sunday. What is written elsewhere and not taken is refused with the way out.
//!
//! - A field is *starred* when its text begins with `*`. A starred day field (or `?`): both day fields must match;
//!   else one of the two is enough.
//! - An expression is an *interval* when its second, minute or hour is starred, or has an item that goes through the whole
//!   range in even steps (`0/15`, `0-23`), else *fixed*; one of five fields has second 0.
//! - Fixed, wall time missing: fires once, at the first instant after the gap. Wall time repeated: fires
//!   once, on the first pass.
//! - Interval: fires at every instant whose wall time matches, so nothing in the gap, and on both passes.
//! - A gap of more than three hours (a zone that drops a day) is not made up by either.
//!
//! Invariant: the set of instants depends on expression and zone alone, never on the instant asked from,
//! and the answer is always later than that.

mod calendar;
mod days;
mod elsewhere;
mod parse;
mod search;

pub use search::{Fire, Shift};

use super::zone::Zone;

/// A parsed cron expression.
#[derive(Clone, Debug)]
pub struct CronExpression {
    calendar: calendar::Calendar,
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
        let parse::Expression { calendar, interval } = parse::expression(text)?;
        Ok(Self { calendar, interval })
    }

    /// Whether it follows the clock rather than naming times of day: what daylight saving does to it hangs on that.
    pub fn is_interval(&self) -> bool {
        self.interval
    }

    /// The first instant strictly after `from_s` (unix seconds); `None` when none is left, at the latest
    /// after the year 2100, where the calendar ends.
    pub fn next_after(&self, zone: &Zone, from_s: i64) -> Option<Fire> {
        search::next_after(&self.calendar, self.interval, zone, from_s)
    }
}
