//! What a worker decides about a run: verdict, retry and backoff, passed instants.

use chrono::DateTime;
use proptest::prelude::*;
use reveille_shared::model::UnixMs;
use reveille_shared::model::policy::{
    AfterFailure, FailedAttempt, MAX_PASSED, MIN_RETRY_WAIT_MS, Passed, Plan, Verdict, after_failure, passed, verdict,
};
use reveille_shared::model::run::{ClaimedRun, ClaimedSchedule, OutcomeCode, RunState};
use reveille_shared::model::schedule::ScheduleState;
use serde_json::{Value, json};

const NOMINAL: &str = "2026-03-01T10:00:00Z";
const HOURLY: &str = "0 * * * *";

fn ms(text: &str) -> UnixMs {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
}

/// A plan with this timing, whose task is the least one with `task` laid over it.
fn plan(kind: &str, schedule: &str, task: &Value) -> Plan {
    let mut whole = json!({"type": "rest", "connection": {"host": "http://localhost/"}, "retry_wait": 60});
    for (name, value) in task.as_object().unwrap() {
        whole[name] = value.clone();
    }
    let document =
        json!({"name": "", "client": {}, "type": kind, "schedule": schedule, "timezone": "UTC", "task": whole});
    Plan::read(&document.to_string()).unwrap()
}

/// The first attempt of an armed calendar run of an active schedule.
fn run() -> ClaimedRun {
    ClaimedRun {
        id: uuid::Uuid::nil(),
        schedule_id: uuid::Uuid::nil(),
        revision: 2,
        series: 0,
        nominal_at: ms(NOMINAL),
        due_at: ms(NOMINAL),
        created_at: ms(NOMINAL),
        armed: true,
        priority: 0,
        attempt: 1,
        crashes: 0,
        lease_token: 1,
        reclaimed: false,
        late_cause: None,
        schedule: Some(ClaimedSchedule { state: ScheduleState::Active, revision: 2, payload: String::new() }),
    }
}

fn run_of(state: ScheduleState, revision: i64) -> ClaimedRun {
    ClaimedRun { schedule: Some(ClaimedSchedule { state, revision, payload: String::new() }), ..run() }
}

fn failed(code: OutcomeCode) -> FailedAttempt {
    FailedAttempt { code, retry_after_ms: None }
}

mod verdicts {
    use super::*;

    fn check(run: &ClaimedRun, plan: Option<&Plan>, now: &str, expected: Option<(RunState, OutcomeCode)>) {
        let decided = match verdict(run, plan, ms(now)) {
            postponed @ Verdict::Postpone { .. } => panic!("{postponed:?}"),
            Verdict::Dispatch => None,
            Verdict::Settle { state, outcome } => Some((state, outcome.code)),
        };
        assert_eq!(decided, expected, "{run:?}");
    }

    #[test]
    fn the_schedule_decides_first() {
        let hourly = plan("cron", HOURLY, &json!({}));
        let check = |run: &ClaimedRun, expected| check(run, Some(&hourly), NOMINAL, expected);

        check(&run(), None);
        check(&run_of(ScheduleState::Finished, 2), None);
        let cancelled = |code| Some((RunState::Cancelled, code));
        check(&ClaimedRun { schedule: None, ..run() }, cancelled(OutcomeCode::Deleted));
        check(&run_of(ScheduleState::Deleted, 3), cancelled(OutcomeCode::Deleted));
        check(&run_of(ScheduleState::Paused, 3), cancelled(OutcomeCode::Paused));
        check(&run_of(ScheduleState::Active, 3), cancelled(OutcomeCode::Replaced));
        check(&run_of(ScheduleState::Finished, 3), cancelled(OutcomeCode::Replaced));
        // Even of a run that would be dead otherwise: its schedule does not want it.
        let crashed = ClaimedRun { crashes: 3, attempt: 4, reclaimed: true, ..run_of(ScheduleState::Deleted, 3) };
        check(&crashed, cancelled(OutcomeCode::Deleted));
    }

    #[test]
    fn three_crashes_are_enough() {
        let hourly = plan("cron", HOURLY, &json!({}));
        let crashed = |crashes| ClaimedRun { crashes, attempt: crashes + 1, reclaimed: true, ..run() };
        check(&crashed(2), Some(&hourly), NOMINAL, None);
        check(&crashed(3), Some(&hourly), NOMINAL, Some((RunState::Dead, OutcomeCode::Crashed)));
    }

