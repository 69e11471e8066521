//! Why a run was late: the table of causes.

use reveille_shared::model::UnixMs;
use reveille_shared::model::lateness::{LATE_AFTER_MS, LateCause, Wakeup, late_cause};
use reveille_shared::model::run::ClaimedRun;
use uuid::Uuid;

const DUE: UnixMs = 1_800_000_000_000;

/// A run that was registered an hour ahead.
fn run() -> ClaimedRun {
    ClaimedRun {
        id: Uuid::nil(),
        schedule_id: Uuid::nil(),
        revision: 1,
        series: 0,
        nominal_at: DUE,
        due_at: DUE,
        created_at: DUE - 3_600_000,
        armed: true,
        priority: 0,
        attempt: 1,
        crashes: 0,
        lease_token: 1,
        reclaimed: false,
        late_cause: None,
        schedule: None,
    }
}

/// A worker that woke and claimed so many milliseconds after the due time.
fn wakeup(woken_ms: i64, claimed_ms: i64) -> Wakeup {
    Wakeup {
        started_at: DUE - 7_200_000,
        busy_until: None,
        woken_at: DUE + woken_ms,
        failed_until: None,
        claimed_at: DUE + claimed_ms,
    }
}

fn check(run: &ClaimedRun, wakeup: &Wakeup, dispatched_ms: i64, expected: Option<LateCause>) {
    assert_eq!(late_cause(run, wakeup, DUE + dispatched_ms), expected, "{run:?} {wakeup:?} {dispatched_ms}");
}

#[test]
fn what_is_on_time_has_no_cause() {
    check(&run(), &wakeup(1, 5), 8, None);
    check(&run(), &wakeup(0, 900), LATE_AFTER_MS, None);
    check(&run(), &wakeup(0, 900), LATE_AFTER_MS + 1, Some(LateCause::ClaimSlow));
    // A retry is expected when it is due, whenever its occurrence was.
    let retry = ClaimedRun { attempt: 2, nominal_at: DUE - 60_000, ..run() };
    check(&retry, &wakeup(1, 5), 8, None);
}

#[test]
fn one_obstacle_is_the_cause() {
    use LateCause::*;
    let started = Wakeup { started_at: DUE + 9_000, ..wakeup(9_010, 9_015) };
    let busy = Wakeup { busy_until: Some(DUE + 9_000), ..wakeup(-500, 9_015) };
    let failing = Wakeup { failed_until: Some(DUE + 9_000), ..wakeup(1, 9_015) };
    check(&run(), &started, 9_020, Some(NoWorker));
    check(&run(), &busy, 9_020, Some(SlotsBusy));
    check(&run(), &failing, 9_020, Some(DatabaseUnavailable));
    check(&run(), &wakeup(9_000, 9_010), 9_020, Some(WokenLate));
    check(&run(), &wakeup(1, 9_000), 9_020, Some(ClaimSlow));
    check(&run(), &wakeup(1, 5), 9_020, Some(DispatchSlow));
    // A past date is due when it is registered; a successor that was armed by a late settle keeps its instant.
    let past = ClaimedRun { nominal_at: DUE - 8_000_000, created_at: DUE, ..run() };
    check(&past, &wakeup(1, 5), 8, Some(RegisteredLate));
    let successor = ClaimedRun { created_at: DUE + 9_000, ..run() };
    check(&successor, &wakeup(9_001, 9_005), 9_008, Some(RegisteredLate));
    let handed_back = ClaimedRun { nominal_at: DUE - 25_000, lease_token: 2, ..run() };
    check(&handed_back, &wakeup(1, 5), 8, Some(HandedBack));
    let congested = ClaimedRun { late_cause: Some(TargetCongested), ..handed_back };
    check(&congested, &wakeup(1, 5), 8, Some(TargetCongested));
    let reclaimed = ClaimedRun { attempt: 2, crashes: 1, reclaimed: true, ..run() };
    check(&reclaimed, &started, 9_020, Some(LeaseExpired));
}

#[test]
fn of_several_obstacles_the_one_that_took_longest_is_the_cause() {
    use LateCause::*;
    let all = |started, busy, woken, failed, claimed| Wakeup {
        started_at: DUE + started,
        busy_until: Some(DUE + busy),
        failed_until: Some(DUE + failed),
        ..wakeup(woken, claimed)
    };
    check(&run(), &all(5_000, 1_000, 6_000, 7_000, 8_000), 9_000, Some(NoWorker));
    check(&run(), &all(1_000, 5_000, 1_001, 7_000, 8_000), 9_000, Some(SlotsBusy));
    check(&run(), &all(1_000, 2_000, 6_000, 7_000, 8_000), 9_000, Some(WokenLate));
    check(&run(), &all(-1, -1, 1, 7_000, 8_000), 9_000, Some(DatabaseUnavailable));
    check(&run(), &all(-1, -1, 1, 2, 8_000), 9_000, Some(ClaimSlow));
    // Equally long: the one that stands first.
    check(&run(), &all(3_000, 3_000, 3_000, 3_000, 3_000), 3_000, Some(NoWorker));
    // What was before the run was there, or before it was due, held nothing up.
    let past = ClaimedRun { nominal_at: DUE - 60_000, created_at: DUE, ..run() };
    check(&past, &all(-5_000, -1_000, 1, -1, 5), 8, Some(RegisteredLate));
    check(&past, &wakeup(70_000, 70_005), 70_008, Some(WokenLate));
}

#[test]
fn every_cause_has_a_word_of_its_own() {
    for cause in LateCause::ALL {
        assert_eq!(LateCause::from_word(cause.as_str()), Some(cause));
        assert!(cause.sentence().len() > 20);
    }
    assert_eq!(LateCause::from_word("luck"), None);
}
