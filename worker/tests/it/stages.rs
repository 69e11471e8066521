//! Stages of runs are told while somebody watches, and only then.

use reveille_shared::bus::stage::{RunStage, Stage, StageNews, StageWatch};
use reveille_shared::model::run::RunState;
use reveille_testkit::{Answer, eventually};
use serde_json::json;

use crate::fixture::{Fixture, LONG, settings};

/// The next stages that are told, so many.
async fn told(watch: &mut StageWatch, count: usize) -> Vec<RunStage> {
    let mut stages = Vec::new();
    while stages.len() < count {
        match tokio::time::timeout(LONG, watch.recv()).await.unwrap() {
            Some(StageNews::Told(batch)) => stages.extend(batch.iter().cloned()),
            other => unreachable!("{other:?}"),
        }
    }
    stages
}

fn words(stages: &[RunStage]) -> Vec<(Stage, RunState, i32, Option<&str>)> {
    stages.iter().map(|told| (told.stage, told.state, told.attempt, told.outcome.as_deref())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_told_from_claim_to_settle_with_who_registered_it() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    let mut watch = fixture.bus.stages_watch();
    let unseen = fixture.register_now("/unseen", json!({})).await;
    fixture.run_in(unseen, RunState::Succeeded).await;

    fixture.receiver.script("/flaky", [Answer::status(500), Answer::status(200)]);
    let mut document = fixture.document("now", "", "/flaky", json!({"failed_policy": "retry"}));
    document["client"] = json!({"application": "chef", "group": "system"});
    // The worker hears it before it hears of the run: one after the other on one subscription.
    fixture.bus.stages_want().await.unwrap();
    let id = fixture.register(&[document]).await[0];
    let stages = told(&mut watch, 6).await;
    let (run, _) = fixture.run_in(id, RunState::Succeeded).await;
    assert_eq!(
        words(&stages),
        [
            (Stage::Claimed, RunState::Running, 1, None),
            (Stage::Dispatched, RunState::Running, 1, None),
            (Stage::RetryArmed, RunState::Pending, 1, Some("http_status")),
            (Stage::Claimed, RunState::Running, 2, None),
            (Stage::Dispatched, RunState::Running, 2, None),
            (Stage::Settled, RunState::Succeeded, 2, Some("ok")),
        ]
    );
    for stage in &stages {
        assert_eq!((stage.run_id, stage.schedule_id), (run.id, id), "of the unseen run nothing was told");
        assert_eq!((stage.application.as_str(), stage.group.as_str()), ("chef", "system"));
    }
    assert_eq!(worker.metric("worker_stages_dropped_total", ""), 0.0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_claimed_unwatched_is_told_from_then_on() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    let mut watch = fixture.bus.stages_watch();
    fixture.receiver.script("/slow", [Answer::status(200).held()]);
    let slow = fixture.register_now("/slow", json!({})).await;
    eventually(LONG, "it is called", || async { fixture.receiver.in_flight("/slow") == 1 }).await;
    fixture.bus.stages_want().await.unwrap();
    fixture.register_now("/other", json!({})).await;
    let others = told(&mut watch, 3).await;
    assert!(others.iter().all(|stage| stage.schedule_id != slow), "{others:?}");
    fixture.receiver.release("/slow");
    let stages = told(&mut watch, 1).await;
    assert_eq!(words(&stages), [(Stage::Settled, RunState::Succeeded, 1, Some("ok"))]);
    assert_eq!(stages[0].schedule_id, slow);
    worker.stop().await;
}
