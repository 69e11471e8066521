//! Time zones: the narrow seam to the zone tables. It answers two questions, which wall time an instant
//! has and which instants a wall time has, and nothing else in the product asks the tables.
//!
//! Instants here are whole unix seconds (`*_s`): no zone changes its offset inside a second.

pub mod rules;

use chrono::{DateTime, Datelike, FixedOffset, NaiveDateTime, SecondsFormat, TimeDelta, Timelike, Utc};
use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, TimeZone};

use self::rules::Rules;
use super::UnixMs;
use super::text::quoted;

/// Farther from UTC than any zone ever was.
const MAX_OFFSET_S: i64 = 26 * 3600;

/// A time zone of the IANA database, by the rules of one version. Cloning shares its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// The name is none of the IANA database; the message is for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownZone(String);

/// The instants that show one wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WallTime {
    /// One instant, as on most days.
    Once(i64),
    /// Two: the clocks were set back over it.
    Twice(Overlap),
    /// None: the clocks were set forward over it.
    Missing(Gap),
}

/// A wall time that happens twice, within the span of wall times that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Its instant on the first pass.
    pub first_s: i64,
    /// Its instant on the second pass.
    pub second_s: i64,
    /// First wall time of the repeated span, which the second pass begins with.
    pub from: NaiveDateTime,
    /// First wall time after the repeated span.
    pub until: NaiveDateTime,
}

/// A span of wall times that no instant has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first instant after it.
    pub end_s: i64,
    /// First missing wall time.
    pub from: NaiveDateTime,
    /// First wall time after it: what the clocks show at `end_s`.
    pub until: NaiveDateTime,
}

impl Gap {
    /// How far the clocks are set forward.
    pub fn length(&self) -> TimeDelta {
        self.until - self.from
    }
}

impl Zone {
    /// The zone of an IANA name by these rules.
    ///
    /// # Errors
    /// [`UnknownZone`].
    pub fn parse(name: &str, rules: &Rules) -> Result<Self, UnknownZone> {
        let name = name.trim();
        rules.zone(name).ok_or_else(|| {
            let version = rules.version();
            UnknownZone(format!(
                "{} is not a time zone name of the IANA database (version {version}), such as Asia/Seoul",
                quoted(name)
            ))
        })
    }

    /// Its name as the database has it.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or_default()
    }

    /// What the clocks of the zone show; `None` beyond the range of representable dates.
    pub fn wall_at(&self, instant_s: i64) -> Option<NaiveDateTime> {
        let utc = DateTime::from_timestamp(instant_s, 0)?.naive_utc();
        utc.checked_add_offset(self.chrono_offset_at(instant_s)?)
    }

    /// The instants at which the clocks of the zone show `wall`; `None` beyond the range of representable dates.
    pub fn resolve(&self, wall: NaiveDateTime) -> Option<WallTime> {
        let wall_s = wall.and_utc().timestamp();
        match self.0.to_ambiguous_timestamp(civil(wall)?).offset() {
            AmbiguousOffset::Unambiguous { offset } => Some(WallTime::Once(wall_s - i64::from(offset.seconds()))),
            AmbiguousOffset::Fold { before, after } => {
                let (one, other) = (wall_s - i64::from(before.seconds()), wall_s - i64::from(after.seconds()));
                self.overlap(one.min(other), one.max(other)).map(WallTime::Twice)
            }
            AmbiguousOffset::Gap { .. } => self.gap(wall).map(WallTime::Missing),
        }
    }

    /// RFC 3339 with the zone's offset at that instant; `None` outside of the years 0 to 9999, in UTC or in the
    /// zone: it has four digits for them.
    pub fn rfc3339(&self, at: UnixMs) -> Option<String> {
        let utc = DateTime::<Utc>::from_timestamp_millis(at)?;
        let wall = self.wall_at(at.div_euclid(1000))?;
        if ![utc.year(), wall.year()].iter().all(|year| (0..=9999).contains(year)) {
            return None;
        }
        let offset = self.chrono_offset_at(at.div_euclid(1000))?;
        Some(utc.with_timezone(&offset).to_rfc3339_opts(SecondsFormat::AutoSi, false))
    }

    /// Seconds east of UTC at an instant; `None` beyond the range of representable dates.
    pub fn offset_at(&self, instant_s: i64) -> Option<i32> {
        Some(self.0.to_offset(Timestamp::from_second(instant_s).ok()?).seconds())
    }

    /// The next change of the offset after an instant: when, and to how many seconds east of UTC.
    pub fn next_change(&self, after_s: i64) -> Option<(i64, i32)> {
        let before = self.offset_at(after_s)?;
        let changes = self.0.following(Timestamp::from_second(after_s).ok()?);
        // Some tables have entries that change a name alone.
        let change = changes.take(16).find(|change| change.offset().seconds() != before)?;
        Some((change.timestamp().as_second(), change.offset().seconds()))
    }

    fn chrono_offset_at(&self, instant_s: i64) -> Option<FixedOffset> {
        FixedOffset::east_opt(self.offset_at(instant_s)?)
    }

    fn overlap(&self, first_s: i64, second_s: i64) -> Option<Overlap> {
        let before = self.offset_at(first_s)?;
        let change_s = first_such_instant(first_s, second_s, |instant_s| self.offset_at(instant_s) != Some(before));
        let from = self.wall_at(change_s)?;
        let until = self.wall_at(change_s - 1)? + TimeDelta::seconds(1);
        Some(Overlap { first_s, second_s, from, until })
    }

    fn gap(&self, wall: NaiveDateTime) -> Option<Gap> {
        let around_s = wall.and_utc().timestamp();
        let end_s = first_such_instant(around_s - MAX_OFFSET_S, around_s + MAX_OFFSET_S, |instant_s| {
            self.wall_at(instant_s).is_none_or(|shown| shown > wall)
        });
        let from = self.wall_at(end_s - 1)? + TimeDelta::seconds(1);
        Some(Gap { end_s, from, until: self.wall_at(end_s)? })
    }
}

fn civil(wall: NaiveDateTime) -> Option<jiff::civil::DateTime> {
    let narrow = |number: u32| i8::try_from(number).ok();
    let date = wall.date();
    jiff::civil::DateTime::new(
        i16::try_from(date.year()).ok()?,
        narrow(date.month())?,
        narrow(date.day())?,
        narrow(wall.hour())?,
        narrow(wall.minute())?,
        narrow(wall.second())?,
        0,
    )
    .ok()
}

/// Bisects for the first instant in `(no_s, yes_s]` with a property that begins there and holds on.
fn first_such_instant(mut no_s: i64, mut yes_s: i64, holds: impl Fn(i64) -> bool) -> i64 {
    while yes_s - no_s > 1 {
        let middle_s = no_s + (yes_s - no_s) / 2;
        if holds(middle_s) {
            yes_s = middle_s;
        } else {
            no_s = middle_s;
        }
    }
    yes_s
}
