//! Time zones: the narrow seam to the zone tables. It answers two questions, which wall time an instant
//! has and which instants a wall time has, and nothing else in the product asks chrono-tz.
//!
//! Instants here are whole unix seconds (`*_s`): no zone changes its offset inside a second.

use chrono::{DateTime, Datelike, NaiveDateTime, Offset, SecondsFormat, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use super::UnixMs;
use super::timing::TimingError;

/// Version of the IANA tables compiled in; shown by `doctor`, because an old one fires at old offsets.
/// They end with the year 2099: later instants have the zone's last offset.
pub const TABLE_VERSION: &str = chrono_tz::IANA_TZDB_VERSION;

/// Farther from UTC than any zone ever was.
const MAX_OFFSET_S: i64 = 26 * 3600;

/// A time zone of the IANA database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(Tz);

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
    /// The zone of an IANA name; upper and lower case matter only between names that differ in nothing else.
    ///
    /// # Errors
    /// [`TimingError::Timezone`].
    pub fn parse(name: &str) -> Result<Self, TimingError> {
        let name = name.trim();
        let exact = name.parse::<Tz>().ok();
        let found = exact
            .or_else(|| chrono_tz::TZ_VARIANTS.iter().copied().find(|zone| zone.name().eq_ignore_ascii_case(name)));
        found.map(Self).ok_or_else(|| {
            TimingError::Timezone(format!(
                "{} is not a time zone name of the IANA database (version {TABLE_VERSION}), such as Asia/Seoul",
                super::timing::quoted(name)
            ))
        })
    }

    /// What the clocks of the zone show; `None` beyond the range of representable dates.
    pub fn wall_at(self, instant_s: i64) -> Option<NaiveDateTime> {
        let utc = DateTime::from_timestamp(instant_s, 0)?.naive_utc();
        utc.checked_add_offset(self.0.offset_from_utc_datetime(&utc).fix())
    }

    /// The instants at which the clocks of the zone show `wall`; `None` beyond the range of representable dates.
    pub fn resolve(self, wall: NaiveDateTime) -> Option<WallTime> {
        let instant_with = |offset: &<Tz as TimeZone>::Offset| {
            wall.checked_sub_offset(offset.fix()).map(|utc| utc.and_utc().timestamp())
        };
        match self.0.offset_from_local_datetime(&wall) {
            chrono::LocalResult::Single(offset) => Some(WallTime::Once(instant_with(&offset)?)),
            chrono::LocalResult::Ambiguous(one, other) => {
                let (one, other) = (instant_with(&one)?, instant_with(&other)?);
                self.overlap(one.min(other), one.max(other)).map(WallTime::Twice)
            }
            chrono::LocalResult::None => self.gap(wall).map(WallTime::Missing),
        }
    }

    /// RFC 3339 with the zone's offset at that instant; `None` outside of the years 0 to 9999, in UTC or in the
    /// zone: it has four digits for them.
    pub fn rfc3339(self, at: UnixMs) -> Option<String> {
        let utc = DateTime::<Utc>::from_timestamp_millis(at)?;
        let wall = self.wall_at(at.div_euclid(1000))?;
        if ![utc.year(), wall.year()].iter().all(|year| (0..=9999).contains(year)) {
            return None;
        }
        Some(utc.with_timezone(&self.0).fixed_offset().to_rfc3339_opts(SecondsFormat::AutoSi, false))
    }

    fn overlap(self, first_s: i64, second_s: i64) -> Option<Overlap> {
        let before = self.offset_at(first_s)?;
        let change_s = first_such_instant(first_s, second_s, |instant_s| self.offset_at(instant_s) != Some(before));
        let from = self.wall_at(change_s)?;
        let until = self.wall_at(change_s - 1)? + TimeDelta::seconds(1);
        Some(Overlap { first_s, second_s, from, until })
    }

    fn gap(self, wall: NaiveDateTime) -> Option<Gap> {
        let around_s = wall.and_utc().timestamp();
        let end_s = first_such_instant(around_s - MAX_OFFSET_S, around_s + MAX_OFFSET_S, |instant_s| {
            self.wall_at(instant_s).is_none_or(|shown| shown > wall)
        });
        let from = self.wall_at(end_s - 1)? + TimeDelta::seconds(1);
        Some(Gap { end_s, from, until: self.wall_at(end_s)? })
    }

    fn offset_at(self, instant_s: i64) -> Option<i32> {
        let utc = DateTime::from_timestamp(instant_s, 0)?.naive_utc();
        Some(self.0.offset_from_utc_datetime(&utc).fix().local_minus_utc())
    }
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
