//! Cron expressions as tables: the text, the day rule, and the clock changes.

use chrono::{DateTime, Datelike};
use reveille_shared::model::cron::CronExpression;
use reveille_shared::model::zone::Zone;
use reveille_shared::model::zone::rules::Rules;

/// Unix seconds of an RFC 3339 text.
fn seconds(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp()
}

/// The instants an expression fires at after `from`, each asked for with the one before.
fn fires(text: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let expression = CronExpression::parse(text).unwrap();
    let zone = &Zone::parse(zone, &Rules::bundled()).unwrap();
    let first = expression.next_after(zone, seconds(from));
    std::iter::successors(first, |fire| expression.next_after(zone, fire.at_s))
        .take(count)
        .map(|fire| zone.rfc3339(fire.at_s * 1000).unwrap())
        .collect()
}

fn check(text: &str, zone: &str, from: &str, expected: &[&str]) {
    assert_eq!(fires(text, zone, from, expected.len()), expected, "`{text}` in {zone} after {from}");
}

/// The days on which an expression fires from Sunday 2026-02-01 on, as day of month; February has no
/// clock change and begins with a Sunday.
fn check_days(text: &str, expected: &[u32]) {
    let fired: Vec<u32> = fires(text, "UTC", "2026-01-31T23:59:59Z", 40)
        .iter()
        .map(|at| DateTime::parse_from_rfc3339(at).unwrap())
        .take_while(|at| (at.year(), at.month()) == (2026, 2))
        .map(|at| at.day())
        .collect();
    assert_eq!(fired, expected, "`{text}`");
}

fn refusal(text: &str) -> String {
    match CronExpression::parse(text) {
        Err(error) => error.to_string(),
        Ok(_) => "not refused".to_owned(),
    }
}

#[test]
fn fields_lists_ranges_steps_names() {
    let from = "2026-02-01T00:00:00Z";
    check("30 * * * * *", "UTC", from, &["2026-02-01T00:00:30+00:00", "2026-02-01T00:01:30+00:00"]);
    check("5 * * * *", "UTC", from, &["2026-02-01T00:05:00+00:00", "2026-02-01T01:05:00+00:00"]);
    check("\t 5  * * *\t* ", "UTC", from, &["2026-02-01T00:05:00+00:00"]);
    check("*/20 0 * * *", "UTC", from, &["2026-02-01T00:20:00+00:00", "2026-02-01T00:40:00+00:00"]);
    check("5/15 0 * * *", "UTC", "2026-02-01T00:36:00Z", &["2026-02-01T00:50:00+00:00", "2026-02-02T00:05:00+00:00"]);
    check(
        "1-3/2,50 0 * * *",
        "UTC",
        from,
        &["2026-02-01T00:01:00+00:00", "2026-02-01T00:03:00+00:00", "2026-02-01T00:50:00+00:00"],
    );
    check("*/60 */24 * * *", "UTC", from, &["2026-02-02T00:00:00+00:00"]);
    check("0059 0023 * * *", "UTC", from, &["2026-02-01T23:59:00+00:00"]);
    check("0 0 1 jan,Mar *", "UTC", from, &["2026-03-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00"]);
    check("0 0 1 JUN-aug/2 *", "UTC", from, &["2026-06-01T00:00:00+00:00", "2026-08-01T00:00:00+00:00"]);
}

#[test]
fn nicknames() {
    let from = "2026-02-03T04:05:06Z";
    for (nickname, expected) in [
        ("@yearly", "2027-01-01T00:00:00+00:00"),
        ("@annually", "2027-01-01T00:00:00+00:00"),
        ("@monthly", "2026-03-01T00:00:00+00:00"),
        ("@weekly", "2026-02-08T00:00:00+00:00"),
        ("@daily", "2026-02-04T00:00:00+00:00"),
        (" @Midnight ", "2026-02-04T00:00:00+00:00"),
        ("@HOURLY", "2026-02-03T05:00:00+00:00"),
        ("@minutely", "2026-02-03T04:06:00+00:00"),
        ("@secondly", "2026-02-03T04:05:07+00:00"),
        ("@weekdays", "2026-02-04T00:00:00+00:00"),
        ("@weekends", "2026-02-07T00:00:00+00:00"),
    ] {
        check(nickname, "UTC", from, &[expected]);
    }
    assert!(refusal("@reboot").contains("`@reboot` is not a nickname; known are @yearly"));
}

