//! The planner of a term: when it looks, why, and what it pushes.

use std::time::Duration;

use reveille_monitor::watch::{Moment, Push, Reason, Watch, to_tell};
use reveille_shared::bus::wake::{NEVER, WakeState};
use reveille_shared::store::WakeReading;

const RECHECK: Duration = Duration::from_secs(30);

/// The monotonic clock shows `ms` when the database's shows `DB + ms`.
const DB: i64 = 1_700_000_000_000;

fn at(ms: i64) -> Moment {
    Moment { at: Duration::from_millis(ms.unsigned_abs()), db_ms: DB + ms }
}

fn state(seq: u64, next: Option<i64>) -> WakeState {
    WakeState {
        nonce: 7,
        epoch: 1,
        seq,
        next_ms: next.map_or(NEVER, |ms| DB + ms),
        mark: String::new(),
        since_ms: NEVER,
        db_ms: DB,
    }
}

fn reading(now: i64, due: Option<i64>, lease: Option<i64>) -> WakeReading {
    WakeReading {
        now: DB + now,
        next_due: due.map(|ms| DB + ms),
        next_ahead: due.filter(|ms| *ms > now).map(|ms| DB + ms),
        next_lease: lease.map(|ms| DB + ms),
        overdue: 0,
    }
}

/// A watch that looked at 1000 ms and found `due` and `lease`.
fn looked(due: Option<i64>, lease: Option<i64>) -> Watch {
    let mut watch = Watch::new(RECHECK, at(1000).at);
    assert_eq!(watch.due(at(1000).at), Some(Reason::Election));
    assert_eq!(watch.on_reading(at(1000), &reading(1000, due, lease), &state(1, due)), None);
    watch
}

#[track_caller]
fn check_deadline(watch: &Watch, ms: i64, reason: Reason) {
    let deadline = at(ms).at;
    assert_eq!(watch.deadline(), deadline);
    assert_eq!(watch.due(deadline.saturating_sub(Duration::from_millis(1))), None);
    assert_eq!(watch.due(deadline), Some(reason));
}

#[test]
fn a_reading_plans_the_next_look() {
    let cases = [
        ("nothing scheduled", None, None, 31_000, Reason::Recheck),
        ("due later than the recheck", Some(90_000), None, 31_000, Reason::Recheck),
        ("due before the recheck", Some(5_000), None, 5_100, Reason::Due),
        ("a lease runs out first", Some(5_000), Some(4_000), 4_100, Reason::Due),
        ("only a lease", None, Some(4_000), 4_100, Reason::Due),
        ("due this moment is on its way", Some(950), None, 1_050, Reason::Due),
    ];
    for (name, due, lease, deadline, reason) in cases {
        println!("{name}");
        check_deadline(&looked(due, lease), deadline, reason);
    }
}

#[test]
fn a_lower_arms_its_instant_without_a_look() {
    let mut watch = looked(Some(20_000), None);
    watch.on_state(at(2_000), &state(2, Some(3_000)));
    check_deadline(&watch, 3_100, Reason::Due);
    watch.on_state(at(2_100), &state(3, Some(10_000)));
    check_deadline(&watch, 3_100, Reason::Due);
}

#[test]
fn a_state_published_before_the_last_look_is_old_news() {
    let mut watch = Watch::new(RECHECK, at(1000).at);
    watch.on_reading(at(1000), &reading(1000, Some(20_000), None), &state(5, Some(20_000)));
    watch.on_state(at(1001), &state(4, Some(900)));
    check_deadline(&watch, 20_100, Reason::Due);
}

#[test]
fn a_hint_that_came_during_the_reading_is_checked() {
    let mut watch = Watch::new(RECHECK, at(1000).at);
    watch.on_reading(at(1000), &reading(1000, Some(20_000), None), &state(5, Some(4_000)));
    check_deadline(&watch, 4_100, Reason::Due);
    // Its run may have been claimed already: then `next` must not stay in the past.
    watch.on_reading(at(1000), &reading(1000, Some(20_000), None), &state(6, Some(-5_000)));
    assert_eq!(watch.due(at(1000).at), Some(Reason::Due));
}

#[test]
fn unclaimed_runs_are_pushed_again_and_again_ever_more_slowly() {
    let mut watch = looked(Some(5_000), None);
    let mut pushes = Vec::new();
    let mut now = 5_100;
    while now < 130_000 {
        check_deadline(&watch, now, if now == 5_100 { Reason::Due } else { Reason::Late });
        let push = watch.on_reading(at(now), &reading(now, Some(5_000), None), &state(2, None));
        assert_eq!(push, Some(Push::Overdue));
        pushes.push(now - 5_000);
        now = i64::try_from(watch.deadline().as_millis()).unwrap();
    }
    assert_eq!(pushes, [100, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 60_000, 90_000, 120_000]);
}

