//! Rules of time zones: out of the binary, out of real releases, and out of what is none.

use std::fs;

use reveille_shared::model::timing::{Successor, Timing, TimingKind};
use reveille_shared::model::zone::Zone;
use reveille_shared::model::zone::rules::{Rules, Version};
use reveille_shared::runtime::tzdata::{Source, open, version_at};
use reveille_testkit::{copy_zones, tzdata};

const DECEMBER: i64 = 1_796_083_200; // 2026-12-01T00:00:00Z

fn release(package: &str) -> Rules {
    open(&Source::Folder(tzdata(package))).unwrap()
}

#[test]
fn versions_are_read_ordered_and_shown() {
    for (text, number) in [("2026f", 202_606), ("2025b-0+deb12u1", 202_502), (" 1999a\n", 199_901)] {
        let version: Version = text.parse().unwrap();
        assert_eq!((version.number(), version), (number, Version::from_number(number)), "{text}");
    }
    for text in ["", "2026", "2026F", "26f", "2026ff", "unknown", "2026-1"] {
        assert!(text.parse::<Version>().is_err(), "{text}");
    }
    assert_eq!("2026f".parse::<Version>().unwrap().to_string(), "2026f");
    assert!("2025b".parse::<Version>() < "2025c".parse() && "2025z".parse::<Version>() < "2026a".parse());
}

/// British Columbia stays on what was its summer time from 2026 on.
#[test]
fn vancouver_fires_by_the_rules_there_are() {
    for (rules, expected) in [
        (Rules::bundled(), "2026-12-01T09:00:00-07:00"),
        (release("2026.6"), "2026-12-01T09:00:00-07:00"),
        (release("2025.2"), "2026-12-01T09:00:00-08:00"),
    ] {
        let timing = Timing::parse_by(&rules, TimingKind::Cron, "0 9 * * *", "America/Vancouver").unwrap();
        let shown = timing.preview(DECEMBER * 1000, 1);
        assert_eq!(shown[0].local, expected, "{rules:?}");
    }
}

/// Each in its own way to the tables: compiled in, and read from files.
#[test]
fn the_binary_and_a_release_of_the_same_version_agree() {
    let (bundled, read) = (Rules::bundled(), release("2026.6"));
    assert_eq!(bundled.version(), read.version());
    let mut compared = 0;
    for name in read.names() {
        let (Some(one), Some(other)) = (bundled.zone(&name), read.zone(&name)) else { continue };
        for day in (0..365 * 80).step_by(5) {
            let instant_s = day * 86_400;
            assert_eq!(one.offset_at(instant_s), other.offset_at(instant_s), "{name} at {instant_s}");
        }
        compared += 1;
    }
    assert!(compared > 400, "{compared} zones");
}

/// What was armed by the rules of 2025, and where it lies by those of 2026: British Columbia is an hour ahead of before.
#[test]
fn an_armed_instant_moves_with_its_wall_clock_time_once() {
    let (old, new) = (release("2025.2"), release("2026.6"));
    let at = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis();
    let check = |kind, schedule: &str, taken: Option<&str>, now: &str, expected: Option<&str>| {
        let now = at(now);
        let before = Timing::parse_by(&old, kind, schedule, "America/Vancouver").unwrap();
        let armed = before.preview(now, 1)[0].at;
        let after = Timing::parse_by(&new, kind, schedule, "America/Vancouver").unwrap();
        let moved = after.moved(armed, taken.map(at), now);
        assert_eq!(moved, expected.map(at), "{schedule} armed at {armed}");
        // By the same rules nothing moves.
        assert_eq!(before.moved(armed, taken.map(at), now), None, "{schedule}");
        if let Some(moved) = moved {
            assert_eq!(after.moved(moved, taken.map(at), now), None, "{schedule}: it moves once");
        }
    };
    let (cron, date) = (TimingKind::Cron, TimingKind::Date);
    check(cron, "0 9 * * *", None, "2026-12-01T00:00:00Z", Some("2026-12-01T16:00:00Z"));
    // The new instant has passed when the rules come: it is fired late, and not left out.
    check(cron, "0 9 * * *", Some("2026-11-30T17:00:00Z"), "2026-12-01T16:30:00Z", Some("2026-12-01T16:00:00Z"));
    // What has run does not come again.
    check(cron, "0 9 * * *", Some("2026-12-01T16:00:00Z"), "2026-12-01T16:30:00Z", Some("2026-12-02T16:00:00Z"));
    // In summer both agree, and so do minutes that every offset shares.
    check(cron, "0 9 1 7 *", None, "2026-12-01T00:00:00Z", None);
    check(cron, "*/15 * * * *", None, "2026-12-01T00:00:00Z", None);
    check(cron, "0 */2 * * *", None, "2026-12-01T00:30:00Z", Some("2026-12-01T01:00:00Z"));
    check(date, "2026-12-24T18:00:00", None, "2026-12-01T00:00:00Z", Some("2026-12-25T01:00:00Z"));
    check(date, "2026-12-24T18:00:00-08:00", None, "2026-12-01T00:00:00Z", None);
}

