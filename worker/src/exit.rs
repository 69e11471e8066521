//! What an attempt at a run comes to, as pure functions of the run, its plan and `now`: the policies of
//! the model put together into the one exit of the run.
//!
//! Never talks to anything, and has an exit for whatever it is given: a stored document that this
//! version cannot read ends its run, it does not crash the attempt and come back by the lease.

use reveille_shared::model::UnixMs;
use reveille_shared::model::policy::{self, AfterFailure, FailedAttempt, Passed, Plan, Verdict};
use reveille_shared::model::run::{ClaimedRun, Exit, Outcome, OutcomeCode, RunState};
use reveille_shared::model::task::Delivery;
use reveille_shared::runtime::seal::Unopened;

use crate::call::Answer;

/// The status of a target that is gone for good (RFC 9110, 15.5.11).
const GONE: u16 = 410;

/// From when to when an attempt lasted, by the estimate of the database's clock: that is behind it,
/// never ahead, so a successor computed from it may be due at once but skips no instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) started_at: UnixMs,
    pub(crate) ended_at: UnixMs,
}

/// Reads the plan of a claimed run, its secrets still sealed.
///
/// # Errors
/// The exit of a run that is not to be dispatched.
pub(crate) fn plan_dispatch(run: &ClaimedRun, now: UnixMs) -> Result<Box<Plan>, Box<Exit>> {
    let plan = run.schedule.as_ref().and_then(|schedule| Plan::read(&schedule.payload));
    match (policy::verdict(run, plan.as_ref(), now), plan) {
        (Verdict::Dispatch, Some(plan)) => Ok(Box::new(plan)),
        // The policy postpones what has no plan; should it ever not, nothing is dispatched without one.
        (Verdict::Dispatch, None) => Err(Box::new(Exit::HandBack { wait_ms: 0, late_cause: None })),
        (Verdict::Postpone { wait_ms, outcome }, _) => Err(Box::new(Exit::Postpone { wait_ms, outcome })),
        (Verdict::Settle { state, outcome }, plan) => {
            Err(Box::new(finish(plan.as_ref(), run, state, outcome, Span { started_at: now, ended_at: now })))
        }
    }
}

/// The exit of a run whose secrets this worker cannot open. Like a definition that it cannot read: another worker may
/// have the key, and to end the run would end its schedule.
pub(crate) fn postponed(unopened: &Unopened) -> Exit {
    let outcome = Outcome::new(OutcomeCode::Refused, unopened.to_string());
    Exit::Postpone { wait_ms: policy::POSTPONED_MS, outcome }
}

/// The exit of a run whose attempt has an outcome. `random` is drawn from `[0, 1)`.
pub(crate) fn conclude(plan: &Plan, run: &ClaimedRun, answer: &Answer, span: Span, random: f64) -> Exit {
    let outcome = answer.outcome.clone();
    if outcome.code == OutcomeCode::Ok {
        return finish(Some(plan), run, RunState::Succeeded, outcome, span);
    }
    if outcome.http_status == Some(GONE) {
        return gone(plan, run, outcome, span);
    }
    let failed = FailedAttempt { code: outcome.code, retry_after_ms: answer.retry_after_ms };
    match policy::after_failure(plan, run, failed, span.ended_at, random) {
        AfterFailure::Retry { wait_ms } => Exit::Retry { wait_ms, outcome },
        AfterFailure::Finish { state } => finish(Some(plan), run, state, outcome, span),
    }
}

/// The exit of a run whose target says that it is gone for good: no attempt will change that, and no later run. What
/// recurs is paused until somebody resumes it.
fn gone(plan: &Plan, run: &ClaimedRun, outcome: Outcome, span: Span) -> Exit {
    let mut exit = finish(Some(plan), run, policy::given_up(&plan.definition.task), outcome, span);
    let recurs = plan.timing.successor(run.nominal_at, span.ended_at).is_some();
    if let Exit::Finish { outcome, successor, pauses, .. } = &mut exit
        && recurs
    {
        outcome.detail.push_str(", which pauses the schedule");
        (*successor, *pauses) = (None, true);
    }
    exit
}

/// The exit of a run whose call was cut short by a shutdown: the target may have seen it. Handed back it
/// is called again at once, by somebody who has the time; waiting for the lease would only add to that.
pub(crate) fn cut_short(plan: &Plan, run: &ClaimedRun, span: Span) -> Exit {
    match plan.definition.task.delivery {
        Delivery::AtLeastOnce => Exit::HandBack { wait_ms: 0, late_cause: None },
        Delivery::AtMostOnce => {
            let outcome = Outcome::new(OutcomeCode::Unknown, "the worker stopped during the call");
            finish(Some(plan), run, RunState::Failed, outcome, span)
        }
    }
}