    #[test]
    fn at_most_once_is_not_repeated_after_a_crash() {
        let once = plan("cron", HOURLY, &json!({"delivery": "at_most_once"}));
        let reclaimed = ClaimedRun { crashes: 1, attempt: 2, reclaimed: true, ..run() };
        check(&run(), Some(&once), NOMINAL, None);
        check(&reclaimed, Some(&once), NOMINAL, Some((RunState::Failed, OutcomeCode::Unknown)));
        check(&reclaimed, Some(&plan("cron", HOURLY, &json!({}))), NOMINAL, None);
        // Who took it over may have handed it back, or could not read it: the first call is as unknown as before.
        let handed_on = ClaimedRun { reclaimed: false, ..reclaimed };
        check(&handed_on, Some(&once), NOMINAL, Some((RunState::Failed, OutcomeCode::Unknown)));
        check(&handed_on, Some(&plan("cron", HOURLY, &json!({}))), NOMINAL, None);
    }

    #[test]
    fn a_retry_never_outlives_the_next_occurrence() {
        let hourly = plan("cron", HOURLY, &json!({"failed_policy": "retry"}));
        let check = |run: &ClaimedRun, now, expected| check(run, Some(&hourly), now, expected);
        let outlived = Some((RunState::Failed, OutcomeCode::Outlived));
        let retry = ClaimedRun { attempt: 2, ..run() };

        check(&retry, "2026-03-01T10:59:59.999Z", None);
        check(&retry, "2026-03-01T11:00:00Z", outlived);
        // A first attempt may be as late as it is: it stands for what passed.
        check(&run(), "2026-03-01T15:00:00Z", None);
        // A crash is no failure; a run taken over is no retry.
        check(&ClaimedRun { attempt: 2, crashes: 1, ..run() }, "2026-03-01T15:00:00Z", None);
        check(&ClaimedRun { attempt: 3, crashes: 1, reclaimed: true, ..run() }, "2026-03-01T15:00:00Z", None);
        check(&ClaimedRun { attempt: 3, crashes: 1, ..run() }, "2026-03-01T15:00:00Z", outlived);
        // Not the armed one: the calendar is no business of its.
        check(&ClaimedRun { armed: false, ..retry.clone() }, "2026-03-01T15:00:00Z", None);
        let recurring = plan("delay-recur", "5", &json!({"failed_policy": "retry"}));
        super::verdicts::check(&retry, Some(&recurring), "2026-03-01T15:00:00Z", None);
    }

    #[test]
    fn a_run_with_an_unreadable_definition_is_left_to_a_worker_that_can_read_it() {
        assert!(Plan::read("{").is_none());
        assert!(Plan::read("{}").is_none());
        for crashes in [0, 3] {
            let verdict = verdict(&ClaimedRun { crashes, ..run() }, None, ms(NOMINAL));
            assert!(matches!(verdict, Verdict::Postpone { wait_ms: 60_000, .. }), "{verdict:?}");
        }
    }
}

mod failures {
    use super::*;

    const FAILED: AfterFailure = AfterFailure::Finish { state: RunState::Failed };
    const DEAD: AfterFailure = AfterFailure::Finish { state: RunState::Dead };

    fn retry(wait_ms: i64) -> AfterFailure {
        AfterFailure::Retry { wait_ms }
    }

    /// A one-shot with this task, after the attempt of this number failed with a status.
    fn after_attempt(task: &Value, attempt: i32) -> AfterFailure {
        after_failure(&plan("now", "", task), &ClaimedRun { attempt, ..run() }, failed(OutcomeCode::HttpStatus), 0, 0.0)
    }

    #[test]
    fn how_many_retries() {
        let check = |task: Value, attempt, expected| {
            assert_eq!(after_attempt(&task, attempt), expected, "{task} after attempt {attempt}");
        };
        check(json!({}), 1, FAILED);
        check(json!({"failed_policy": "ignore", "max_retry_count": 5}), 1, FAILED);

        let retry_policy = |count: i64| json!({"failed_policy": "retry", "max_retry_count": count});
        check(json!({"failed_policy": "retry"}), i32::MAX, retry(60_000));
        check(retry_policy(-1), 1_000, retry(60_000));
        check(retry_policy(0), 1, FAILED);
        check(retry_policy(2), 1, retry(60_000));
        check(retry_policy(2), 2, retry(60_000));
        check(retry_policy(2), 3, FAILED);

        check(json!({"failed_policy": "retry_dlq"}), 10, retry(60_000));
        check(json!({"failed_policy": "retry_dlq"}), 11, DEAD);
        check(json!({"failed_policy": "retry_dlq", "max_retry_count": 0}), 1, DEAD);
    }

