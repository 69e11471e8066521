//! A target that cannot be connected to: its runs wait and lose nothing, others do not wait for it.

use redis::{Client, cmd};
use reveille_shared::model::ScheduleId;
use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_testkit::{Answer, Receiver, Redis, eventually, free_port};
use serde_json::json;

use crate::fixture::{Fixture, LONG, Worker, settings};

/// More than fail before the breaker opens.
const RUNS: usize = 6;

async fn all_succeed(fixture: &Fixture, worker: &Worker, schedules: &[ScheduleId]) {
    for schedule in schedules {
        let (run, attempts) = fixture.run_in(*schedule, RunState::Succeeded).await;
        assert!(attempts.iter().all(|attempt| attempt.outcome == OutcomeCode::Connect), "{attempts:?}");
        assert_eq!(usize::try_from(run.attempt).unwrap(), attempts.len() + 1, "only what was tried counts");
    }
    eventually(LONG, "the breaker closes", || async { worker.metric("worker_breaker_open", "") == 0.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_wait_for_a_target_that_is_away_and_one_of_them_probes() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    let port = free_port();
    let paths: Vec<_> = (0..RUNS).map(|number| format!("/{number}")).collect();
    let documents = paths.iter().map(|path| {
        let host = format!("http://user:secret@127.0.0.1:{port}{path}");
        fixture.document("now", "", path, json!({"connection": {"host": host}, "failed_policy": "retry"}))
    });
    let ids = fixture.register(&documents.collect::<Vec<_>>()).await;
    let postponed = r#"target="rest",outcome="postponed""#;
    worker.metric_reaches("worker_runs_total", postponed, 1.0).await;
    assert_eq!(worker.metric("worker_breaker_open", ""), 1.0, "one server, whatever the path");

    let other = fixture.register_now("/other", json!({})).await;
    fixture.run_in(other, RunState::Succeeded).await;

    let target = Receiver::start_on(port).await;
    paths.iter().for_each(|path| target.script(path, [Answer::ok().held(), Answer::ok()]));
    target.wait_for(1, LONG).await;
    let so_far = worker.metric("worker_runs_total", postponed);
    worker.metric_reaches("worker_runs_total", postponed, so_far + RUNS as f64).await;
    assert_eq!(target.count(), 1, "the others wait for the one that probes");
    eventually(LONG, "all are let go", || async {
        paths.iter().for_each(|path| target.release(path));
        target.count() == RUNS && paths.iter().all(|path| target.in_flight(path) == 0)
    })
    .await;
    all_succeed(&fixture, &worker, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_is_waited_for_as_well() {
    let (fixture, server) = (Fixture::new().await, Redis::start().await);
    let worker = fixture.worker(settings());
    server.kill();
    let task = json!({
        "type": "redis", "failed_policy": "retry",
        "connection": {"host": server.url(), "topic": "q", "mode": "list"},
    });
    let ids = fixture.register(&[fixture.document("now", "", "/", task)]).await;
    worker.metric_reaches("worker_runs_total", r#"target="redis",outcome="postponed""#, 1.0).await;
    server.restart().await;
    all_succeed(&fixture, &worker, &ids).await;
    let mut redis = Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let length: usize = cmd("LLEN").arg("q").query_async(&mut redis).await.unwrap();
    assert_eq!(length, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_missing_here_is_no_sign_that_the_target_is_away() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(settings());
    let task = json!({"connection": {"headers": {"Authorization": "secret://missing"}}, "failed_policy": "retry"});
    fixture.register_now("/without", task).await;
    worker.metric_reaches("worker_runs_total", r#"outcome="connect""#, RUNS as f64).await;
    assert_eq!(worker.metric("worker_breaker_open", ""), 0.0);
    let other = fixture.register_now("/with", json!({})).await;
    fixture.run_in(other, RunState::Succeeded).await;
}
