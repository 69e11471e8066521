//! Which days an expression names: sets of numbers, and what depends on the month (the last day, the nearest weekday, the
//! second Friday).

use chrono::{Datelike, NaiveDate, Weekday};

/// The two day fields.
#[derive(Clone, Debug)]
pub(super) struct Days {
    pub(super) of_month: DaysOfMonth,
    pub(super) of_week: DaysOfWeek,
}

/// The field day of month.
#[derive(Clone, Debug, Default)]
pub(super) struct DaysOfMonth {
    /// Bit n is set when day n matches.
    pub(super) bits: u64,
    pub(super) special: Vec<SpecialDay>,
    /// Whether its text begins with `*`, or is `?`.
    pub(super) starred: bool,
}

/// A day of the month by another name than its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpecialDay {
    /// So many days before the last: `L`, `L-3`.
    Last(u32),
    /// The weekday (Monday to Friday) nearest to this day, in the same month; none in a month that lacks the day: `15W`.
    WeekdayNearest(u32),
    /// The last weekday: `LW`.
    LastWeekday,
}

/// The field day of week, Sunday as 0.
#[derive(Clone, Debug, Default)]
pub(super) struct DaysOfWeek {
    /// Bit n is set when weekday n matches.
    pub(super) bits: u64,
    /// The nth of a weekday in its month: `5#2`.
    pub(super) nth: Vec<(u32, u32)>,
    /// The last of a weekday in its month: `5L`.
    pub(super) last: Vec<u32>,
    /// Whether its text begins with `*`, or is `?`.
    pub(super) starred: bool,
}

impl Days {
    /// A starred field takes nothing away, so both have to match; where both say something, one of them is enough.
    pub(super) fn match_date(&self, date: NaiveDate) -> bool {
        let (by_month, by_week) = (self.of_month.match_date(date), self.of_week.match_date(date));
        if self.of_month.starred || self.of_week.starred { by_month && by_week } else { by_month || by_week }
    }
}

impl DaysOfMonth {
    fn match_date(&self, date: NaiveDate) -> bool {
        let has = |day: u32| self.bits & (1 << day) != 0;
        has(date.day()) || self.special.iter().any(|special| special.in_month_of(date) == Some(date.day()))
    }
}

impl SpecialDay {
    fn in_month_of(self, date: NaiveDate) -> Option<u32> {
        let length = length_of_month(date);
        match self {
            Self::Last(before) => length.checked_sub(before).filter(|day| *day >= 1),
            Self::WeekdayNearest(day) => Some(match date.with_day(day)?.weekday() {
                Weekday::Sat if day == 1 => 3,
                Weekday::Sat => day - 1,
                Weekday::Sun if day == length => day - 2,
                Weekday::Sun => day + 1,
                _ => day,
            }),
            Self::LastWeekday => Some(match date.with_day(length)?.weekday() {
                Weekday::Sat => length - 1,
                Weekday::Sun => length - 2,
                _ => length,
            }),
        }
    }
}

impl DaysOfWeek {
    fn match_date(&self, date: NaiveDate) -> bool {
        let weekday = date.weekday().num_days_from_sunday();
        self.bits & (1 << weekday) != 0
            || self.nth.contains(&(weekday, (date.day() - 1) / 7 + 1))
            || self.last.contains(&weekday) && date.day() + 7 > length_of_month(date)
    }
}

fn length_of_month(date: NaiveDate) -> u32 {
    u32::from(date.num_days_in_month())
}