    #[test]
    fn crashes_use_up_no_retry() {
        let task = json!({"failed_policy": "retry", "max_retry_count": 1,
            "retry": {"backoff": "exponential"}, "retry_wait": 10});
        let plan = plan("now", "", &task);
        let after = |attempt, crashes| {
            let run = ClaimedRun { attempt, crashes, reclaimed: true, ..run() };
            after_failure(&plan, &run, failed(OutcomeCode::Connect), 0, 0.0)
        };
        assert_eq!(after(3, 2), retry(10_000));
        assert_eq!(after(4, 2), FAILED);
        assert_eq!(after(1, 2), retry(10_000));
    }

    #[test]
    fn what_no_retry_heals() {
        let after = |policy: &str, delivery: &str, code| {
            let task = json!({"failed_policy": policy, "delivery": delivery});
            after_failure(&plan("now", "", &task), &run(), failed(code), 0, 0.0)
        };
        assert_eq!(after("retry", "at_least_once", OutcomeCode::Refused), FAILED);
        assert_eq!(after("retry_dlq", "at_least_once", OutcomeCode::Refused), DEAD);
        assert_eq!(after("ignore", "at_least_once", OutcomeCode::Refused), FAILED);
        for unknown in [OutcomeCode::Timeout, OutcomeCode::Transport, OutcomeCode::LeaseLost] {
            assert_eq!(after("retry", "at_least_once", unknown), retry(60_000));
            assert_eq!(after("retry", "at_most_once", unknown), FAILED);
            assert_eq!(after("retry_dlq", "at_most_once", unknown), DEAD);
        }
        assert_eq!(after("retry", "at_most_once", OutcomeCode::Connect), retry(60_000));
        assert_eq!(after("retry", "at_most_once", OutcomeCode::HttpStatus), retry(60_000));
    }

    #[test]
    fn backoff() {
        let check = |retry_wait: u64, shape: Value, attempt, random, expected| {
            let task = json!({"failed_policy": "retry", "retry_wait": retry_wait, "retry": shape});
            let run = ClaimedRun { attempt, ..run() };
            let after = after_failure(&plan("now", "", &task), &run, failed(OutcomeCode::HttpStatus), 0, random);
            assert_eq!(after, retry(expected), "{task} after attempt {attempt}");
        };
        let century_ms = 3_155_760_000_000;

        check(7, json!({}), 9, 0.0, 7_000);
        check(7, json!({"max_wait": 5}), 1, 0.0, 5_000);
        check(7, json!({"backoff": "exponential"}), 1, 0.0, 7_000);
        check(7, json!({"backoff": "exponential"}), 2, 0.0, 14_000);
        check(7, json!({"backoff": "exponential", "factor": 1.5}), 3, 0.0, 15_750);
        check(7, json!({"backoff": "exponential", "factor": 10.0, "max_wait": 60}), 3, 0.0, 60_000);
        check(7, json!({"backoff": "exponential", "factor": 10.0}), i32::MAX, 0.0, century_ms);
        check(0, json!({"backoff": "exponential", "factor": 10.0}), i32::MAX, 0.0, MIN_RETRY_WAIT_MS);
        check(u64::MAX, json!({}), 1, 0.0, century_ms);
        check(u64::MAX, json!({"max_wait": u64::MAX}), 1, 0.0, century_ms);
        check(0, json!({}), 1, 0.0, MIN_RETRY_WAIT_MS);
        check(7, json!({"max_wait": 0}), 1, 0.0, MIN_RETRY_WAIT_MS);

        check(10, json!({"jitter": 0.5}), 1, 0.0, 10_000);
        check(10, json!({"jitter": 0.5}), 1, 0.5, 7_500);
        check(10, json!({"jitter": 1.0}), 1, 0.75, 2_500);
        check(10, json!({"jitter": 1.0}), 1, 0.999_999_9, MIN_RETRY_WAIT_MS);
        check(10, json!({"backoff": "exponential", "jitter": 0.5, "max_wait": 30}), 9, 0.5, 22_500);
    }

