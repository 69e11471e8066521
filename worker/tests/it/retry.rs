//! What a failure leads to, end to end: the policies decide it, the store arms it, the worker comes back.

use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_shared::model::schedule::ScheduleState;
use reveille_shared::model::timing::{ArmAt, Arming, OnUnchanged};
use reveille_shared::store::Store;
use reveille_testkit::Answer;
use serde_json::{Value, json};

use crate::fixture::{Fixture, LONG, settings};

async fn check(answers: &[u16], task: Value, state: RunState, deliveries: usize) {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    fixture.receiver.script("/flaky", answers.iter().map(|status| Answer::status(*status)));
    let id = fixture.register_now("/flaky", task).await;
    let (run, attempts) = fixture.run_in(id, state).await;
    worker.stop().await;

    let seen = fixture.receiver.deliveries();
    assert_eq!(seen.len(), deliveries);
    for (number, delivery) in (1..).zip(&seen) {
        assert_eq!(delivery.header("idempotency-key"), run.id.to_string(), "the same over all attempts");
        assert_eq!(delivery.header("x-reveille-attempt"), number.to_string());
        assert_eq!(delivery.header("x-reveille-fencing-token"), number.to_string());
    }
    let failures = if state == RunState::Succeeded { deliveries - 1 } else { deliveries };
    assert_eq!(attempts.len(), failures, "{attempts:?}");
    assert!(attempts.iter().all(|attempt| attempt.outcome == OutcomeCode::HttpStatus));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_final_when_the_document_ignores_it() {
    check(&[500, 200], json!({}), RunState::Failed, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_repeats_until_the_target_accepts() {
    check(&[500, 404, 200], json!({"failed_policy": "retry"}), RunState::Succeeded, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_counted_and_the_last_failure_is_kept() {
    check(&[500], json!({"failed_policy": "retry", "max_retry_count": 2}), RunState::Failed, 3).await;
    check(&[500], json!({"failed_policy": "retry_dlq", "max_retry_count": 1}), RunState::Dead, 2).await;
    check(&[500], json!({"failed_policy": "retry_dlq", "max_retry_count": 0}), RunState::Dead, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_asks_for_time_gets_it() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    fixture.receiver.script("/busy", [Answer::status(429).retry_after(1), Answer::ok()]);
    fixture.register_now("/busy", json!({"failed_policy": "retry"})).await;
    let deliveries = fixture.receiver.wait_for(2, LONG).await;
    let waited = deliveries[1].arrived_ms - deliveries[0].arrived_ms;
    assert!((1000..2500).contains(&waited), "{waited} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gives_way_to_the_next_occurrence() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    fixture.receiver.script("/cron", [Answer::status(500)]);
    let task = json!({"failed_policy": "retry", "retry_wait": 5});
    let id = fixture.register(&[fixture.document("cron", "* * * * * *", "/cron", task)]).await[0];
    let deliveries = fixture.receiver.wait_for(3, LONG).await;
    assert!(deliveries.iter().all(|delivery| delivery.header("x-reveille-attempt") == "1"));
    let failed = fixture.runs(id).await.into_iter().filter(|run| run.state == RunState::Failed).count();
    assert!(failed >= 2, "{failed} runs have failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_gone_pauses_its_schedule_until_somebody_resumes_it() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    fixture.receiver.script("/gone", [Answer::status(410), Answer::ok()]);
    let document = fixture.document("delay-recur", "1", "/gone", json!({"failed_policy": "retry"}));
    let id = fixture.register(&[document]).await[0];
    let (run, _) = fixture.run_in(id, RunState::Failed).await;
    assert_eq!((run.outcome, run.http_status), (Some(OutcomeCode::HttpStatus), Some(410)));
    assert_eq!(run.detail.as_deref(), Some("the target answered 410 Gone, which pauses the schedule"));
    let schedule = fixture.store.schedule_get(id).await.unwrap().unwrap();
    assert_eq!((schedule.state, schedule.current), (ScheduleState::Paused, None));

    let again = Arming { at: ArmAt::AfterMs(0), calendar: false, unchanged: OnUnchanged::Keep };
    let revision = fixture.store.schedule_get(id).await.unwrap().unwrap().revision;
    let due_at = fixture.store.schedule_resume(id, revision, &again).await.unwrap().unwrap();
    fixture.bus.lower(due_at, due_at).await.unwrap();
    fixture.receiver.wait_for(3, LONG).await; // 200 now: it goes on
}