/// Without a plan there is no successor: nobody can tell when.
fn finish(plan: Option<&Plan>, run: &ClaimedRun, state: RunState, outcome: Outcome, span: Span) -> Exit {
    let timing = plan.filter(|_| run.armed).map(|plan| &plan.timing);
    let passed = timing.map(|timing| policy::passed(timing, run, span.started_at, span.ended_at)).unwrap_or_default();
    let successor = timing.and_then(|timing| timing.successor(run.nominal_at, span.ended_at));
    let Passed { coalesced, skipped } = passed;
    Exit::Finish { state, outcome, successor, coalesced, skipped, pauses: false }
}

#[cfg(test)]
mod tests {
    use reveille_shared::model::run::{ClaimedSchedule, Successor};
    use reveille_shared::model::schedule::ScheduleState;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    const NOMINAL: UnixMs = 1_767_225_600_000; // 2026-01-01T00:00:00Z

    fn run(kind: &str, schedule: &str, task: Value) -> ClaimedRun {
        let mut document = json!({
            "name": "n", "client": {}, "type": kind, "schedule": schedule, "timezone": "UTC",
            "task": {"type": "rest", "connection": {"host": "http://localhost"}, "retry_wait": 10},
        });
        for (name, value) in task.as_object().unwrap() {
            document["task"][name] = value.clone();
        }
        ClaimedRun {
            id: Uuid::nil(),
            schedule_id: Uuid::nil(),
            revision: 1,
            series: 0,
            nominal_at: NOMINAL,
            due_at: NOMINAL,
            created_at: NOMINAL,
            armed: true,
            priority: 0,
            attempt: 1,
            crashes: 0,
            lease_token: 1,
            reclaimed: false,
            late_cause: None,
            schedule: Some(ClaimedSchedule {
                state: ScheduleState::Active,
                revision: 1,
                payload: document.to_string(),
            }),
        }
    }

    fn answer(code: OutcomeCode) -> Answer {
        Outcome::new(code, "detail").into()
    }

    fn span(from_ms: i64, to_ms: i64) -> Span {
        Span { started_at: NOMINAL + from_ms, ended_at: NOMINAL + to_ms }
    }

    fn concluded(run: &ClaimedRun, code: OutcomeCode, span: Span) -> Exit {
        let plan = plan_dispatch(run, span.started_at).unwrap();
        conclude(&plan, run, &answer(code), span, 0.0)
    }

    fn finish(
        state: RunState,
        code: OutcomeCode,
        successor: Option<Successor>,
        (coalesced, skipped): (i32, i32),
    ) -> Exit {
        Exit::Finish { state, outcome: Outcome::new(code, "detail"), successor, coalesced, skipped, pauses: false }
    }

    #[test]
    fn a_target_that_is_gone_pauses_what_recurs_and_is_asked_no_more() {
        let check = |run: &ClaimedRun, state: RunState, pauses: bool| {
            let outcome = Outcome { http_status: Some(410), ..Outcome::new(OutcomeCode::HttpStatus, "410") };
            let plan = plan_dispatch(run, NOMINAL).unwrap();
            let exit = conclude(&plan, run, &outcome.clone().into(), span(0, 9), 0.0);
            let detail = if pauses { "410, which pauses the schedule" } else { "410" };
            let outcome = Outcome { detail: detail.to_owned(), ..outcome };
            assert_eq!(exit, Exit::Finish { state, outcome, successor: None, coalesced: 0, skipped: 0, pauses });
        };
        check(&run("cron", "* * * * *", json!({"failed_policy": "retry"})), RunState::Failed, true);
        check(&run("delay-recur", "5", json!({"failed_policy": "retry_dlq"})), RunState::Dead, true);
        check(&ClaimedRun { armed: false, ..run("delay-recur", "5", json!({})) }, RunState::Failed, true);
        check(&run("now", "", json!({"failed_policy": "retry"})), RunState::Failed, false);
    }

    #[test]
    fn what_was_accepted_arms_its_successor() {
        let (good, ok) = (RunState::Succeeded, OutcomeCode::Ok);
        let once = run("now", "", json!({}));
        assert_eq!(concluded(&once, ok, span(5, 20)), finish(good, ok, None, (0, 0)));
        let again = run("delay-recur", "50", json!({}));
        assert_eq!(concluded(&again, ok, span(5, 20)), finish(good, ok, Some(Successor::AfterMs(50_000)), (0, 0)));
        let cron = run("cron", "* * * * *", json!({}));
        let next = |minute: i64| Some(Successor::At(NOMINAL + minute * 60_000));
        assert_eq!(concluded(&cron, ok, span(5, 20)), finish(good, ok, next(1), (0, 0)));
        assert_eq!(concluded(&cron, ok, span(125_000, 185_000)), finish(good, ok, next(4), (2, 1)));
        let added = ClaimedRun { armed: false, ..cron };
        assert_eq!(concluded(&added, ok, span(125_000, 185_000)), finish(good, ok, None, (0, 0)));
    }