#[test]
fn weekdays_as_vixie_numbers_them() {
    check_days("0 0 * * 0", &[1, 8, 15, 22]);
    check_days("0 0 * * 7", &[1, 8, 15, 22]);
    check_days("0 0 * * SUN", &[1, 8, 15, 22]);
    check_days("0 0 * * 1", &[2, 9, 16, 23]);
    check_days("0 0 * * 6", &[7, 14, 21, 28]);
    check_days("0 0 * * 1-5", &[2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 16, 17, 18, 19, 20, 23, 24, 25, 26, 27]);
    check_days("0 0 * * 5-7", &[1, 6, 7, 8, 13, 14, 15, 20, 21, 22, 27, 28]);
    check_days("0 0 * * SUN-tue", &[1, 2, 3, 8, 9, 10, 15, 16, 17, 22, 23, 24]);
    check_days("0 0 * * MON-2", &[2, 3, 9, 10, 16, 17, 23, 24]);
    check_days("0 0 * * */7", &[1, 8, 15, 22]);
    check_days("0 0 * * */3", &[1, 4, 7, 8, 11, 14, 15, 18, 21, 22, 25, 28]);
    check_days("0 0 * * 0-7/7", &[1, 8, 15, 22]);
}

#[test]
fn both_day_fields() {
    let every_day: Vec<u32> = (1..=28).collect();
    // Neither starred: one is enough.
    check_days("0 0 13 * FRI", &[6, 13, 20, 27]);
    check_days("0 0 10,20 * 0", &[1, 8, 10, 15, 20, 22]);
    check_days("0 0 1-31 * MON", &every_day);
    check_days("0 0 1 * 0-6", &every_day);
    check_days("0 0 5,* * MON", &every_day);
    // One starred: both must match.
    check_days("0 0 */2 * MON", &[9, 23]);
    check_days("0 0 1-7 * */7", &[1]);
    check_days("0 0 * * MON", &[2, 9, 16, 23]);
    check_days("0 0 *,5 * MON", &[2, 9, 16, 23]);
    check_days("0 0 13 * *", &[13]);
}

#[test]
fn rare_days() {
    check("0 0 29 2 *", "UTC", "2096-01-01T00:00:00Z", &["2096-02-29T00:00:00+00:00"]);
    check("0 0 29 2 */7", "UTC", "2026-01-01T00:00:00Z", &["2032-02-29T00:00:00+00:00", "2060-02-29T00:00:00+00:00"]);
    assert_eq!(fires("0 0 29 2 *", "UTC", "2096-02-29T00:00:00Z", 1), Vec::<String>::new());
    assert_eq!(fires("0 0 30 2 *", "UTC", "2026-01-01T00:00:00Z", 1), Vec::<String>::new());
}

