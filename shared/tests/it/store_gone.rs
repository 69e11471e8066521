//! A settlement that pauses the schedule, on both databases.

use reveille_shared::model::run::{ClaimedRun, Exit, Outcome, OutcomeCode, RunState, Settlement, Successor};
use reveille_shared::model::schedule::ScheduleState;
use reveille_shared::store::SettleResult;

use crate::store_conformance::{Fixture, START, cron, finish, registration};

/// Makes each of these bodies a test on both databases.
macro_rules! on_both {
    ($($body:ident),* $(,)?) => {
        mod sqlite { $(#[tokio::test] async fn $body() { super::$body(super::Fixture::sqlite().await).await; })* }
        mod postgres { $(#[tokio::test] async fn $body() { super::$body(super::Fixture::postgres().await).await; })* }
    };
}

on_both! {
    a_target_that_is_gone_pauses_the_schedule_in_the_same_commit,
}

fn gone() -> Exit {
    let outcome = Outcome { http_status: Some(410), ..Outcome::new(OutcomeCode::HttpStatus, "gone") };
    Exit::Finish { state: RunState::Failed, outcome, successor: None, coalesced: 0, skipped: 0, pauses: true }
}

async fn a_target_that_is_gone_pauses_the_schedule_in_the_same_commit(f: Fixture) {
    let id = f.register(registration("a", "1", cron(START))).await;
    let run = f.claim(1).await.runs.remove(0);
    f.now.advance(7);
    let settled = f.settle(&run, gone()).await;
    assert_eq!((settled.results[0], settled.armed_min), (SettleResult::Done(RunState::Failed), None));
    let schedule = f.store.schedule_get(id).await.unwrap().unwrap();
    assert_eq!((schedule.state, schedule.revision, schedule.updated_at), (ScheduleState::Paused, 2, START + 7));
    let (row, attempts) = f.store.run_get(run.id).await.unwrap().unwrap();
    assert_eq!((row.state, row.http_status, attempts.len()), (RunState::Failed, Some(410), 1));
    assert_eq!(
        f.settle(&run, gone()).await.results,
        [SettleResult::Done(RunState::Failed)],
        "a copy does nothing more"
    );
    assert_eq!(f.store.schedule_get(id).await.unwrap().unwrap().revision, 2);
    assert_eq!(f.resume(id, &cron(START + 10)).await.unwrap(), Some(START + 10));

    // A triggered run says the same: what is armed goes, and a sibling of the same batch arms nothing.
    let triggered = f.store.schedule_trigger(id).await.unwrap().run_id;
    f.now.advance(10);
    let runs = f.claim(2).await.runs;
    let settlement = |run: &ClaimedRun| {
        let exit = match run.id == triggered {
            true => gone(),
            false => finish(RunState::Succeeded, Some(Successor::At(START + 99))),
        };
        Settlement { run_id: run.id, lease_token: run.lease_token, exit, attempt: None }
    };
    let mut batch: Vec<Settlement> = runs.iter().map(settlement).collect();
    batch.sort_by_key(|settlement| settlement.exit.pauses());
    let settled = f.store.run_settle(&batch).await.unwrap();
    let done = [RunState::Succeeded, RunState::Failed].map(SettleResult::Done);
    assert_eq!((settled.results, settled.armed_min), (done.to_vec(), None));
    let schedule = f.store.schedule_get(id).await.unwrap().unwrap();
    assert_eq!((schedule.state, schedule.revision, schedule.iterations), (ScheduleState::Paused, 4, 1));
    assert_eq!(f.armed(id).await, None);
    f.resume(id, &cron(START + 200)).await.unwrap();
    f.store.schedule_trigger(id).await.unwrap();
    let run = f.claim(1).await.runs.remove(0);
    f.settle(&run, gone()).await;
    assert_eq!(f.armed(id).await, None, "what was armed for later is gone with it");

    // Fenced: not by a stale token, and not once the schedule has moved on.
    f.resume(id, &cron(START + 300)).await.unwrap();
    f.now.set(START + 300);
    let run = f.claim(1).await.runs.remove(0);
    let stale = ClaimedRun { lease_token: run.lease_token - 1, ..run.clone() };
    assert_eq!(f.settle(&stale, gone()).await.results, [SettleResult::Stale]);
    f.register(registration("a", "2", cron(START + 400))).await;
    f.settle(&run, gone()).await;
    let schedule = f.store.schedule_get(id).await.unwrap().unwrap();
    assert_eq!((schedule.state, f.armed(id).await), (ScheduleState::Active, Some(START + 400)));
}
