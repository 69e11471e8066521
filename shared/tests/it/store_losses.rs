//! Ways in which a store could lose a run or make two of one, on both databases. Each was possible once.

use reveille_shared::model::run::{RunState, Successor};
use reveille_shared::model::schedule::ScheduleState;
use reveille_shared::store::{Registration, StoreError};

use crate::store_conformance::{Fixture, START, cron, finish, now, on_both, registration, retry};

on_both! {
    a_taken_occurrence_costs_none_of_those_to_come,
    a_calendar_goes_on_after_all_it_has_run,
    a_finished_schedule_stays_while_a_run_of_it_is_open,
    a_one_shot_goes_with_its_run,
    a_one_shot_stays_while_what_was_triggered_before_its_end_is_open,
    what_goes_on_is_not_pruned_with_its_old_runs,
}

/// The registration computed its first instant, and before it was written the instant had been run and the next one
/// armed: that next one is the registration's.
async fn a_taken_occurrence_costs_none_of_those_to_come(f: Fixture) {
    let year = START + 31_536_000_000;
    let id = f.register(registration("a", "1", cron(START))).await;
    let run = f.claim(1).await.runs.remove(0);
    f.settle(&run, finish(RunState::Succeeded, Some(Successor::At(year)))).await;
    let upsert = f.store.schedule_upsert(&[registration("a", "2", cron(START))]).await.map(drop);
    let update = Registration { id, ..registration("a", "2", cron(START)) };
    let update = f.store.schedule_update(&update).await.map(drop);
    for refusal in [upsert, update] {
        assert!(matches!(refusal, Err(StoreError::OccurrenceTaken { latest: START })), "{refusal:?}");
    }
    f.register(registration("a", "2", cron(year))).await;
    assert_eq!(f.armed(id).await, Some(year));
}

/// After the clock was set back an instant may be free that others, already run, come after: armed there, the schedule
/// would meet one of those and end without a successor.
async fn a_calendar_goes_on_after_all_it_has_run(f: Fixture) {
    let id = f.register(registration("a", "1", cron(START + 100))).await;
    for (at, next) in [(START + 100, START + 200), (START + 200, START + 300)] {
        f.now.set(at);
        let run = f.claim(1).await.runs.remove(0);
        f.settle(&run, finish(RunState::Succeeded, Some(Successor::At(next)))).await;
    }
    f.now.set(START);
    let early = || registration("a", "2", cron(START + 50));
    let upsert = f.store.schedule_upsert(&[early()]).await.map(drop);
    let update = f.store.schedule_update(&Registration { id, ..early() }).await.map(drop);
    f.store.schedule_pause(id).await.unwrap();
    let resume = f.resume(id, &cron(START + 50)).await.map(drop);
    for refusal in [upsert, update, resume] {
        assert!(matches!(refusal, Err(StoreError::OccurrenceTaken { latest }) if latest == START + 200), "{refusal:?}");
    }
    f.resume(id, &cron(START + 300)).await.unwrap();
    assert_eq!(f.armed(id).await, Some(START + 300));
}

async fn a_finished_schedule_stays_while_a_run_of_it_is_open(f: Fixture) {
    let id = f.register(registration("a", "1", now())).await;
    let run = f.claim(1).await.runs.remove(0);
    f.settle(&run, finish(RunState::Succeeded, None)).await;
    f.now.advance(59_999);
    f.store.schedule_trigger(id).await.unwrap();
    for (wait_ms, exit) in [(1, retry(200_000)), (200_000, finish(RunState::Succeeded, None))] {
        f.now.advance(wait_ms);
        f.store.prune(10).await.unwrap();
        let run = f.claim(1).await.runs.remove(0);
        assert_eq!(run.schedule.as_ref().unwrap().state, ScheduleState::Finished, "the run has its definition");
        let next_prune = f.store.wake_forecast().await.unwrap().1.next_prune.unwrap();
        assert!(next_prune > f.now.get(), "what has to stay is not looked at again and again");
        f.settle(&run, exit).await;
    }
    while f.store.wake_forecast().await.unwrap().1.next_prune.is_some() {
        f.now.advance(60_000);
        f.store.prune(10).await.unwrap();
    }
    assert!(f.store.schedule_get(id).await.unwrap().is_none(), "nothing is open any more");
}

async fn a_one_shot_goes_with_its_run(f: Fixture) {
    let id = f.register(registration("a", "1", now())).await;
    let run = f.claim(1).await.runs.remove(0);
    f.settle(&run, finish(RunState::Succeeded, None)).await;
    f.now.advance(60_000);
    assert_eq!(f.store.prune(10).await.unwrap(), 2, "the run and its schedule");
    assert!(f.store.schedule_get(id).await.unwrap().is_none());
}

/// Nothing but the run that is pruned says that the schedule is over, and how.
async fn a_one_shot_stays_while_what_was_triggered_before_its_end_is_open(f: Fixture) {
    let id = f.register(registration("a", "1", now())).await;
    let armed = f.claim(1).await.runs.remove(0);
    let triggered = f.store.schedule_trigger(id).await.unwrap();
    f.settle(&armed, finish(RunState::Succeeded, None)).await;
    f.now.advance(60_000);
    assert_eq!(f.store.prune(10).await.unwrap(), 1, "the run");
    let row = f.store.schedule_get(id).await.unwrap().unwrap();
    assert_eq!((row.state, row.iterations), (ScheduleState::Finished, 1));
    assert!(f.store.schedule_dry().await.unwrap().is_empty());
    let run = f.claim(1).await.runs.remove(0);
    assert_eq!((run.id, run.schedule.is_some()), (triggered.run_id, true));
}

/// A one-shot that an older version registered anew as something that recurs still counts as one.
async fn what_goes_on_is_not_pruned_with_its_old_runs(f: Fixture) {
    let id = f.register(registration("a", "1", now())).await;
    let run = f.claim(1).await.runs.remove(0);
    f.settle(&run, finish(RunState::Succeeded, Some(Successor::At(START + 90_000)))).await;
    f.now.advance(60_000);
    assert_eq!(f.store.prune(10).await.unwrap(), 1, "the run");
    let row = f.store.schedule_get(id).await.unwrap().unwrap();
    assert_eq!((row.state, row.iterations), (ScheduleState::Active, 1));
    assert_eq!(f.armed(id).await, Some(START + 90_000));
}