#[test]
fn refusals_name_field_and_cause() {
    for (text, expected) in [
        ("61 * * * *", "minute: 61 is out of range 0-59"),
        ("60 * * * * *", "second: 60 is out of range 0-59"),
        ("0 24 * * *", "hour: 24 is out of range 0-23"),
        ("0 0 0 * *", "day of month: 0 is out of range 1-31"),
        ("0 0 32 * *", "day of month: 32 is out of range 1-31"),
        ("0 0 1 13 *", "month: 13 is out of range 1-12"),
        ("0 0 * * 8", "day of week: 8 is out of range 0-7"),
        ("0 22-2 * * *", "hour: `22-2` runs backwards; write `22-23,0-2`"),
        ("0 23-4 * * *", "hour: `23-4` runs backwards; write `23,0-4`"),
        ("0 0 1 NOV-FEB *", "month: `NOV-FEB` runs backwards; write `NOV-DEC,JAN-FEB`"),
        ("0 0 * * FRI-MON", "day of week: `FRI-MON` runs backwards; write `FRI-SUN,MON`"),
        ("*/0 * * * *", "minute: the step of `*/0` is 0"),
        ("*/x * * * *", "minute: the step of `*/x` is not a number"),
        ("*/ * * * *", "minute: the step of `*/` is not a number"),
        ("1/2/3 * * * *", "minute: the step of `1/2/3` is not a number"),
        ("1,,2 * * * *", "minute: an item of `1,,2` is empty"),
        (", * * * *", "minute: an item of `,` is empty"),
        ("1, * * * *", "minute: an item of `1,` is empty"),
        ("** * * * *", "minute: `**` is not a number 0-59"),
        ("5* * * * *", "minute: `5*` is not a number 0-59"),
        ("-5 * * * *", "minute: `-5` is not a number 0-59"),
        ("1- * * * *", "minute: `1-` is not a number 0-59"),
        ("1-2-3 * * * *", "minute: `2-3` is not a number 0-59"),
        ("+5 * * * *", "minute: `+5` is not a number 0-59"),
        ("00005 * * * *", "minute: `00005` is not a number 0-59"),
        ("٣ * * * *", "minute: `٣` is not a number 0-59"),
        ("JAN * * * *", "minute: `JAN` is not a number 0-59"),
        ("0 0 1 JANUARY *", "month: `JANUARY` is not a number 1-12 or a name JAN-DEC"),
        ("0 0 1 MON *", "month: `MON` is not a number 1-12 or a name JAN-DEC"),
        ("0 0 * * MONDAY", "day of week: `MONDAY` is not a number 0-7 or a name SUN-SAT"),
        ("0 0 * * SUN6", "day of week: `SUN6` is not a number 0-7 or a name SUN-SAT"),
        ("0 0 L-31 * *", "day of month: `L-31` is not understood; days of the month may be L, L-3, 15W and LW"),
        ("0 0 L/2 * *", "day of month: `L/2` is not understood"),
        ("0 0 32W * *", "day of month: `32W` is not understood"),
        ("0 0 1-5W * *", "day of month: `1-5W` is not understood"),
        ("0 0 * * L", "day of week: `L` alone is Saturday to some and nothing to most: write SAT, or SATL"),
        ("0 0 * * 8L", "day of week: 8 is out of range 0-7"),
        ("0 0 * * 5#6", "day of week: `5#6` is the first to fifth of a weekday, such as FRI#2"),
        ("0 0 * * 5#", "day of week: `5#` is the first to fifth of a weekday"),
        ("0 0 5#2 * *", "day of month: `#` in `5#2` is for days of the week"),
        ("0 0 ?/2 * 1", "day of month: `?` in `?/2` stands alone, in one of the two day fields"),
        ("? 0 * * *", "minute: `?` in `?` stands alone"),
        ("0 0 ? * ?", "day of week: `?` stands in one of the two day fields"),
        ("H H * * *", "minute: `H` is Jenkins' choice of a number: write one yourself"),
        ("H/15 * * * *", "minute: `H/15` is Jenkins' choice"),
        ("0 0 0 1 1 * 2030", "a seventh field (year) is not supported: `date` fires in one year"),
        ("0 9 * * 1 2027", "`2027` looks like a year"),
        ("@every 5m", "take the type `delay-recur`, whose schedule is a number of seconds: 300"),
        ("@every 1h30m", "a number of seconds: 5400"),
        ("@every fortnight", "take the type `delay-recur`"),
        ("rate(5 minutes)", "a number of seconds: 300"),
        ("cron(0 9 * * ? *)", "leave out `cron(` and `)` and the year at the end"),
        ("TZ=Asia/Seoul 0 9 * * *", "the time zone belongs into `timezone`"),
        ("CRON_TZ=UTC 0 9 * * *", "the time zone belongs into `timezone`"),
        ("", "the expression is empty"),
        ("*", "this one has 1 field"),
        ("* * * *", "this one has 4 fields"),
        ("* * * * * * * *", "this one has 8 fields"),
    ] {
        let message = refusal(text);
        assert!(message.contains(expected), "`{text}`: {message}");
    }
    let long = format!("{} * * * *", "0,".repeat(600) + "0");
    assert!(refusal(&long).contains("longer than 1024 bytes"));
    let wide = format!("{} * * * *", "é".repeat(300));
    assert!(refusal(&wide).chars().count() < 100, "{}", refusal(&wide));
}

