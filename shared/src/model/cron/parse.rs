//! The text of a cron expression: fields to sets of values, and what else a day may be called.

use super::calendar::Calendar;
use super::days::{Days, DaysOfMonth, DaysOfWeek, SpecialDay};
use super::{CronError, elsewhere};
use crate::model::text::quoted;

/// Longest expression read, in bytes; every field written out in full stays far below.
const MAX_LENGTH: usize = 1024;

const NICKNAMES: [(&str, &str); 11] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
    // The reference service's cron library knows these four as well.
    ("@minutely", "* * * * *"),
    ("@secondly", "* * * * * *"),
    ("@weekdays", "0 0 * * 1-5"),
    ("@weekends", "0 0 * * 0,6"),
];

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const SECOND: Spec = Spec { name: "second", min: 0, max: 59, names: &[] };
const MINUTE: Spec = Spec { name: "minute", min: 0, max: 59, names: &[] };
const HOUR: Spec = Spec { name: "hour", min: 0, max: 23, names: &[] };
const DAY_OF_MONTH: Spec = Spec { name: "day of month", min: 1, max: 31, names: &[] };
const MONTH: Spec = Spec { name: "month", min: 1, max: 12, names: &MONTHS };
/// Sunday is 0 and 7.
const DAY_OF_WEEK: Spec = Spec { name: "day of week", min: 0, max: 7, names: &WEEKDAYS };

/// What an expression says.
pub(super) struct Expression {
    pub(super) calendar: Calendar,
    /// Whether it follows the clock rather than naming times of day.
    pub(super) interval: bool,
}

/// A field of numbers.
#[derive(Clone, Copy)]
struct Field {
    /// Bit n is set when value n matches.
    bits: u64,
    /// Whether its text begins with `*`.
    starred: bool,
    /// Whether it goes through its whole range in even steps.
    interval: bool,
}

/// Reads an expression.
pub(super) fn expression(text: &str) -> Result<Expression, CronError> {
    if text.len() > MAX_LENGTH {
        return Err(CronError(format!("the expression is longer than {MAX_LENGTH} bytes")));
    }
    let text = text.trim();
    elsewhere::refuse(text)?;
    let text = expand_nickname(text)?;
    let written: Vec<&str> = text.split_whitespace().collect();
    let (second, words) = match *written.as_slice() {
        [minute, hour, day, month, weekday] => ("0", [minute, hour, day, month, weekday]),
        [.., last] if written.len() == 6 && number(last).is_some_and(|number| number >= 1970) => {
            return Err(CronError(elsewhere::year(last)));
        }
        [second, minute, hour, day, month, weekday] => (second, [minute, hour, day, month, weekday]),
        _ => return Err(CronError(wrong_count(written.len()))),
    };
    let (second, minute, hour) = (SECOND.parse(second)?, MINUTE.parse(words[0])?, HOUR.parse(words[1])?);
    let days = Days { of_month: days_of_month(words[2])?, of_week: days_of_week(words[4])? };
    if words[2] == "?" && words[4] == "?" {
        return Err(CronError(
            "day of week: `?` stands in one of the two day fields, and the other says which days".to_owned(),
        ));
    }
    let month = MONTH.parse(words[3])?.bits;
    let interval = second.interval || minute.interval || hour.interval;
    let calendar = Calendar { second: second.bits, minute: minute.bits, hour: hour.bits, month, days };
    Ok(Expression { calendar, interval })
}

fn expand_nickname(text: &str) -> Result<&str, CronError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let known = NICKNAMES.iter().find(|(nickname, _)| nickname.eq_ignore_ascii_case(text));
    known.map(|(_, expression)| *expression).ok_or_else(|| {
        let nicknames: Vec<&str> = NICKNAMES.iter().map(|(nickname, _)| *nickname).collect();
        CronError(format!("{} is not a nickname; known are {}", quoted(text), nicknames.join(" ")))
    })
}

