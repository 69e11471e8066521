//! The text of a cron expression: fields to bit sets, and bit sets to the `cron` crate's dialect.

use super::CronError;
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

/// The six fields of an expression.
pub(super) struct Fields {
    pub(super) second: Field,
    pub(super) minute: Field,
    pub(super) hour: Field,
    day_of_month: Field,
    month: Field,
    day_of_week: Field,
}

/// One field: which values it admits.
#[derive(Clone, Copy)]
pub(super) struct Field {
    /// Bit n is set when value n matches.
    bits: u64,
    /// Whether its text begins with `*`.
    pub(super) starred: bool,
}

/// Reads an expression.
pub(super) fn fields(text: &str) -> Result<Fields, CronError> {
    if text.len() > MAX_LENGTH {
        return Err(CronError(format!("the expression is longer than {MAX_LENGTH} bytes")));
    }
    let text = expand_nickname(text.trim())?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let (second, words) = match words.len() {
        5 => ("0", words.as_slice()),
        6 => (words[0], &words[1..]),
        count => return Err(CronError(wrong_count(count))),
    };
    Ok(Fields {
        second: SECOND.parse(second)?,
        minute: MINUTE.parse(words[0])?,
        hour: HOUR.parse(words[1])?,
        day_of_month: DAY_OF_MONTH.parse(words[2])?,
        month: MONTH.parse(words[3])?,
        day_of_week: sunday_as_zero(DAY_OF_WEEK.parse(words[4])?),
    })
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
        7 => format!("{expected}; a seventh field (year) is not supported"),
        _ => format!("{expected}; this one has {count} fields"),
    }
}

fn sunday_as_zero(field: Field) -> Field {
    let sunday_as_seven = (field.bits >> 7) & 1;
    Field { bits: (field.bits & 0b111_1111) | sunday_as_seven, ..field }
}

impl Fields {
    /// The expression in the `cron` crate's dialect, as one calendar or as two whose union it is.
    pub(super) fn emitted(&self) -> Vec<String> {
        let every_day_of_month = "*".to_owned();
        let every_day_of_week = "*".to_owned();
        let days_of_month = emit(self.day_of_month.bits, 1..=31, 0);
        let days_of_week = emit(self.day_of_week.bits, 0..=6, 1); // its weekdays are 1 (Sunday) to 7
        let both_must_match = self.day_of_month.starred || self.day_of_week.starred;
        if both_must_match {
            return vec![self.emit_with(&days_of_month, &days_of_week)];
        }
        vec![self.emit_with(&days_of_month, &every_day_of_week), self.emit_with(&every_day_of_month, &days_of_week)]
    }

    fn emit_with(&self, days_of_month: &str, days_of_week: &str) -> String {
        let second = emit(self.second.bits, 0..=59, 0);
        let minute = emit(self.minute.bits, 0..=59, 0);
        let hour = emit(self.hour.bits, 0..=23, 0);
        let month = emit(self.month.bits, 1..=12, 0);
        format!("{second} {minute} {hour} {days_of_month} {month} {days_of_week}")
    }
}

/// Every value of a set as an explicit list, `*` for all of them: forms the crate reads in one way only.
fn emit(bits: u64, values: std::ops::RangeInclusive<u32>, shift: u32) -> String {
    let all = values.clone().count();
    let listed: Vec<String> =
        values.filter(|value| bits & (1 << value) != 0).map(|value| (value + shift).to_string()).collect();
    if listed.len() == all { "*".to_owned() } else { listed.join(",") }
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
        let mut bits = 0;
        for item in text.split(',') {
            if item.is_empty() {
                return Err(self.error(format_args!("an item of {} is empty", quoted(text))));
            }
            bits |= self.parse_item(item)?;
        }
        Ok(Field { bits, starred: text.starts_with('*') })
    }

    /// `*`, `n` or `a-b`, each with an optional `/step`.
    fn parse_item(&self, item: &str) -> Result<u64, CronError> {
        let (values, step) = match item.split_once('/') {
            Some((values, step)) => (values, Some(self.parse_step(step, item)?)),
            None => (item, None),
        };
        let (first, last) = if values == "*" {
            (self.min, self.max)
        } else if let Some((first, last)) = values.split_once('-') {
            (self.parse_value(first, item)?, self.parse_value(last, item)?)
        } else {
            let first = self.parse_value(values, item)?;
            (first, if step.is_some() { self.max } else { first })
        };
        if first > last {
            return Err(self.error(format_args!("{} runs backwards; write two ranges", quoted(item))));
        }
        Ok((first..=last).step_by(step.unwrap_or(1)).fold(0, |bits, value| bits | 1 << value))
    }

    fn parse_step(&self, text: &str, item: &str) -> Result<usize, CronError> {
        match number(text) {
            Some(0) => Err(self.error(format_args!("the step of {} is 0", quoted(item)))),
            Some(step) => Ok(step as usize),
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
        if let Some(sign) = unsupported_sign(text) {
            return Err(self.error(format_args!("`{sign}` in {} is not supported", quoted(item))));
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

/// The sign of a Quartz extension, which Vixie's cron does not have.
fn unsupported_sign(text: &str) -> Option<&'static str> {
    if text.contains('?') {
        return Some("?");
    }
    if text.contains('#') {
        return Some("#");
    }
    let letters = text.trim_matches(|c: char| c.is_ascii_digit());
    ["L", "W", "LW"].into_iter().find(|sign| sign.eq_ignore_ascii_case(letters))
}

fn number(text: &str) -> Option<u32> {
    let plausible = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plausible.then(|| text.parse().ok()).flatten()
}
