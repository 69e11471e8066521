//! When a schedule fires: the five timings as pure functions of the registered text and `now`.
//!
//! Knows nothing of runs, retries or policies. Invariant: every calendar instant it answers is later than
//! the one asked about, and every answer costs a bounded search.

mod date;
mod preview;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::UnixMs;
use super::cron::CronExpression;
use super::text::quoted;
use super::zone::rules::Rules;
use super::zone::{self, UnknownZone, Zone};
use date::Date;

/// How far ahead of its registration a date or a delay may lie.
const MAX_AHEAD_S: i64 = 3_155_760_000; // 100 years of 365.25 days
pub(super) const MAX_AHEAD_MS: i64 = MAX_AHEAD_S * 1000;

/// How far a change of a zone's rules moves an instant, at most: more than a day is another calendar.
const LONGEST_SHIFT_MS: i64 = 3 * 3_600_000;

/// Which of the five timings a schedule has. Serialises to the wire's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimingKind {
    /// A calendar expression of 5 fields, or 6 with seconds first.
    Cron,
    /// As soon as possible, once.
    Now,
    /// At a local date and time, once; a past one is due now.
    Date,
    /// A number of seconds after registration, once.
    Delay,
    /// A number of seconds after registration, then after the end of each run.
    DelayRecur,
}

/// A validated timing.
#[derive(Clone, Debug)]
pub struct Timing {
    zone: Zone,
    when: When,
}

#[derive(Clone, Debug)]
enum When {
    Cron(CronExpression),
    Now,
    Date(Date),
    /// Milliseconds.
    Delay(i64),
    /// Milliseconds.
    DelayRecur(i64),
}

/// Why a timing was refused; the message is for the caller and names no field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The `schedule` text is not of the type's form.
    #[error("{0}")]
    Schedule(String),
    /// The `timezone` is not an IANA name.
    #[error("{0}")]
    Timezone(String),
    /// The timing is well formed and has no instant to come.
    #[error("the schedule never fires: no instant matches within the supported range")]
    NeverFires,
}

/// How a registration arms a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arming {
    /// The first instant.
    pub at: ArmAt,
    /// Whether it is a calendar occurrence (series 0) or an arming of its own (the schedule's next series).
    pub calendar: bool,
    /// What happens when the same document is registered again.
    pub unchanged: OnUnchanged,
}

impl Arming {
    /// Whether there is one occurrence of it: only then the same document may be armed anew.
    pub fn is_once(&self) -> bool {
        self.unchanged != OnUnchanged::Keep
    }
}

/// The instant an arming names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArmAt {
    /// This instant; a past one is due at once.
    At(UnixMs),
    /// This many milliseconds after the database's now.
    AfterMs(i64),
}

/// What registering an unchanged document does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnchanged {
    /// Nothing, unless the armed run is missing (cron, delay-recur).
    Keep,
    /// Nothing while the date is to come and not finished, else arm anew (date).
    KeepWhileFuture,
    /// Arm anew (now, delay).
    Rearm,
}

/// One instant of a preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewedInstant {
    /// The instant.
    pub at: UnixMs,
    /// RFC 3339 in the schedule's zone, with its offset at that instant.
    pub local: String,
    /// Why daylight saving moved it, when it did.
    pub note: Option<String>,
}

/// When a recurring schedule fires next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Successor {
    /// At this instant (cron).
    At(UnixMs),
    /// This many milliseconds after the settle, by the database's clock (delay-recur).
    AfterMs(i64),
}

impl Timing {
    /// Parses the registered text, by the rules of time zones that the process has.
    ///
    /// # Errors
    /// [`TimingError::Schedule`] or [`TimingError::Timezone`] with a sentence for the caller;
    /// [`TimingError::NeverFires`] for a cron expression that matches no day of any year, such as 30 February.
    pub fn parse(kind: TimingKind, schedule: &str, timezone: &str) -> Result<Self, TimingError> {
        Self::parse_by(&zone::rules::current(), kind, schedule, timezone)
    }

    /// The same by these rules of time zones in place of the process's.
    ///
    /// # Errors
    /// As [`Timing::parse`].
    pub fn parse_by(rules: &Rules, kind: TimingKind, schedule: &str, timezone: &str) -> Result<Self, TimingError> {
        let zone =
            Zone::parse(timezone, rules).map_err(|error: UnknownZone| TimingError::Timezone(error.to_string()))?;
        let when = match kind {
            TimingKind::Cron => When::Cron(parse_cron(schedule, &zone)?),
            TimingKind::Now => When::Now,
            TimingKind::Date => When::Date(date::parse(schedule, &zone).map_err(TimingError::Schedule)?),
            TimingKind::Delay => When::Delay(parse_delay(schedule, 0)?),
            TimingKind::DelayRecur => When::DelayRecur(parse_delay(schedule, 1)?),
        };
        Ok(Self { zone, when })
    }

