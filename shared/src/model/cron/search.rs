//! From wall-clock times to instants: the search for the next fire, across clock changes.

use chrono::{NaiveDateTime, TimeDelta};

use super::calendar::Calendar;
use crate::model::zone::{Gap, Overlap, WallTime, Zone};

/// The calendar ends with the year 2100; asked from later it would only search in vain.
const LAST_S: i64 = 4_133_980_800; // 2101-01-01T00:00:00Z

/// Fixed times lost in a longer gap are not made up: a zone that drops a day has no such day.
const LONGEST_MADE_UP: TimeDelta = TimeDelta::hours(3);

/// The next fire of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fire {
    /// When, in unix seconds.
    pub at_s: i64,
    /// What a clock change did to it.
    pub shift: Option<Shift>,
}

/// What a clock change did to a fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// The named wall time is missing; it fires at the first instant after the gap.
    AfterGap(NaiveDateTime),
    /// The wall time happens twice and the expression is fixed: only the first pass fires.
    OnlyFirstPass(NaiveDateTime),
    /// The wall time happens twice and the expression is an interval: this is the first pass.
    FirstPass(NaiveDateTime),
    /// As before, on the second pass.
    SecondPass(NaiveDateTime),
    /// Wall times that matched fell into this gap before it and were dropped.
    GapDropped(Gap),
}

/// The first fire strictly after `from_s`.
pub(super) fn next_after(calendar: &Calendar, interval: bool, zone: &Zone, from_s: i64) -> Option<Fire> {
    if from_s >= LAST_S {
        return None;
    }
    let from_s = from_s.max(-1);
    let wall = zone.wall_at(from_s)?;
    let ahead = next_on_the_clock(calendar, interval, zone, wall, from_s);
    if !interval {
        return ahead;
    }
    // On a first pass the clock will be set back: earlier wall times come again before `ahead`.
    let again = match zone.resolve(wall)? {
        WallTime::Twice(overlap) if overlap.first_s == from_s => first_of_second_pass(calendar, zone, &overlap),
        _ => None,
    };
    ahead.into_iter().chain(again).min_by_key(|fire| fire.at_s)
}

/// Walks matching wall times after `wall`, jumping over a gap or a finished overlap as a whole: an
/// expression that matches every second costs no more there than one that matches once. `wall` only
/// grows, whatever the zone tables say, so the walk ends with the calendar at the latest.
fn next_on_the_clock(
    calendar: &Calendar,
    interval: bool,
    zone: &Zone,
    mut wall: NaiveDateTime,
    from_s: i64,
) -> Option<Fire> {
    let mut dropped = None;
    loop {
        wall = calendar.next(wall)?;
        let (at_s, shift) = match zone.resolve(wall)? {
            WallTime::Once(at_s) => (at_s, dropped.map(Shift::GapDropped)),
            WallTime::Twice(overlap) if interval => pass_after(&overlap, wall, from_s),
            WallTime::Twice(overlap) if overlap.first_s > from_s => (overlap.first_s, Some(Shift::OnlyFirstPass(wall))),
            WallTime::Twice(overlap) => {
                wall = wall.max(overlap.until - TimeDelta::seconds(1));
                continue;
            }
            WallTime::Missing(gap) if !interval && gap.length() <= LONGEST_MADE_UP => {
                (gap.end_s, Some(Shift::AfterGap(wall)))
            }
            WallTime::Missing(gap) => {
                dropped.get_or_insert(gap);
                wall = wall.max(gap.until - TimeDelta::seconds(1));
                continue;
            }
        };
        // Always so with sane zone tables; a caller that fires and asks again must never be told the past.
        if at_s > from_s {
            return Some(Fire { at_s, shift });
        }
    }
}

fn pass_after(overlap: &Overlap, wall: NaiveDateTime, from_s: i64) -> (i64, Option<Shift>) {
    if overlap.first_s > from_s {
        return (overlap.first_s, Some(Shift::FirstPass(wall)));
    }
    (overlap.second_s, Some(Shift::SecondPass(wall)))
}

fn first_of_second_pass(calendar: &Calendar, zone: &Zone, overlap: &Overlap) -> Option<Fire> {
    let wall = calendar.next(overlap.from - TimeDelta::seconds(1))?;
    match zone.resolve(wall)? {
        WallTime::Twice(same) if wall < overlap.until => {
            Some(Fire { at_s: same.second_s, shift: Some(Shift::SecondPass(wall)) })
        }
        _ => None, // nothing matches in the repeated span
    }
}
