//! Targets that accept and never answer: others do not wait for them, they are attempted all the same, and one that
//! recovers gets everything at once.

use reveille_shared::model::lateness::LateCause;
use reveille_shared::model::run::RunState;
use reveille_testkit::{Answer, Receiver, eventually};
use reveille_worker::Settings;
use serde_json::{Value, json};

use crate::fixture::{Fixture, LONG, settings};

/// Documents that call `path` of this receiver and give it all the time a test has.
fn calls(fixture: &Fixture, receiver: &Receiver, path: &str, runs: usize) -> Vec<Value> {
    let task = json!({"connection": {"host": receiver.url(path)}, "timeout": 600});
    (0..runs).map(|_| fixture.document("now", "", path, task.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hung_target_leaves_slots_to_a_healthy_one_and_gets_them_back_when_it_recovers() {
    let (fixture, hung) = (Fixture::new().await, Receiver::start().await);
    hung.script("/hung", [Answer::hang()]);
    let worker = fixture.worker(Settings { concurrency: 32, ..settings() });
    let stuck = fixture.register(&calls(&fixture, &hung, "/hung", 100)).await;
    worker.metric_reaches("worker_runs_total", r#"outcome="congested""#, 90.0).await;
    assert_eq!(worker.metric("worker_targets_congested", ""), 1.0);
    assert!((4..=8).contains(&hung.in_flight("/hung")), "{} are in flight", hung.in_flight("/hung"));

    let healthy = fixture.register(&calls(&fixture, &fixture.receiver, "/healthy", 50)).await;
    for schedule in healthy {
        fixture.run_in(schedule, RunState::Succeeded).await;
    }
    assert!(hung.in_flight("/hung") > 0, "it is attempted all the while");

    eventually(LONG, "one waited for long enough to be late", || async {
        let mut late = false;
        for schedule in &stuck {
            late |= fixture.runs(*schedule).await[0].late_cause == Some(LateCause::TargetCongested);
        }
        late
    })
    .await;
    hung.script("/hung", [Answer::ok()]);
    hung.release("/hung");
    for schedule in stuck {
        let (run, attempts) = fixture.run_in(schedule, RunState::Succeeded).await;
        assert_eq!((run.attempt, attempts.len()), (1, 0), "nothing is used up by waiting");
    }
    assert_eq!(hung.count(), 100, "and nobody is called twice");
    assert_eq!(worker.metric("worker_targets_congested", ""), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_hung_targets_leave_slots_to_a_healthy_one_and_each_is_attempted() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(Settings { concurrency: 64, ..settings() });
    let mut hung = Vec::new();
    let mut documents = Vec::new();
    for _ in 0..20 {
        let receiver = Receiver::start().await;
        receiver.script("/hung", [Answer::hang()]);
        documents.extend(calls(&fixture, &receiver, "/hung", 10));
        hung.push(receiver);
    }
    fixture.register(&documents).await;
    worker.metric_reaches("worker_runs_total", r#"outcome="congested""#, 100.0).await;
    let healthy = fixture.register(&calls(&fixture, &fixture.receiver, "/healthy", 50)).await;
    for schedule in healthy {
        fixture.run_in(schedule, RunState::Succeeded).await;
    }
    eventually(LONG, "each is attempted", || async { hung.iter().all(|hung| hung.count() > 0) }).await;
    assert!(hung.iter().all(|hung| hung.in_flight("/hung") == hung.count()), "none of them answers");
}
