//! What only PostgreSQL has to show: concurrent claimers, storms on the same schedules, statements whose
//! cost does not grow with the table, two starters that migrate at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use reveille_shared::model::run::{Exit, Outcome, OutcomeCode, RunState, Settlement, Successor};
use reveille_shared::model::schedule::{ClientKey, ScheduleState};
use reveille_shared::model::timing::{ArmAt, Arming, OnUnchanged};
use reveille_shared::store::{
    Claim, Page, Registration, ScheduleFilter, Selection, SettleResult, Store, StoreError, StoreSettings, open,
};
use reveille_testkit::Postgres;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

pub(crate) async fn store(url: &str) -> Arc<dyn Store> {
    let store = open(url, StoreSettings::default()).await.unwrap();
    store.migrate().await.unwrap();
    store
}

fn due_now(key: usize, version: usize) -> Registration {
    Registration {
        id: Uuid::now_v7(),
        client: ClientKey { key: key.to_string(), ..ClientKey::default() },
        name: String::new(),
        payload: "{}".to_owned(),
        fingerprint: version.to_string(),
        queue: "default".to_owned(),
        priority: 0,
        arming: Arming { at: ArmAt::AfterMs(0), calendar: false, unchanged: OnUnchanged::Keep },
        run_id: Uuid::now_v7(),
        history_check: false,
    }
}

fn claim(owner: &str, limit: i32, lease: Duration) -> Claim {
    Claim { limit, owner: owner.to_owned(), lease, queues: vec!["default".to_owned()] }
}

