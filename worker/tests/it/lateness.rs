//! The timeline of a run, and why it was late: what the worker knows reaches the store.

use std::sync::atomic::Ordering;
use std::time::Duration;

use reveille_shared::model::ScheduleId;
use reveille_shared::model::history::HistoryKind;
use reveille_shared::model::lateness::LateCause;
use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_shared::store::{HistoryFilter, HistoryPage, RunRow, Store};
use reveille_testkit::{Answer, eventually};
use reveille_worker::Settings;
use serde_json::json;

use crate::fixture::{Fixture, LONG, Worker, registration, settings};

/// Waits until a run that is due now would be late.
async fn until_late(fixture: &Fixture) {
    let from = fixture.store.ping().await.unwrap();
    eventually(LONG, "it is late", || async { fixture.store.ping().await.unwrap() > from + 1500 }).await;
}

async fn check_cause(fixture: &Fixture, worker: &Worker, id: ScheduleId, cause: LateCause) -> RunRow {
    let (run, _) = fixture.run_in(id, RunState::Succeeded).await;
    assert_eq!(run.late_cause, Some(cause), "{run:?}");
    assert_eq!(worker.metric("worker_late_runs_total", &format!("cause=\"{}\"", cause.as_str())), 1.0);
    assert_eq!(worker.metric("worker_late_runs_total", ""), 1.0, "one cause");
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_run_has_a_timeline_and_no_cause() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    worker.metric_reaches("worker_claims_total", r#"result="empty""#, 1.0).await;
    let delay = Duration::from_millis(60);
    fixture.receiver.script("/slow", [Answer::ok().after(delay)]);
    let id = fixture.register_now("/slow", json!({})).await;
    let (run, _) = fixture.run_in(id, RunState::Succeeded).await;
    let way = [
        Some(run.due_at),
        run.woken_at,
        run.claimed_at,
        run.dispatched_at,
        run.first_byte_at,
        run.finished_at.map(|at| at + 1), // the worker's estimate may be a millisecond ahead by rounding
    ];
    let way: Vec<i64> = way.iter().map(|at| at.unwrap_or_else(|| panic!("{run:?}"))).collect();
    assert!(way.is_sorted(), "{run:?}");
    assert!(way[4] - way[3] >= 60, "the answer began after the delay: {run:?}");
    assert_eq!(run.late_cause, None, "{run:?}");
    assert_eq!(worker.metric("worker_late_runs_total", ""), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_byte_of_an_answer_that_never_ends_is_known() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    fixture.receiver.script("/stalled", [Answer::ok().body("half").stalled()]);
    fixture.receiver.script("/hang", [Answer::hang()]);
    for (path, answered) in [("/stalled", true), ("/hang", false)] {
        let id = fixture.register_now(path, json!({"timeout": 0.3})).await;
        let (run, _) = fixture.run_in(id, RunState::Failed).await;
        assert_eq!(run.outcome, Some(OutcomeCode::Timeout));
        assert_eq!(run.first_byte_at.is_some(), answered, "{path}: {run:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_worker_that_is_the_cause() {
    let fixture = Fixture::new().await;
    let id = fixture.register_now("/a", json!({})).await;
    until_late(&fixture).await;
    let worker = fixture.worker(settings());
    check_cause(&fixture, &worker, id, LateCause::NoWorker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_slots_are_the_cause() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(Settings { concurrency: 1, ..settings() });
    fixture.receiver.script("/busy", [Answer::ok().held()]);
    fixture.register_now("/busy", json!({})).await;
    fixture.receiver.wait_for(1, LONG).await;
    let id = fixture.register_now("/waiting", json!({"history_check": true})).await;
    until_late(&fixture).await;
    fixture.receiver.release("/busy");
    let run = check_cause(&fixture, &worker, id, LateCause::SlotsBusy).await;
    assert_eq!(run.woken_at, Some(run.due_at), "it was awake all the time");

    let executed = HistoryFilter { kind: Some(HistoryKind::Executed), ..HistoryFilter::default() };
    let page = HistoryPage { after: None, ascending: false, limit: 10 };
    let told = fixture.store.history_list(&executed, &page).await.unwrap();
    assert_eq!(told.len(), 1, "only of the one that asks for it");
    assert_eq!((told[0].run_id, told[0].late_cause), (Some(run.id), Some(LateCause::SlotsBusy)));
    assert_eq!(told[0].lag_ms, run.dispatched_at.map(|at| at - run.due_at));
    assert_eq!(told[0].worker.as_deref(), Some("worker"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_the_cause() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    worker.metric_reaches("worker_claims_total", r#"result="empty""#, 1.0).await;
    fixture.store.is_down.store(true, Ordering::SeqCst);
    let id = fixture.register_now("/a", json!({})).await;
    worker.metric_reaches("worker_claims_total", r#"result="error""#, 1.0).await;
    until_late(&fixture).await;
    fixture.store.is_down.store(false, Ordering::SeqCst);
    check_cause(&fixture, &worker, id, LateCause::DatabaseUnavailable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_hint_is_the_cause() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    worker.metric_reaches("worker_claims_total", r#"result="empty""#, 1.0).await;
    fixture.register(&[fixture.document("delay", "100000", "/later", json!({}))]).await;
    let document = fixture.document("now", "", "/a", json!({}));
    let registration = registration(&document.to_string(), 0);
    // Nobody tells the worker, until a monitor sees it.
    let id = fixture.store.schedule_upsert(&[registration]).await.unwrap().schedules[0].id;
    until_late(&fixture).await;
    fixture.bus.nudge().await.unwrap().expect("a wake state to repeat");
    check_cause(&fixture, &worker, id, LateCause::WokenLate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_the_claim_that_comes_late_is_the_cause() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    worker.metric_reaches("worker_claims_total", r#"result="empty""#, 1.0).await;
    fixture.store.holds_claims.send_replace(true);
    let id = fixture.register_now("/a", json!({})).await;
    until_late(&fixture).await;
    fixture.store.holds_claims.send_replace(false);
    check_cause(&fixture, &worker, id, LateCause::DispatchSlow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_has_passed_is_the_cause() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    worker.metric_reaches("worker_claims_total", r#"result="empty""#, 1.0).await;
    let past = fixture.document("date", "2020-02-02T02:02:02", "/a", json!({}));
    let id = fixture.register(&[past]).await[0];
    check_cause(&fixture, &worker, id, LateCause::RegisteredLate).await;
}