/// The one that would make a scheduler fire for an hour: asked from the second pass, the crates answer
/// the first.
#[test]
fn asked_in_the_second_pass_it_never_answers_the_past() {
    let second_pass = "2026-11-01T06:10:00Z"; // 01:10 for the second time in New York
    check("*/15 * * * *", "America/New_York", second_pass, &["2026-11-01T01:15:00-05:00", "2026-11-01T01:30:00-05:00"]);
    check("15,45 1 * * *", "America/New_York", second_pass, &["2026-11-02T01:15:00-05:00"]);
    check("0,30 1,2 * * *", "America/New_York", second_pass, &["2026-11-01T02:00:00-05:00"]);
    check("1-59 1 * * *", "America/New_York", second_pass, &["2026-11-02T01:01:00-05:00"]);
    check("* * 1 * * *", "America/New_York", second_pass, &["2026-11-01T01:10:01-05:00"]);
}

#[test]
fn new_york() {
    let spring = "2026-03-08T06:00:00Z"; // 01:00 EST; 02:00 becomes 03:00
    check("30 2 * * *", "America/New_York", spring, &["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"]);
    check("0,15,30 2 * * *", "America/New_York", spring, &["2026-03-08T03:00:00-04:00", "2026-03-09T02:00:00-04:00"]);
    check("0 2,3 * * *", "America/New_York", spring, &["2026-03-08T03:00:00-04:00", "2026-03-09T02:00:00-04:00"]);
    check(
        "30 1-3 * * *",
        "America/New_York",
        spring,
        &["2026-03-08T01:30:00-05:00", "2026-03-08T03:00:00-04:00", "2026-03-08T03:30:00-04:00"],
    );
    check("*/30 * * * *", "America/New_York", spring, &["2026-03-08T01:30:00-05:00", "2026-03-08T03:00:00-04:00"]);
    check("*/30 2 * * *", "America/New_York", spring, &["2026-03-09T02:00:00-04:00"]);
    check("30 * * * *", "America/New_York", spring, &["2026-03-08T01:30:00-05:00", "2026-03-08T03:30:00-04:00"]);
    check("0,30 0-22 * * *", "America/New_York", spring, &["2026-03-08T01:30:00-05:00", "2026-03-08T03:00:00-04:00"]);

    let autumn = "2026-11-01T04:59:59Z"; // 00:59:59 EDT; 01:00 to 02:00 comes twice
    check("30 1 * * *", "America/New_York", autumn, &["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"]);
    check(
        "0,30 0-22 * * *",
        "America/New_York",
        autumn,
        &["2026-11-01T01:00:00-04:00", "2026-11-01T01:30:00-04:00", "2026-11-01T02:00:00-05:00"],
    );
    check(
        "*/30 * * * *",
        "America/New_York",
        autumn,
        &[
            "2026-11-01T01:00:00-04:00",
            "2026-11-01T01:30:00-04:00",
            "2026-11-01T01:00:00-05:00",
            "2026-11-01T01:30:00-05:00",
            "2026-11-01T02:00:00-05:00",
        ],
    );
    check(
        "15 * * * *",
        "America/New_York",
        autumn,
        &["2026-11-01T01:15:00-04:00", "2026-11-01T01:15:00-05:00", "2026-11-01T02:15:00-05:00"],
    );
    check("* 59 1 * * *", "America/New_York", "2026-11-01T05:59:59Z", &["2026-11-01T01:59:00-05:00"]);
}