fn succeeded(run_id: Uuid, lease_token: i64, successor: Option<Successor>) -> Settlement {
    let outcome = Outcome::new(OutcomeCode::Ok, "");
    let exit = Exit::Finish { state: RunState::Succeeded, outcome, successor, coalesced: 0, skipped: 0, pauses: false };
    Settlement { run_id, lease_token, exit, attempt: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_starters_migrate_an_empty_database_at_once() {
    let url = Postgres::shared().await.fresh_database().await;
    let stores =
        [open(&url, StoreSettings::default()).await.unwrap(), open(&url, StoreSettings::default()).await.unwrap()];
    let (first, second) = tokio::join!(stores[0].migrate(), stores[1].migrate());
    first.unwrap();
    second.unwrap();
    assert_eq!(stores[0].epoch_next().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn four_claimers_share_what_is_due_and_every_run_is_settled_once() {
    const RUNS: usize = 3_000;
    let store = store(&Postgres::shared().await.fresh_database().await).await;
    for chunk in (0..RUNS).collect::<Vec<_>>().chunks(500) {
        let batch: Vec<Registration> = chunk.iter().map(|key| due_now(*key, 0)).collect();
        store.schedule_upsert(&batch).await.unwrap();
    }
    let mut claimers = JoinSet::new();
    for claimer in 0..4 {
        let store = store.clone();
        claimers.spawn(async move {
            let (mut tokens, mut settled) = (Vec::new(), Vec::new());
            loop {
                // Short leases: some expire while others are still settling, which is the point.
                let lease = Duration::from_millis(if claimer == 0 { 1 } else { 30_000 });
                let claimed = store.run_claim(&claim(&claimer.to_string(), 50, lease)).await.unwrap();
                if claimed.runs.is_empty() {
                    return (tokens, settled);
                }
                tokens.extend(claimed.runs.iter().map(|run| (run.id, run.lease_token)));
                let mut batch: Vec<Settlement> =
                    claimed.runs.iter().map(|run| succeeded(run.id, run.lease_token, None)).collect();
                // What another claimer is about to settle is held for a moment.
                while !batch.is_empty() {
                    let answer = store.run_settle(&batch).await.unwrap();
                    let mut results = answer.results.into_iter();
                    batch.retain(|settlement| {
                        let result = results.next().unwrap();
                        settled.extend(matches!(result, SettleResult::Done(_)).then_some(settlement.run_id));
                        result == SettleResult::Held
                    });
                }
            }
        });
    }
    let (mut tokens, mut settled) = (HashSet::new(), HashMap::<Uuid, usize>::new());
    while let Some(answer) = claimers.join_next().await {
        let (taken, done) = answer.unwrap();
        for pair in taken {
            assert!(tokens.insert(pair), "one run claimed twice under one token");
        }
        for id in done {
            *settled.entry(id).or_default() += 1;
        }
    }
    assert_eq!(settled.len(), RUNS, "every run is settled");
    assert!(settled.values().all(|times| *times == 1), "and once");
}

#[tokio::test(flavor = "multi_thread")]
async fn storms_on_the_same_schedules_leave_each_with_one_armed_run() {
    const SCHEDULES: usize = 3;
    const ROUNDS: usize = 60;
    let store = store(&Postgres::shared().await.fresh_database().await).await;
    let mut storm = JoinSet::new();
    for caller in 0..6 {
        let store = store.clone();
        storm.spawn(async move {
            for round in 0..ROUNDS {
                let schedule = (caller + round) % SCHEDULES;
                let upserted = store.schedule_upsert(&[due_now(schedule, caller * ROUNDS + round)]).await.unwrap();
                let (id, revision) = (upserted.schedules[0].id, upserted.schedules[0].revision);
                let outcome = match caller {
                    0 if round % 5 == 0 => store.schedule_delete(&Selection::Id(id)).await.map(|_| ()),
                    1 if round % 3 == 0 => store.schedule_pause(id).await,
                    1 | 2 => store.schedule_resume(id, revision, &due_now(0, 0).arming).await.map(|_| ()),
                    3 => store.schedule_trigger(id).await.map(|_| ()),
                    _ => Ok(()),
                };
                // Somebody else may have deleted, paused or finished it in between.
                assert!(
                    matches!(
                        outcome,
                        Ok(()) | Err(StoreError::NotFound | StoreError::WrongState(_) | StoreError::RevisionMoved)
                    ),
                    "{caller} {round}: {outcome:?}"
                );
            }
        });
    }
    for worker in 0..2 {
        let store = store.clone();
        storm.spawn(async move {
            for _ in 0..ROUNDS {
                let claimed = store.run_claim(&claim(&worker.to_string(), 4, Duration::from_secs(30))).await.unwrap();
                let batch: Vec<Settlement> = claimed
                    .runs
                    .iter()
                    .map(|run| succeeded(run.id, run.lease_token, run.armed.then_some(Successor::AfterMs(0))))
                    .collect();
                store.run_settle(&batch).await.unwrap();
            }
        });
    }
    while let Some(outcome) = storm.join_next().await {
        outcome.unwrap();
    }
    assert_eq!(store.schedule_dry().await.unwrap(), Vec::<Uuid>::new());
    let filter =
        ScheduleFilter { client: ClientKey::default(), states: vec![ScheduleState::Active, ScheduleState::Paused] };
    for schedule in store.schedule_list(&filter, &Page { after: None, limit: 100 }).await.unwrap() {
        let runs = store.run_list(schedule.id, None, 10_000).await.unwrap();
        let armed = runs.iter().filter(|run| run.armed && run.state == RunState::Pending).count();
        assert_eq!(armed, usize::from(schedule.state == ScheduleState::Active), "{schedule:?}");
    }
}

/// Shared buffers a statement touches, whether they were cached or not: exact, whatever the machine does.
pub(crate) async fn buffers(
    connection: &mut PgConnection,
    statement: &str,
    name: &str,
    types: &str,
    values: &str,
) -> i64 {
    let list = |text: &str| if text.is_empty() { String::new() } else { format!("({text})") };
    let prepare = format!("PREPARE {name} {} AS {statement}", list(types));
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *connection).await.unwrap();
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {name} {}", list(values));
    let mut plan = Value::Null;
    // The first execution in a session reads the catalogue as well.
    for _ in 0..2 {
        sqlx::raw_sql("BEGIN").execute(&mut *connection).await.unwrap();
        plan = sqlx::query_scalar(sqlx::AssertSqlSafe(explain.clone())).fetch_one(&mut *connection).await.unwrap();
        sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await.unwrap();
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DEALLOCATE {name}"))).execute(&mut *connection).await.unwrap();
    let root = &plan[0]["Plan"];
    root["Shared Hit Blocks"].as_i64().unwrap() + root["Shared Read Blocks"].as_i64().unwrap()
}

/// What a database refuses of one member is told apart from its being away: the others can be written without it.
#[tokio::test]
async fn a_refusal_that_may_be_of_one_is_told_from_an_outage() {
    let url = Postgres::shared().await.fresh_database().await;
    let store = store(&url).await;
    store.schedule_upsert(&[due_now(1, 1)]).await.unwrap();

    let unwritable = Registration { name: "\0".to_owned(), ..due_now(2, 1) };
    let refusal = store.schedule_upsert(&[due_now(3, 1), unwritable]).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Broken(_)) && refusal.may_be_of_one(), "{refusal:?}");

    let mut somebody = PgConnection::connect(&url).await.unwrap();
    let mut holds = somebody.begin().await.unwrap();
    sqlx::query("SELECT id FROM schedules FOR UPDATE").execute(&mut *holds).await.unwrap();
    let refusal = store.schedule_upsert(&[due_now(1, 2), due_now(3, 1)]).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Unavailable(_)) && refusal.may_be_of_one(), "{refusal:?}");
    store.schedule_upsert(&[due_now(3, 1)]).await.unwrap();
    holds.rollback().await.unwrap();

    store.close().await;
    let outage = store.schedule_upsert(&[due_now(1, 2), due_now(3, 1)]).await.unwrap_err();
    assert!(matches!(outage, StoreError::Unavailable(_)) && !outage.may_be_of_one(), "{outage:?}");
}
