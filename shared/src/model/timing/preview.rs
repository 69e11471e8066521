//! What a timing will do, for a person who is about to register it.

use chrono::{NaiveDateTime, Timelike};

use super::date::DateShift;
use super::{PreviewedInstant, Timing, UnixMs, When};
use crate::model::cron::{CronExpression, Shift};
use crate::model::zone::Zone;

pub(super) fn preview(timing: &Timing, from: UnixMs, count: usize) -> Vec<PreviewedInstant> {
    let zone = &timing.zone;
    match &timing.when {
        When::Cron(expression) => calendar(expression, zone, from).take(count).collect(),
        When::Now => instant(zone, Some(from), None).into_iter().take(count).collect(),
        When::Delay(delay_ms) => instant(zone, from.checked_add(*delay_ms), None).into_iter().take(count).collect(),
        When::DelayRecur(delay_ms) => recurrence(zone, from, *delay_ms).take(count).collect(),
        When::Date(date) if date.at > from => {
            instant(zone, Some(date.at), date.shift.map(date_note)).into_iter().take(count).collect()
        }
        When::Date(_) => Vec::new(),
    }
}

fn calendar(expression: &CronExpression, zone: &Zone, from: UnixMs) -> impl Iterator<Item = PreviewedInstant> {
    let first = expression.next_after(zone, from.div_euclid(1000));
    let fires = std::iter::successors(first, move |fire| expression.next_after(zone, fire.at_s));
    fires.map_while(move |fire| instant(zone, fire.at_s.checked_mul(1000), fire.shift.map(cron_note)))
}

fn recurrence(zone: &Zone, from: UnixMs, delay_ms: i64) -> impl Iterator<Item = PreviewedInstant> {
    (1..).map_while(move |repetition: i64| {
        let at = delay_ms.checked_mul(repetition).and_then(|passed_ms| from.checked_add(passed_ms));
        let note =
            (repetition > 1).then(|| "at the earliest: the delay counts from the end of the run before".to_owned());
        instant(zone, at, note)
    })
}

/// `None` beyond the range of representable dates.
fn instant(zone: &Zone, at: Option<UnixMs>, note: Option<String>) -> Option<PreviewedInstant> {
    let at = at?;
    Some(PreviewedInstant { at, local: zone.rfc3339(at)?, note })
}

fn cron_note(shift: Shift) -> String {
    match shift {
        Shift::AfterGap(wall) => format!(
            "{} does not exist on this day (clocks go forward); fires at the first instant after the gap",
            time_of_day(wall)
        ),
        Shift::OnlyFirstPass(wall) => {
            format!("{} happens twice on this day; fires on the first pass", time_of_day(wall))
        }
        Shift::FirstPass(wall) => {
            format!("{} happens twice on this day; fires on both passes, this is the first", time_of_day(wall))
        }
        Shift::SecondPass(wall) => {
            format!("{} happens twice on this day; fires on both passes, this is the second", time_of_day(wall))
        }
        Shift::GapDropped(gap) => format!(
            "{} to {} does not exist (clocks go forward); what would have fired in between is not made up",
            gap.from, gap.until
        ),
    }
}

fn date_note(shift: DateShift) -> String {
    match shift {
        DateShift::Forward(wall) => format!(
            "{} does not exist on this day (clocks go forward); moved on by the length of the gap",
            time_of_day(wall)
        ),
        DateShift::First(wall) => format!("{} happens twice on this day; fires on the first pass", time_of_day(wall)),
    }
}

fn time_of_day(wall: NaiveDateTime) -> String {
    let format = if wall.second() == 0 { "%H:%M" } else { "%H:%M:%S" };
    wall.format(format).to_string()
}