#[test]
fn berlin() {
    check(
        "0 2 * * *",
        "Europe/Berlin",
        "2026-03-28T12:00:00Z",
        &["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"],
    );
    check(
        "0 2 * * SUN",
        "Europe/Berlin",
        "2026-03-28T12:00:00Z",
        &["2026-03-29T03:00:00+02:00", "2026-04-05T02:00:00+02:00"],
    );
    check(
        "0 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00:00Z",
        &["2026-10-25T02:00:00+02:00", "2026-10-26T02:00:00+01:00"],
    );
    check("0 3 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", &["2026-10-25T03:00:00+01:00"]);
}

#[test]
fn lord_howe_moves_by_half_an_hour() {
    let autumn = "2026-04-04T14:00:00Z"; // 01:00 +11:00; 01:30 to 02:00 comes twice
    check("45 1 * * *", "Australia/Lord_Howe", autumn, &["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"]);
    check(
        "*/15 * * * *",
        "Australia/Lord_Howe",
        autumn,
        &[
            "2026-04-05T01:15:00+11:00",
            "2026-04-05T01:30:00+11:00",
            "2026-04-05T01:45:00+11:00",
            "2026-04-05T01:30:00+10:30",
            "2026-04-05T01:45:00+10:30",
            "2026-04-05T02:00:00+10:30",
        ],
    );
    let spring = "2026-10-03T15:00:00Z"; // 01:30 +10:30; 02:00 becomes 02:30
    check("15 2 * * *", "Australia/Lord_Howe", spring, &["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"]);
    check("*/15 * * * *", "Australia/Lord_Howe", spring, &["2026-10-04T01:45:00+10:30", "2026-10-04T02:30:00+11:00"]);
}

#[test]
fn midnight_may_be_the_missing_hour() {
    check(
        "0 0 * * *",
        "Africa/Cairo",
        "2026-04-23T12:00:00Z",
        &["2026-04-24T01:00:00+03:00", "2026-04-25T00:00:00+03:00"],
    );
    check(
        "@daily",
        "America/Sao_Paulo",
        "2018-11-03T12:00:00Z",
        &["2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"],
    );
    // In autumn Saturday's last hour comes twice: midnight itself comes once.
    check(
        "@daily",
        "America/Sao_Paulo",
        "2018-02-17T12:00:00Z",
        &["2018-02-18T00:00:00-03:00", "2018-02-19T00:00:00-03:00"],
    );
    check(
        "30 23 * * *",
        "America/Sao_Paulo",
        "2018-02-17T12:00:00Z",
        &["2018-02-17T23:30:00-02:00", "2018-02-18T23:30:00-03:00"],
    );
}

#[test]
fn a_dropped_day_is_not_made_up() {
    let before = "2011-12-29T22:00:00Z"; // 2011-12-29 12:00 -10:00 in Apia; 2011-12-30 does not exist
    check("0 9 * * *", "Pacific/Apia", before, &["2011-12-31T09:00:00+14:00", "2012-01-01T09:00:00+14:00"]);
    check("0 9 30 * *", "Pacific/Apia", before, &["2012-01-30T09:00:00+14:00"]);
    check("0 * * * *", "Pacific/Apia", "2011-12-30T09:00:00Z", &["2011-12-31T00:00:00+14:00"]);
    check("* * * * * *", "Pacific/Apia", "2011-12-30T09:59:59Z", &["2011-12-31T00:00:00+14:00"]);
}