    /// How registering it at `now` arms the schedule.
    ///
    /// # Errors
    /// [`TimingError::NeverFires`] when a cron expression has no instant after `now`,
    /// [`TimingError::Schedule`] when a date lies more than 100 years ahead of it.
    pub fn arming(&self, now: UnixMs) -> Result<Arming, TimingError> {
        let (at, calendar, unchanged) = match &self.when {
            When::Cron(_) => {
                let first = self.next_after(now).ok_or(TimingError::NeverFires)?;
                (ArmAt::At(first), true, OnUnchanged::Keep)
            }
            When::Date(date) if date.at > now.saturating_add(MAX_AHEAD_MS) => {
                return Err(TimingError::Schedule("the date is more than 100 years ahead".to_owned()));
            }
            When::Date(date) => (ArmAt::At(date.at), false, OnUnchanged::KeepWhileFuture),
            When::Now => (ArmAt::AfterMs(0), false, OnUnchanged::Rearm),
            When::Delay(delay_ms) => (ArmAt::AfterMs(*delay_ms), false, OnUnchanged::Rearm),
            When::DelayRecur(delay_ms) => (ArmAt::AfterMs(*delay_ms), false, OnUnchanged::Keep),
        };
        Ok(Arming { at, calendar, unchanged })
    }

    /// The first calendar instant strictly after `after`; `None` for every timing but cron, and for a
    /// cron expression without further instants.
    pub fn next_after(&self, after: UnixMs) -> Option<UnixMs> {
        let When::Cron(expression) = &self.when else { return None };
        let fire = expression.next_after(&self.zone, after.div_euclid(1000))?;
        fire.at_s.checked_mul(1000)
    }

    /// When the schedule fires after its run of `nominal` ended at `now`: a calendar goes on at the next
    /// instant after the later of the two (a clock that stepped back must not meet a finished instant). Where other rules of
    /// the zone gave `nominal`, the instant it stands for by these has been as well.
    pub fn successor(&self, nominal: UnixMs, now: UnixMs) -> Option<Successor> {
        match &self.when {
            When::Cron(_) => {
                let stands_for = self.nearest(nominal, UnixMs::MIN).unwrap_or(nominal);
                self.next_after(nominal.max(now).max(stands_for)).map(Successor::At)
            }
            When::DelayRecur(delay_ms) => Some(Successor::AfterMs(*delay_ms)),
            When::Now | When::Date(_) | When::Delay(_) => None,
        }
    }

    /// Where an armed instant that other rules of the zone gave lies by these; `None` where it stays. For a calendar that
    /// is its nearest instant, for a date the one of its wall-clock time. `taken`: the latest instant that was run, which
    /// does not come again.
    pub fn moved(&self, armed: UnixMs, taken: Option<UnixMs>, now: UnixMs) -> Option<UnixMs> {
        match &self.when {
            When::Date(date) => (date.at != armed).then_some(date.at),
            When::Cron(_) => {
                if self.next_after(armed - 1000)? == armed {
                    return None;
                }
                let floor = taken.unwrap_or(UnixMs::MIN);
                self.nearest(armed, floor).or_else(|| self.next_after(now.max(floor)))
            }
            When::Now | When::Delay(_) | When::DelayRecur(_) => None,
        }
    }

    /// The calendar instant nearest to one that other rules of the zone gave, and after `floor`: itself where both agree.
    fn nearest(&self, given: UnixMs, floor: UnixMs) -> Option<UnixMs> {
        if given > floor && self.next_after(given.saturating_sub(1000))? == given {
            return Some(given);
        }
        let from = floor.max(given.saturating_sub(LONGEST_SHIFT_MS));
        let around = std::iter::successors(self.next_after(from), |at| self.next_after(*at));
        let until = given.saturating_add(LONGEST_SHIFT_MS);
        around.take_while(|at| *at <= until).min_by_key(|at| (at.abs_diff(given), *at))
    }

    /// Calendar instants in the half-open interval `(after, until]`, counted up to `cap`.
    pub fn instants_between(&self, after: UnixMs, until: UnixMs, cap: i32) -> i32 {
        let mut count = 0;
        let mut at = after;
        while count < cap {
            match self.next_after(at) {
                Some(next) if next <= until => at = next,
                _ => break,
            }
            count += 1;
        }
        count
    }

    /// Whether a cron expression follows the clock rather than naming times of day; `None` for every other timing.
    pub fn is_interval(&self) -> Option<bool> {
        match &self.when {
            When::Cron(expression) => Some(expression.is_interval()),
            _ => None,
        }
    }

    /// The next `count` instants strictly after `from`, with what daylight saving did to them. `now`,
    /// `delay` and `delay-recur` count from `from`; `now` and a delay of 0 answer `from` itself.
    pub fn preview(&self, from: UnixMs, count: usize) -> Vec<PreviewedInstant> {
        preview::preview(self, from, count)
    }
}

fn parse_cron(text: &str, zone: &Zone) -> Result<CronExpression, TimingError> {
    let expression = CronExpression::parse(text).map_err(|error| TimingError::Schedule(error.to_string()))?;
    expression.next_after(zone, -1).ok_or(TimingError::NeverFires)?;
    Ok(expression)
}

/// Whole seconds, as milliseconds.
fn parse_delay(text: &str, least_s: i64) -> Result<i64, TimingError> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(TimingError::Schedule(format!("{} is not a whole number of seconds", quoted(text))));
    }
    // Digits that do not fit are far above the limit.
    let delay_s = text.parse().unwrap_or(i64::MAX);
    if !(least_s..=MAX_AHEAD_S).contains(&delay_s) {
        let message = format!("{} is out of range {least_s} to {MAX_AHEAD_S} seconds (100 years)", quoted(text));
        return Err(TimingError::Schedule(message));
    }
    Ok(delay_s * 1000)
}

impl fmt::Display for TimingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cron => "cron",
            Self::Now => "now",
            Self::Date => "date",
            Self::Delay => "delay",
            Self::DelayRecur => "delay-recur",
        })
    }
}
