//! A schedule with one occurrence is over when its run is, which only the run says: what waits for the schedule's lock
//! while the run ends has to see it all the same.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::model::run::{Exit, Outcome, OutcomeCode, RunState, Settlement};
use reveille_shared::model::schedule::{ClientKey, ScheduleState};
use reveille_shared::model::timing::{ArmAt, Arming, OnUnchanged};
use reveille_shared::store::{Claim, Registration, Store, StoreError};
use reveille_testkit::{Postgres, eventually};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::store_postgres::store;

fn now_document(version: &str) -> Registration {
    Registration {
        id: Uuid::now_v7(),
        client: ClientKey { key: "once".to_owned(), ..ClientKey::default() },
        name: String::new(),
        payload: "{}".to_owned(),
        fingerprint: version.to_owned(),
        queue: "default".to_owned(),
        priority: 0,
        arming: Arming { at: ArmAt::AfterMs(0), calendar: false, unchanged: OnUnchanged::Rearm },
        run_id: Uuid::now_v7(),
        history_check: false,
    }
}

/// Starts `change` while a settle that has locked the schedule waits for the run, which is locked by `blocker`. When the
/// change waits for the schedule, the settle is let through. Answers what came of the change.
async fn during_the_settle<T, F>(
    change: impl FnOnce(Arc<dyn Store>, Uuid) -> F,
) -> (Arc<dyn Store>, Uuid, Result<T, StoreError>)
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    let url = Postgres::shared().await.fresh_database().await;
    let store = store(&url).await;
    let id = store.schedule_upsert(&[now_document("1")]).await.unwrap().schedules[0].id;
    let claim =
        Claim { limit: 1, owner: "w".to_owned(), lease: Duration::from_secs(30), queues: vec!["default".to_owned()] };
    let run = store.run_claim(&claim).await.unwrap().runs.remove(0);

    let mut blocker = PgConnection::connect(&url).await.unwrap();
    let mut watcher = PgConnection::connect(&url).await.unwrap();
    let lock = format!("BEGIN; SELECT 1 FROM runs WHERE id = '{}' FOR UPDATE", run.id);
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut blocker).await.unwrap();
    let settling = store.clone();
    let (mut settles, mut changes) = (JoinSet::new(), JoinSet::new());
    settles.spawn(async move {
        let outcome = Outcome::new(OutcomeCode::Ok, "");
        let (state, successor) = (RunState::Succeeded, None);
        let exit = Exit::Finish { state, outcome, successor, coalesced: 0, skipped: 0, pauses: false };
        settling.run_settle(&[Settlement { run_id: run.id, lease_token: run.lease_token, exit, attempt: None }]).await
    });
    waiting(&mut watcher, 1).await;
    changes.spawn(change(store.clone(), id));
    waiting(&mut watcher, 2).await;
    sqlx::raw_sql("COMMIT").execute(&mut blocker).await.unwrap();
    settles.join_next().await.unwrap().unwrap().unwrap();
    let changed = changes.join_next().await.unwrap().unwrap();
    (store, id, changed)
}

/// Until so many statements wait for a lock.
async fn waiting(watcher: &mut PgConnection, statements: i64) {
    let watcher = tokio::sync::Mutex::new(watcher);
    eventually(Duration::from_secs(10), "the statement waits for a lock", || async {
        let count =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let found: i64 = sqlx::query_scalar(count).fetch_one(&mut **watcher.lock().await).await.unwrap();
        found == statements
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_waits_for_the_settle_finds_it_finished() {
    let (store, id, paused) = during_the_settle(|store, id| async move { store.schedule_pause(id).await }).await;
    assert!(matches!(paused, Err(StoreError::WrongState(ScheduleState::Finished))), "{paused:?}");
    let row = store.schedule_get(id).await.unwrap().unwrap();
    assert_eq!((row.state, row.iterations, row.revision), (ScheduleState::Finished, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_waits_for_the_settle_counts_its_success() {
    let again = |store: Arc<dyn Store>, _| async move { store.schedule_upsert(&[now_document("2")]).await };
    let (store, id, upserted) = during_the_settle(again).await;
    assert_eq!(upserted.unwrap().schedules[0].id, id);
    let row = store.schedule_get(id).await.unwrap().unwrap();
    assert_eq!((row.state, row.iterations, row.revision), (ScheduleState::Active, 1, 2));
    assert_eq!(row.current.unwrap().state, RunState::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_waits_for_the_settle_makes_its_row_say_that_it_is_over() {
    let trigger = |store: Arc<dyn Store>, id| async move { store.schedule_trigger(id).await };
    let (store, id, triggered) = during_the_settle(trigger).await;
    triggered.unwrap();
    let row = store.schedule_get(id).await.unwrap().unwrap();
    assert_eq!((row.state, row.iterations), (ScheduleState::Finished, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_waits_for_the_settle_counts_its_success() {
    let update = |store: Arc<dyn Store>, id| async move {
        store.schedule_update(&Registration { id, ..now_document("2") }).await
    };
    let (store, id, updated) = during_the_settle(update).await;
    updated.unwrap();
    let row = store.schedule_get(id).await.unwrap().unwrap();
    assert_eq!((row.state, row.iterations, row.revision), (ScheduleState::Active, 1, 2));
}
