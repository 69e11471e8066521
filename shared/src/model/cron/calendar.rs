//! The wall-clock times of an expression, which never hear of zones: days by [`super::days`], times of day by sets.

use chrono::{Datelike, Days as Span, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

use super::days::Days;

/// The calendar ends with this year: a search that finds nothing ends there.
const LAST_YEAR: i32 = 2100;

/// What the six fields admit. Bit n of a set stands for the value n.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    pub(super) second: u64,
    pub(super) minute: u64,
    pub(super) hour: u64,
    pub(super) month: u64,
    pub(super) days: Days,
}

impl Calendar {
    /// The first wall time strictly after `wall`; `None` when none is left until the end of the year 2100.
    pub(super) fn next(&self, wall: NaiveDateTime) -> Option<NaiveDateTime> {
        let (mut date, mut from) = match wall.num_seconds_from_midnight() {
            86_399.. => (wall.date().succ_opt()?, 0),
            second => (wall.date(), second + 1),
        };
        while date.year() <= LAST_YEAR {
            if !has(self.month, date.month()) {
                date = first_of_next_month(date)?;
                from = 0;
                continue;
            }
            if self.days.match_date(date)
                && let Some(time) = self.time_at_or_after(from)
            {
                return Some(date.and_time(time));
            }
            date = date.checked_add_days(Span::new(1))?;
            from = 0;
        }
        None
    }

    /// The first time of day that is not before `from`, in seconds since midnight.
    fn time_at_or_after(&self, from: u32) -> Option<NaiveTime> {
        let (from_hour, from_minute, from_second) = (from / 3600, from / 60 % 60, from % 60);
        for hour in values(self.hour, from_hour) {
            let from_minute = if hour == from_hour { from_minute } else { 0 };
            for minute in values(self.minute, from_minute) {
                let from_second = if (hour, minute) == (from_hour, from / 60 % 60) { from_second } else { 0 };
                if let Some(second) = values(self.second, from_second).next() {
                    return NaiveTime::from_hms_opt(hour, minute, second);
                }
            }
        }
        None
    }
}

fn has(bits: u64, value: u32) -> bool {
    bits & (1 << value) != 0
}

/// The values of a set from this one on, in order.
fn values(bits: u64, from: u32) -> impl Iterator<Item = u32> {
    let mut rest = bits.checked_shr(from).and_then(|rest| rest.checked_shl(from)).unwrap_or(0);
    std::iter::from_fn(move || {
        let value = (rest != 0).then(|| rest.trailing_zeros())?;
        rest &= rest - 1;
        Some(value)
    })
}

fn first_of_next_month(date: NaiveDate) -> Option<NaiveDate> {
    date.with_day(1)?.checked_add_months(chrono::Months::new(1))
}