#[test]
fn claimed_runs_end_the_pushing() {
    let mut watch = looked(Some(5_000), None);
    watch.on_reading(at(5_100), &reading(5_100, Some(5_000), None), &state(2, None));
    assert_eq!(watch.on_reading(at(5_250), &reading(5_250, None, None), &state(3, None)), None);
    check_deadline(&watch, 35_250, Reason::Recheck);
    // The next late run starts from the beginning.
    watch.on_state(at(9_000), &state(4, Some(9_500)));
    watch.on_reading(at(9_600), &reading(9_600, Some(9_500), None), &state(4, None));
    check_deadline(&watch, 9_750, Reason::Late);
}

#[test]
fn an_expired_lease_is_nudged_while_nobody_takes_it() {
    let mut watch = looked(Some(60_000), Some(4_000));
    let first = watch.on_reading(at(4_100), &reading(4_100, Some(60_000), Some(4_000)), &state(2, Some(60_000)));
    assert_eq!(first, Some(Push::Lease));
    // Hearing its own nudge is not a reason to look.
    watch.on_state(at(4_101), &state(3, Some(60_000)));
    check_deadline(&watch, 4_250, Reason::Late);
    let second = watch.on_reading(at(4_250), &reading(4_250, Some(60_000), Some(4_000)), &state(4, Some(60_000)));
    assert_eq!(second, Some(Push::Lease));
    // Renewed or claimed: the pushing ends and the new lease is watched.
    let third = watch.on_reading(at(4_500), &reading(4_500, Some(60_000), Some(14_000)), &state(5, Some(60_000)));
    assert_eq!(third, None);
    check_deadline(&watch, 14_100, Reason::Due);
}

#[test]
fn a_run_that_nobody_takes_does_not_stand_in_front_of_those_to_come() {
    let due = |due, ahead: i64| WakeReading { next_ahead: Some(DB + ahead), ..reading(10_000, Some(due), None) };
    assert_eq!(to_tell(&due(9_950, 60_000)), Some(DB + 9_950), "due for a moment: on its way");
    assert_eq!(to_tell(&due(9_900, 60_000)), Some(DB + 60_000), "late: nudged beside the next one");
    assert_eq!(to_tell(&due(12_000, 12_000)), Some(DB + 12_000));
    assert_eq!(to_tell(&reading(10_000, Some(9_900), None)), None);

    let mut watch = looked(Some(5_000), None);
    let push = watch.on_reading(at(10_000), &due(5_000, 60_000), &state(2, Some(60_000)));
    assert_eq!(push, Some(Push::Overdue));
    // A LOWER of something due now is heard and checked as ever, and nobody is nudged for it.
    watch.on_state(at(10_010), &state(3, Some(10_010)));
    check_deadline(&watch, 10_110, Reason::Due);
    assert_eq!(watch.on_reading(at(10_110), &due(5_000, 60_000), &state(4, Some(60_000))), None);
    check_deadline(&watch, 10_150, Reason::Late);
    // Unless there is more that nobody takes, or a lease ran out.
    let more = WakeReading { overdue: 2, ..due(5_000, 60_000) };
    assert_eq!(watch.on_reading(at(10_120), &more, &state(5, Some(60_000))), Some(Push::Overdue));
    let lease = WakeReading { next_lease: Some(DB + 9_000), ..more };
    assert_eq!(watch.on_reading(at(10_130), &lease, &state(6, Some(60_000))), Some(Push::Overdue));
    assert_eq!(watch.on_reading(at(10_131), &lease, &state(7, Some(60_000))), None);
}

#[test]
fn another_key_is_read_again() {
    let mut watch = looked(Some(20_000), None);
    watch.on_beat(at(2_000), &state(1, Some(20_000)));
    assert_eq!(watch.due(at(2_000).at), None);
    // Heard, not met: an old message of the former key must not cost a look.
    watch.on_state(at(2_500), &WakeState { nonce: 6, ..state(9, None) });
    assert_eq!(watch.due(at(2_500).at), None);
    watch.on_beat(at(3_000), &WakeState { nonce: 8, ..state(1, None) });
    assert_eq!(watch.due(at(3_000).at), Some(Reason::KeyChanged));
}

#[test]
fn a_refused_set_lets_the_other_monitor_finish_first() {
    let mut watch = looked(Some(20_000), None);
    watch.want(at(2_000).at, Reason::Reconnect);
    watch.on_refused(at(2_001).at);
    check_deadline(&watch, 2_021, Reason::Reconnect);
}

#[test]
fn an_idle_minute_has_two_looks() {
    let mut watch = looked(None, None);
    let mut looks = 0;
    while watch.deadline() <= at(61_000).at {
        let now = i64::try_from(watch.deadline().as_millis()).unwrap();
        // Heartbeats repeat the state all the time.
        watch.on_beat(at(now), &state(1, None));
        watch.on_reading(at(now), &reading(now, None, None), &state(1, None));
        looks += 1;
    }
    assert_eq!(looks, 2);
}
