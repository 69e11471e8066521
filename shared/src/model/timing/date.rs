//! The `date` timing: a local date and time, or one with its offset, to an instant.

use chrono::{FixedOffset, NaiveDate, NaiveDateTime};

use super::UnixMs;
use crate::model::text::quoted;
use crate::model::zone::{WallTime, Zone};

/// Dates end here however late they are registered; within it, 100 years from now.
const LAST_AT: UnixMs = 7_258_118_400_000; // 2200-01-01T00:00:00Z

const FORM: &str =
    "a date of the form YYYY-MM-DDThh:mm:ss, with an optional fraction and offset, or without seconds or time";

/// A date and what the zone's clocks did to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) at: UnixMs,
    pub(super) shift: Option<DateShift>,
}

/// What a clock change did to a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DateShift {
    /// The wall time is missing; it was moved on by the length of the gap.
    Forward(NaiveDateTime),
    /// The wall time happens twice; the first was taken.
    First(NaiveDateTime),
}

/// Reads `YYYY-MM-DDThh:mm:ss[.fff][offset]`, `YYYY-MM-DDThh:mm[offset]` and `YYYY-MM-DD`, which is midnight (ISO 8601,
/// reduced precision). A fraction finer than a millisecond is rounded up, so that nothing fires early.
pub(super) fn parse(text: &str, zone: &Zone) -> Result<Date, String> {
    let text = text.trim();
    let form = || format!("{} is not {FORM}", quoted(text));
    let (wall_text, rest) = whole(text).ok_or_else(form)?;
    let (fraction_ms, offset_text) = split_fraction(rest).ok_or_else(form)?;
    let wall_numbers = wall_numbers(&wall_text).ok_or_else(form)?;
    let wall = wall_time(wall_numbers).ok_or_else(|| format!("{} does not exist in the calendar", quoted(text)))?;

    let (instant_s, shift) = if offset_text.is_empty() {
        local_instant(wall, zone)
    } else {
        let offset = offset(offset_text).ok_or_else(form)?;
        wall.checked_sub_offset(offset).map(|utc| (utc.and_utc().timestamp(), None))
    }
    .ok_or_else(form)?;
    let at = instant_s * 1000 + fraction_ms;
    if !(0..LAST_AT).contains(&at) {
        return Err(format!("{} is out of range 1970 to 2199", quoted(text)));
    }
    Ok(Date { at, shift })
}

/// The date and time with what was left out as zeros, and what follows them.
fn whole(text: &str) -> Option<(String, &str)> {
    if text.len() == 10 {
        return Some((format!("{text}T00:00:00"), ""));
    }
    let (to_the_minute, rest) = text.split_at_checked(16)?;
    match rest.strip_prefix(':') {
        Some(_) => text.split_at_checked(19).map(|(wall, rest)| (wall.to_owned(), rest)),
        // A fraction would be one of a minute.
        None => (!rest.starts_with('.')).then(|| (format!("{to_the_minute}:00"), rest)),
    }
}

fn local_instant(wall: NaiveDateTime, zone: &Zone) -> Option<(i64, Option<DateShift>)> {
    Some(match zone.resolve(wall)? {
        WallTime::Once(instant_s) => (instant_s, None),
        WallTime::Twice(overlap) => (overlap.first_s, Some(DateShift::First(wall))),
        WallTime::Missing(gap) => {
            let into_the_gap_s = (wall - gap.from).num_seconds();
            (gap.end_s + into_the_gap_s, Some(DateShift::Forward(wall)))
        }
    })
}

/// Year, month, day, hour, minute, second of a text in exactly that form.
fn wall_numbers(text: &str) -> Option<[u32; 6]> {
    const FORMAT: &[u8; 19] = b"dddd-dd-ddTdd:dd:dd";
    let fits = |(byte, format): (u8, &u8)| match format {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        separator => byte == *separator,
    };
    if !text.bytes().zip(FORMAT).all(fits) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse().ok();
    Some([number(0..4)?, number(5..7)?, number(8..10)?, number(11..13)?, number(14..16)?, number(17..19)?])
}

fn wall_time([year, month, day, hour, minute, second]: [u32; 6]) -> Option<NaiveDateTime> {
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?.and_hms_opt(hour, minute, second)
}

/// The fraction in milliseconds, rounded up, and what follows it.
fn split_fraction(rest: &str) -> Option<(i64, &str)> {
    let Some(rest) = rest.strip_prefix('.') else {
        return Some((0, rest));
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..=9).contains(&digits) {
        return None;
    }
    let (fraction, rest) = rest.split_at(digits);
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    Some(((nanos + 999_999) / 1_000_000, rest))
}

/// `Z`, `±hh:mm`, `±hhmm` or `±hh`.
fn offset(text: &str) -> Option<FixedOffset> {
    if text.eq_ignore_ascii_case("z") {
        return FixedOffset::east_opt(0);
    }
    let (sign, digits) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(digits), _) => (1, digits),
        (_, Some(digits)) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        2 => (digits, "00"),
        4 => digits.split_at_checked(2)?,
        5 => digits.split_once(':').filter(|(hours, _)| hours.len() == 2)?,
        _ => return None,
    };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i32>().ok()).flatten();
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60))
}