#[test]
fn seoul() {
    check("30 * * * * *", "Asia/Seoul", "2026-06-01T00:00:30Z", &["2026-06-01T09:01:30+09:00"]);
    check("0 9 * * 1-5", "Asia/Seoul", "2026-06-05T00:00:00Z", &["2026-06-08T09:00:00+09:00"]);
    // Daylight saving of 1988: 02:00 became 03:00 on 8 May.
    check(
        "30 2 * * *",
        "Asia/Seoul",
        "1988-05-07T12:00:00Z",
        &["1988-05-08T03:00:00+10:00", "1988-05-09T02:30:00+10:00"],
    );
}

#[test]
fn ten_thousand_questions_across_a_change_stay_cheap() {
    // Every wall time of the repeated hour is a candidate that already fired; stepping through them one by
    // one would square the cost.
    let expression = CronExpression::parse("1-59 1-59 1 * * *").unwrap();
    let zone = &Zone::parse("America/New_York", &Rules::bundled()).unwrap();
    let second_pass_s = seconds("2026-11-01T06:00:00Z");
    for from_s in second_pass_s..second_pass_s + 3_600 {
        assert_eq!(expression.next_after(zone, from_s).unwrap().at_s, seconds("2026-11-02T06:01:01Z"));
    }
}

#[test]
fn what_only_matches_missing_wall_times_never_fires() {
    let last_gap = "2026-03-09T00:00:00Z"; // daylight saving begins at 02:00 on the second Sunday of March
    // The rules have no end: 74 gaps are jumped before the calendar ends.
    check("*/5 2 8-14 3 */7", "America/New_York", last_gap, &[]);
    check("30 2 8-14 3 */7", "America/New_York", last_gap, &["2027-03-14T03:00:00-04:00", "2028-03-12T03:00:00-04:00"]);
}

#[test]
fn unknown_zone() {
    let error = Zone::parse("Mars/Olympus", &Rules::bundled()).unwrap_err();
    assert!(error.to_string().starts_with("`Mars/Olympus` is not a time zone"), "{error}");
}

/// What the other libraries that take the form answer; where they differ, the field's usual meaning.
#[test]
fn days_by_other_names_than_numbers() {
    let check = |expression: &str, expected: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|day| format!("{day}T00:00:00+00:00")).collect();
        assert_eq!(fires(expression, "UTC", "2026-11-27T00:00:00Z", expected.len()), expected, "{expression}");
    };
    check("0 0 L * *", &["2026-11-30", "2026-12-31", "2027-01-31", "2027-02-28"]);
    check("0 0 L-3 * *", &["2026-12-28", "2027-01-28", "2027-02-25"]);
    check("0 0 L-30 * *", &["2026-12-01", "2027-01-01", "2027-03-01"]);
    check("0 0 l,15 * *", &["2026-11-30", "2026-12-15", "2026-12-31"]);
    check("0 0 15W * *", &["2026-12-15", "2027-01-15", "2027-02-15", "2027-03-15", "2027-04-15", "2027-05-14"]);
    check("0 0 1W * *", &["2026-12-01", "2027-01-01", "2027-02-01", "2027-03-01", "2027-04-01", "2027-05-03"]);
    check("0 0 31W * *", &["2026-12-31", "2027-01-29", "2027-03-31"]);
    check("0 0 LW * *", &["2026-11-30", "2026-12-31", "2027-01-29", "2027-02-26"]);
    check("0 0 * * 5L", &["2026-12-25", "2027-01-29", "2027-02-26"]);
    check("0 0 * * FRIL,SUN#1", &["2026-12-06", "2026-12-25", "2027-01-03"]);
    check("0 0 * * 5#2", &["2026-12-11", "2027-01-08", "2027-02-12"]);
    check("0 0 * * fri#5", &["2027-01-29", "2027-04-30"]);
    check("0 0 * * 7#1", &["2026-12-06", "2027-01-03"]);
    check("0 0 ? * MON", &["2026-11-30", "2026-12-07"]);
    check("0 0 1 * ?", &["2026-12-01", "2027-01-01"]);
    check("0 0 * * MON-SUN", &["2026-11-28", "2026-11-29", "2026-11-30"]);
    check("0 0 * * FRI-SUN", &["2026-11-28", "2026-11-29", "2026-12-04"]);
    check("0 0 * * 6-0", &["2026-11-28", "2026-11-29", "2026-12-05"]);
    // Both day fields say something: one is enough. A starred one takes nothing away: both must match.
    check("0 0 L * 5#1", &["2026-11-30", "2026-12-04", "2026-12-31"]);
    check("0 0 */2 * 5L", &["2026-12-25", "2027-01-29"]);
    // Rare, and never.
    assert_eq!(
        fires("0 0 * 2 1#5", "UTC", "2026-11-27T00:00:00Z", 2),
        ["2044-02-29T00:00:00+00:00", "2072-02-29T00:00:00+00:00"]
    );
    assert_eq!(fires("0 0 L-30 2 *", "UTC", "2026-11-27T00:00:00Z", 1), Vec::<String>::new());
    assert_eq!(fires("0 0 30W 2 *", "UTC", "2026-11-27T00:00:00Z", 1), Vec::<String>::new());
}