    #[test]
    fn what_failed_is_retried_or_ends_by_the_documents_policy() {
        let code = OutcomeCode::HttpStatus;
        let outcome = Outcome::new(code, "detail");
        let ignoring = run("now", "", json!({}));
        assert_eq!(concluded(&ignoring, code, span(0, 9)), finish(RunState::Failed, code, None, (0, 0)));
        let retrying = run("now", "", json!({"failed_policy": "retry"}));
        assert_eq!(concluded(&retrying, code, span(0, 9)), Exit::Retry { wait_ms: 10_000, outcome });
        let keeping = run("now", "", json!({"failed_policy": "retry_dlq", "max_retry_count": 0}));
        assert_eq!(concluded(&keeping, code, span(0, 9)), finish(RunState::Dead, code, None, (0, 0)));
        let plan = plan_dispatch(&retrying, NOMINAL).unwrap();
        let asked = Answer { retry_after_ms: Some(77_000), ..answer(code) };
        let exit = conclude(&plan, &retrying, &asked, span(0, 9), 0.0);
        assert!(matches!(exit, Exit::Retry { wait_ms: 77_000, .. }), "{exit:?}");
    }

    #[test]
    fn what_is_not_to_be_dispatched_has_its_exit_at_once() {
        let sound = run("cron", "* * * * *", json!({}));
        let with = |change: &dyn Fn(&mut ClaimedSchedule)| {
            let mut run = sound.clone();
            change(run.schedule.as_mut().unwrap());
            run
        };
        let check = |run: &ClaimedRun, expected: RunState, code: OutcomeCode, goes_on: bool| {
            let exit = *plan_dispatch(run, NOMINAL + 1).unwrap_err();
            let Exit::Finish { state, outcome, successor, .. } = exit else { panic!("{exit:?}") };
            assert_eq!((state, outcome.code, successor.is_some()), (expected, code, goes_on), "{outcome:?}");
        };
        assert!(plan_dispatch(&sound, NOMINAL + 1).is_ok());
        let cancelled = RunState::Cancelled;
        check(&ClaimedRun { schedule: None, ..sound.clone() }, cancelled, OutcomeCode::Deleted, false);
        check(&with(&|schedule| schedule.state = ScheduleState::Paused), cancelled, OutcomeCode::Paused, true);
        check(&with(&|schedule| schedule.revision = 2), cancelled, OutcomeCode::Replaced, true);
        check(&ClaimedRun { crashes: 3, ..sound.clone() }, RunState::Dead, OutcomeCode::Crashed, true);
        for payload in ["", "null", "{}", "{\"name\":1}"] {
            let unreadable = with(&|schedule| schedule.payload = payload.to_owned());
            let exit = *plan_dispatch(&unreadable, NOMINAL + 1).unwrap_err();
            assert!(matches!(exit, Exit::Postpone { wait_ms: 60_000, .. }), "the schedule goes on: {exit:?}");
        }
        let at_most_once = run("cron", "* * * * *", json!({"delivery": "at_most_once"}));
        let reclaimed = ClaimedRun { reclaimed: true, crashes: 1, attempt: 2, ..at_most_once };
        check(&reclaimed, RunState::Failed, OutcomeCode::Unknown, true);
    }

    #[test]
    fn a_call_cut_short_is_repeated_unless_that_is_forbidden() {
        let plain = run("now", "", json!({}));
        let plan = plan_dispatch(&plain, NOMINAL).unwrap();
        assert_eq!(cut_short(&plan, &plain, span(0, 9)), Exit::HandBack { wait_ms: 0, late_cause: None });
        let once = run("delay-recur", "5", json!({"delivery": "at_most_once", "failed_policy": "retry"}));
        let plan = plan_dispatch(&once, NOMINAL).unwrap();
        let exit = cut_short(&plan, &once, span(0, 9));
        let Exit::Finish { state, outcome, successor, .. } = exit else { panic!("{exit:?}") };
        assert_eq!((state, outcome.code), (RunState::Failed, OutcomeCode::Unknown));
        assert_eq!(successor, Some(Successor::AfterMs(5000)));
    }
}