fn wrong_count(count: usize) -> String {
    let expected = "a cron expression has 5 fields (minute hour day month weekday), or 6 with seconds first";
    match count {
        0 => format!("the expression is empty: {expected}"),
        1 => format!("{expected}; this one has 1 field"),
        7 => format!("{expected}; a seventh field (year) is not supported: `date` fires in one year"),
        _ => format!("{expected}; this one has {count} fields"),
    }
}

fn days_of_month(text: &str) -> Result<DaysOfMonth, CronError> {
    let mut days = DaysOfMonth { starred: text == "?", ..DaysOfMonth::default() };
    let (named, numbers): (Vec<&str>, Vec<&str>) = text.split(',').partition(|item| SpecialDay::read(item).is_some());
    days.special.extend(named.into_iter().filter_map(SpecialDay::read));
    if days.starred {
        days.bits = ANY;
    } else if !numbers.is_empty() {
        let field = DAY_OF_MONTH.parse_items(text, &numbers)?;
        (days.bits, days.starred) = (field.bits, field.starred);
    }
    Ok(days)
}

fn days_of_week(text: &str) -> Result<DaysOfWeek, CronError> {
    let mut days = DaysOfWeek { starred: text == "?", ..DaysOfWeek::default() };
    if days.starred {
        days.bits = ANY;
        return Ok(days);
    }
    let mut numbers = Vec::new();
    for item in text.split(',') {
        if let Some((weekday, place)) = item.split_once('#') {
            let weekday = DAY_OF_WEEK.parse_value(weekday, item)? % 7;
            let place = number(place).filter(|place| (1..=5).contains(place)).ok_or_else(|| {
                DAY_OF_WEEK.error(format_args!("{} is the first to fifth of a weekday, such as FRI#2", quoted(item)))
            })?;
            days.nth.push((weekday, place));
        } else if let Some(weekday) = item.strip_suffix(['L', 'l']) {
            if weekday.is_empty() {
                let way_out =
                    "`L` alone is Saturday to some and nothing to most: write SAT, or SATL for the last one of a month";
                return Err(DAY_OF_WEEK.error(format_args!("{way_out}")));
            }
            days.last.push(DAY_OF_WEEK.parse_value(weekday, item)? % 7);
        } else {
            numbers.push(item);
        }
    }
    if !numbers.is_empty() {
        let field = DAY_OF_WEEK.parse_items(text, &numbers)?;
        // Sunday is 0 and 7.
        (days.bits, days.starred) = ((field.bits & 0b111_1111) | field.bits >> 7, field.starred);
    }
    Ok(days)
}

/// Every value there is.
const ANY: u64 = u64::MAX;

impl SpecialDay {
    /// `L`, `L-3`, `15W`, `LW`; `None` for anything else.
    fn read(item: &str) -> Option<Self> {
        let item = item.to_ascii_uppercase();
        let day = |text: &str| number(text).filter(|day| (1..=31).contains(day));
        match item.as_str() {
            "L" => Some(Self::Last(0)),
            "LW" | "WL" => Some(Self::LastWeekday),
            _ => {
                let before = item.strip_prefix("L-").and_then(day).filter(|before| *before <= 30).map(Self::Last);
                before.or_else(|| item.strip_suffix('W').and_then(day).map(Self::WeekdayNearest))
            }
        }
    }
}

/// What one field may hold.
struct Spec {
    name: &'static str,
    min: u32,
    max: u32,
    /// Names of the values from `min` on.
    names: &'static [&'static str],
}

impl Spec {
    fn parse(&self, text: &str) -> Result<Field, CronError> {
        self.parse_items(text, &text.split(',').collect::<Vec<_>>())
    }

    /// Reads some of the items of `text`.
    fn parse_items(&self, text: &str, items: &[&str]) -> Result<Field, CronError> {
        let mut field = Field { bits: 0, starred: text.starts_with('*'), interval: text.starts_with('*') };
        for item in items {
            if item.is_empty() {
                return Err(self.error(format_args!("an item of {} is empty", quoted(text))));
            }
            let (bits, is_even) = self.parse_item(item)?;
            field.bits |= bits;
            field.interval |= is_even;
        }
        Ok(field)
    }