    #[test]
    fn retry_after() {
        let check = |shape: Value, asked_ms, expected| {
            let task = json!({"failed_policy": "retry", "retry": shape});
            let attempt = FailedAttempt { code: OutcomeCode::HttpStatus, retry_after_ms: Some(asked_ms) };
            assert_eq!(after_failure(&plan("now", "", &task), &run(), attempt, 0, 0.0), retry(expected), "{task}");
        };
        check(json!({}), 120_000, 120_000);
        check(json!({}), 59_000, 60_000);
        check(json!({}), -5, 60_000);
        check(json!({}), i64::MAX, 3_600_000);
        check(json!({"max_wait": 90}), 120_000, 90_000);
        check(json!({"max_wait": 7200}), i64::MAX, 7_200_000);
    }

    #[test]
    fn no_retry_at_or_after_the_next_occurrence() {
        let after = |policy: &str, now: &str, run: &ClaimedRun| {
            let hourly = plan("cron", HOURLY, &json!({"failed_policy": policy}));
            after_failure(&hourly, run, failed(OutcomeCode::Timeout), ms(now), 0.0)
        };
        assert_eq!(after("retry", "2026-03-01T10:58:59.999Z", &run()), retry(60_000));
        assert_eq!(after("retry", "2026-03-01T10:59:00Z", &run()), FAILED);
        assert_eq!(after("retry_dlq", "2026-03-01T10:59:00Z", &run()), FAILED);
        assert_eq!(after("retry", "2026-03-01T15:00:00Z", &run()), FAILED);
        assert_eq!(after("retry", "2026-03-01T15:00:00Z", &ClaimedRun { armed: false, ..run() }), retry(60_000));
    }
}

#[test]
fn passed_instants() {
    let check = |schedule: &str, run: &ClaimedRun, started: &str, ended: &str, coalesced, skipped| {
        let timing = plan("cron", schedule, &json!({})).timing;
        let counted = passed(&timing, run, ms(started), ms(ended));
        assert_eq!(counted, Passed { coalesced, skipped }, "`{schedule}` from {started} to {ended}");
    };
    check(HOURLY, &run(), "2026-03-01T10:00:00.003Z", "2026-03-01T10:59:59Z", 0, 0);
    check(HOURLY, &run(), "2026-03-01T10:00:01Z", "2026-03-01T11:00:00Z", 0, 1);
    check(HOURLY, &run(), "2026-03-01T11:00:00Z", "2026-03-01T11:00:01Z", 1, 0);
    check(HOURLY, &run(), "2026-03-01T13:30:00Z", "2026-03-01T15:30:00Z", 3, 2);
    // Clocks that disagree count nothing twice.
    check(HOURLY, &run(), "2026-03-01T08:30:00Z", "2026-03-01T11:30:00Z", 0, 1);
    check(HOURLY, &run(), "2026-03-01T11:30:00Z", "2026-03-01T10:30:00Z", 1, 0);
    check("* * * * * *", &run(), "2026-03-01T12:00:00Z", "2026-03-01T18:00:00Z", 7_200, MAX_PASSED - 7_200);
    check("* * * * * *", &run(), "2026-03-02T12:00:00Z", "2026-03-02T18:00:00Z", MAX_PASSED, 0);
    check(HOURLY, &ClaimedRun { armed: false, ..run() }, "2026-03-01T13:30:00Z", "2026-03-01T15:30:00Z", 0, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_retry_waits_within_its_bounds(
        retry_wait in any::<u64>(),
        factor in 1.0_f64..=10.0,
        jitter in 0.0_f64..=1.0,
        max_wait in proptest::option::of(any::<u64>()),
        exponential in any::<bool>(),
        (attempt, crashes) in (1..i32::MAX, 0..i32::MAX),
        retry_after_ms in proptest::option::of(any::<i64>()),
        now in any::<i64>(),
        random in 0.0_f64..1.0,
    ) {
        let backoff = if exponential { "exponential" } else { "fixed" };
        let mut shape = json!({"backoff": backoff, "factor": factor, "jitter": jitter});
        if let Some(seconds) = max_wait {
            shape["max_wait"] = json!(seconds);
        }
        let task = json!({"failed_policy": "retry", "retry_wait": retry_wait, "retry": shape});
        let failed = FailedAttempt { code: OutcomeCode::HttpStatus, retry_after_ms };
        let run = ClaimedRun { attempt, crashes, ..run() };
        match after_failure(&plan("now", "", &task), &run, failed, now, random) {
            AfterFailure::Retry { wait_ms } => {
                prop_assert!(wait_ms >= MIN_RETRY_WAIT_MS);
                let longest = max_wait.map_or(u64::MAX, |seconds| seconds.saturating_mul(1000));
                prop_assert!(u64::try_from(wait_ms).unwrap() <= longest.max(100));
                prop_assert!(wait_ms <= 3_155_760_000_000);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