/// A run that fired by the old rules is not fired again an hour later by the new.
#[test]
fn what_fired_by_old_rules_has_fired_by_the_new() {
    let at = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis();
    let daily = |rules: &Rules| Timing::parse_by(rules, TimingKind::Cron, "0 9 * * *", "America/Vancouver").unwrap();
    let (old, new) = (daily(&release("2025.2")), daily(&release("2026.6")));
    // To the west in place of to the east: as if the old rules were the new.
    let (early, late) = (at("2026-12-01T16:00:00Z"), at("2026-12-01T17:00:00Z"));
    assert_eq!(old.successor(early, early + 500), Some(Successor::At(late + 86_400_000)));
    assert_eq!(new.successor(late, late + 500), Some(Successor::At(early + 86_400_000)));
    assert_eq!(new.successor(early, early + 500), Some(Successor::At(early + 86_400_000)));
}

#[test]
fn names_are_found_whatever_their_case_and_what_is_none_is_not() {
    for rules in [Rules::bundled(), release("2025.2")] {
        assert_eq!(Zone::parse(" asia/seoul ", &rules).unwrap().name(), "Asia/Seoul");
        for name in ["", "Asia", "Asia/", "../UTC", "/etc/localtime", "right/UTC", "tzdata.zi", "+09:00"] {
            let refused = Zone::parse(name, &rules).unwrap_err().to_string();
            assert!(refused.contains(&rules.version().to_string()), "{refused}");
        }
    }
}

#[test]
fn a_folder_that_is_no_database_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |what: &str| {
        let error = open(&Source::Folder(folder.path().to_owned())).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    refused("is no time zone database");
    fs::write(folder.path().join("+VERSION"), "2026f\n").unwrap();
    refused("is no whole time zone database");
    copy_zones(&tzdata("2026.6"), folder.path());
    assert_eq!(open(&Source::Folder(folder.path().to_owned())).unwrap().version().to_string(), "2026f");
    let whole = fs::read(folder.path().join("Asia/Seoul")).unwrap();
    fs::write(folder.path().join("Asia/Seoul"), &whole[..whole.len() / 2]).unwrap();
    refused("the time zone Asia/Seoul");
    assert!(open(&Source::Folder(folder.path().join("nowhere"))).is_err());
    assert_eq!(version_at(&Source::Folder(folder.path().join("nowhere"))), None);
}

#[test]
fn the_newer_of_the_machines_and_those_in_the_binary_is_taken() {
    let taken = open(&Source::Auto).unwrap();
    assert!(taken.version() >= Rules::bundled().version());
    assert_eq!(version_at(&Source::Auto), Some(taken.version()));
}

#[test]
fn the_next_change_is_told() {
    let rules = Rules::bundled();
    let berlin = rules.zone("Europe/Berlin").unwrap();
    assert_eq!(berlin.next_change(DECEMBER), Some((1_806_195_600, 7200))); // 2027-03-28T01:00:00Z
    assert_eq!(rules.zone("Asia/Seoul").unwrap().next_change(DECEMBER), None);
    assert_eq!(rules.zone("America/Vancouver").unwrap().next_change(DECEMBER), None);
}