/// A field that goes through its whole range in even steps follows the clock, however that is written.
#[test]
fn even_steps_over_the_whole_range_follow_the_clock() {
    for (text, expected) in [
        ("0 0 0/1 * * *", true),
        ("0/15 3 * * *", true),
        ("5/15 3 * * *", true),
        ("0 0-23 * * *", true),
        ("*/1 3 * * *", true),
        ("0-59/7 3 * * *", true),
        ("0 0 3 * * *", false),
        ("0 9-17 * * *", false),
        ("0,30 3 * * *", false),
        ("0 0,12 * * *", false),
        ("15/15 3 * * *", false),
        ("0-30/15 3 * * *", false),
        ("0 3 1-31 * *", false),
    ] {
        assert_eq!(CronExpression::parse(text).unwrap().is_interval(), expected, "{text}");
    }
    let autumn = "2027-10-31T00:30:00Z"; // in Berlin 02:30 comes twice
    check("0 0 0/1 * * *", "Europe/Berlin", autumn, &["2027-10-31T02:00:00+01:00", "2027-10-31T03:00:00+01:00"]);
    check("0 2,3 * * *", "Europe/Berlin", autumn, &["2027-10-31T03:00:00+01:00"]);
}

/// The new forms over both changes of the clocks: what a day is called has no part in them.
#[test]
fn days_by_name_over_daylight_saving() {
    let (spring, autumn) = ("2027-03-27T12:00:00Z", "2027-10-30T12:00:00Z"); // Berlin: the last Sundays
    for days in ["28 * *", "* * 7L", "* * SUN#4", "28W * *"] {
        let text = format!("30 2 {days}");
        let first = match days {
            "28W * *" => "2027-03-29T02:30:00+02:00", // Monday, nearest to a Sunday
            _ => "2027-03-28T03:00:00+02:00",         // 02:30 is missing
        };
        check(&text, "Europe/Berlin", spring, &[first]);
    }
    check("30 2 L * ?", "Europe/Berlin", autumn, &["2027-10-31T02:30:00+02:00", "2027-11-30T02:30:00+01:00"]);
    check(
        "*/30 2 L * *",
        "Europe/Berlin",
        autumn,
        &[
            "2027-10-31T02:00:00+02:00",
            "2027-10-31T02:30:00+02:00",
            "2027-10-31T02:00:00+01:00",
            "2027-10-31T02:30:00+01:00",
        ],
    );
}
