//! Pause, resume and trigger, on both databases.

use reveille_shared::model::run::RunState;
use reveille_shared::model::schedule::ScheduleState;
use reveille_shared::store::StoreError;
use uuid::Uuid;

use crate::store_conformance::{Fixture, START, cron, finish, now, registration};

#[tokio::test]
async fn sqlite_pauses_resumes_and_triggers() {
    pauses_resumes_and_triggers(Fixture::sqlite().await).await;
}

#[tokio::test]
async fn postgres_pauses_resumes_and_triggers() {
    pauses_resumes_and_triggers(Fixture::postgres().await).await;
}

async fn pauses_resumes_and_triggers(f: Fixture) {
    let id = f.register(registration("a", "1", cron(START + 10))).await;
    let triggered = f.store.schedule_trigger(id).await.unwrap();
    assert_eq!(triggered.due_at, START);
    let run = f.claim(5).await.runs.remove(0);
    assert_eq!((run.id, run.armed, run.series), (triggered.run_id, false, 1));
    f.settle(&run, finish(RunState::Succeeded, None)).await;
    assert_eq!(f.armed(id).await, Some(START + 10), "a trigger arms nothing and ends nothing");

    f.store.schedule_pause(id).await.unwrap();
    f.store.schedule_pause(id).await.unwrap();
    assert_eq!(f.armed(id).await, None);
    let paused = f.store.schedule_trigger(id).await.unwrap_err();
    assert!(matches!(paused, StoreError::WrongState(ScheduleState::Paused)), "{paused:?}");
    let replaced = f.store.schedule_upsert(&[registration("a", "2", cron(START + 20))]).await.unwrap();
    assert_eq!(replaced.armed_min, None, "paused it stays");
    let revision = replaced.schedules[0].revision;
    let moved = f.store.schedule_resume(id, revision - 1, &cron(START + 10)).await.unwrap_err();
    assert!(matches!(moved, StoreError::RevisionMoved), "an instant of the old timing must not fire: {moved:?}");
    assert_eq!(f.armed(id).await, None);
    assert_eq!(f.store.schedule_resume(id, revision, &cron(START + 20)).await.unwrap(), Some(START + 20));
    for revision in [revision, revision + 1] {
        let again = f.store.schedule_resume(id, revision, &cron(START + 30)).await.unwrap();
        assert_eq!(again, None, "active already");
    }

    f.now.advance(20);
    let run = f.claim(1).await.runs.remove(0);
    f.settle(&run, finish(RunState::Succeeded, None)).await;
    for outcome in [f.store.schedule_pause(id).await, f.store.schedule_resume(id, revision, &now()).await.map(|_| ())] {
        assert!(matches!(outcome, Err(StoreError::WrongState(ScheduleState::Finished))), "{outcome:?}");
    }
    let nobody = Uuid::now_v7();
    assert!(matches!(f.store.schedule_pause(nobody).await, Err(StoreError::NotFound)));
    assert!(matches!(f.store.schedule_resume(nobody, 1, &now()).await, Err(StoreError::NotFound)));
    assert!(matches!(f.store.schedule_trigger(nobody).await, Err(StoreError::NotFound)));
}