    /// `*`, `n` or `a-b`, each with an optional `/step`; whether it goes through the whole range in even steps.
    fn parse_item(&self, item: &str) -> Result<(u64, bool), CronError> {
        let (values, step) = match item.split_once('/') {
            Some((values, step)) => (values, Some(self.parse_step(step, item)?)),
            None => (item, None),
        };
        let is_one = values != "*" && !values.contains('-') && step.is_none();
        let (first, last) = if values == "*" {
            (self.min, self.max)
        } else if let Some((first, last)) = values.split_once('-') {
            self.parse_range(first, last, item)?
        } else {
            let first = self.parse_value(values, item)?;
            (first, if step.is_some() { self.max } else { first })
        };
        let step = step.unwrap_or(1);
        let bits = (first..=last).step_by(step as usize).fold(0, |bits, value| bits | 1 << value);
        let is_even = !is_one && first - self.min < step && last + step > self.max;
        Ok((bits, is_even))
    }

    fn parse_range(&self, first: &str, last: &str, item: &str) -> Result<(u32, u32), CronError> {
        let (from, until) = (self.parse_value(first, item)?, self.parse_value(last, item)?);
        // A week may end on Sunday, whatever its number.
        let ends_on_sunday = self.name == DAY_OF_WEEK.name && until == 0 && from > 0;
        let until = if ends_on_sunday { self.max } else { until };
        if from > until {
            let (highest, lowest) = self.ends();
            let begin = if first == highest { first.to_owned() } else { format!("{first}-{highest}") };
            let end = if last == lowest { last.to_owned() } else { format!("{lowest}-{last}") };
            return Err(self.error(format_args!("{} runs backwards; write `{begin},{end}`", quoted(item))));
        }
        Ok((from, until))
    }

    /// The highest and the lowest value, as they are written.
    fn ends(&self) -> (String, String) {
        match (self.name == DAY_OF_WEEK.name, self.names) {
            // A week from Monday to Sunday: where a range of it breaks.
            (true, _) => ("SUN".to_owned(), "MON".to_owned()),
            (false, [first, .., last]) => ((*last).to_owned(), (*first).to_owned()),
            _ => (self.max.to_string(), self.min.to_string()),
        }
    }

    fn parse_step(&self, text: &str, item: &str) -> Result<u32, CronError> {
        match number(text) {
            Some(0) => Err(self.error(format_args!("the step of {} is 0", quoted(item)))),
            Some(step) => Ok(step),
            None => Err(self.error(format_args!("the step of {} is not a number", quoted(item)))),
        }
    }

    fn parse_value(&self, text: &str, item: &str) -> Result<u32, CronError> {
        if let Some(value) = number(text) {
            if (self.min..=self.max).contains(&value) {
                return Ok(value);
            }
            return Err(self.error(format_args!("{value} is out of range {}-{}", self.min, self.max)));
        }
        let named = (self.min..).zip(self.names).find(|(_, name)| name.eq_ignore_ascii_case(text));
        if let Some((value, _)) = named {
            return Ok(value);
        }
        if let Some(way_out) = elsewhere::sign(item) {
            return Err(self.error(format_args!("{way_out}")));
        }
        let expected = match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!("a number {}-{} or a name {first}-{last}", self.min, self.max),
            _ => format!("a number {}-{}", self.min, self.max),
        };
        Err(self.error(format_args!("{} is not {expected}", quoted(if text.is_empty() { item } else { text }))))
    }

    fn error(&self, message: std::fmt::Arguments<'_>) -> CronError {
        CronError(format!("{}: {message}", self.name))
    }
}

fn number(text: &str) -> Option<u32> {
    let plausible = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plausible.then(|| text.parse().ok()).flatten()
}
