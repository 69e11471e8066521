//! PostgreSQL that goes away and comes back: connections that fall silent or break, a server that may not be written to
//! any more, rows that somebody else holds, plans that do not hold any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reveille_shared::model::run::{Exit, Outcome, OutcomeCode, RunState, Settlement};
use reveille_shared::store::{Claim, Claimed, Renewal, SettleResult, Store, StoreError, StoreSettings, open};
use reveille_testkit::{PgBouncer, Postgres, Relay};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::JoinSet;

use crate::store_conformance::{now, registration};

const DEADLINE: Duration = Duration::from_secs(1);

async fn store(url: &str) -> Arc<dyn Store> {
    let store = open(url, StoreSettings { deadline: DEADLINE, ..StoreSettings::default() }).await.unwrap();
    store.migrate().await.unwrap();
    store
}

/// As many connections as calls at once.
async fn fill(store: &Arc<dyn Store>, calls: usize) {
    let mut together = JoinSet::new();
    for _ in 0..calls {
        let store = store.clone();
        together.spawn(async move { store.ping().await });
    }
    while let Some(answer) = together.join_next().await {
        answer.unwrap().unwrap();
    }
}

async fn run(url: &str, statement: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// The same database by way of `port`.
fn by_way_of(url: &str, port: u16) -> String {
    let (_, database) = url.rsplit_once('/').unwrap();
    format!("postgres://postgres@127.0.0.1:{port}/{database}")
}

async fn claim(store: &Arc<dyn Store>, limit: i32, lease: Duration) -> Claimed {
    let claim = Claim { limit, owner: "w".to_owned(), lease, queues: vec!["default".to_owned()] };
    store.run_claim(&claim).await.unwrap()
}

/// Settlements of so many runs of schedules of their own, in the order of their keys.
async fn claimed(store: &Arc<dyn Store>, runs: usize) -> Vec<Settlement> {
    for key in 0..runs {
        store.schedule_upsert(&[registration(&key.to_string(), "1", now())]).await.unwrap();
    }
    let mut claimed = claim(store, 100, Duration::from_secs(30)).await.runs;
    claimed.sort_by_key(|run| run.schedule_id);
    let outcome = Outcome::new(OutcomeCode::Ok, "");
    let exit =
        Exit::Finish { state: RunState::Succeeded, outcome, successor: None, coalesced: 0, skipped: 0, pauses: false };
    let settlement = |run: &reveille_shared::model::run::ClaimedRun| Settlement {
        run_id: run.id,
        lease_token: run.lease_token,
        exit: exit.clone(),
        attempt: None,
    };
    claimed.iter().map(settlement).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_cost_one_deadline_and_not_one_each() {
    let postgres = Postgres::shared().await;
    let relay = Relay::to(postgres.port()).await;
    let store = store(&by_way_of(&postgres.fresh_database().await, relay.port())).await;
    fill(&store, 5).await;
    relay.silence();
    let began = Instant::now();
    let error = store.ping().await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(_)), "{error:?}");
    assert!(began.elapsed() < 3 * DEADLINE, "{:?}", began.elapsed());
    for _ in 0..5 {
        store.ping().await.expect("its elders were thrown away with it");
    }
    assert_eq!(store.failing_for(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_given_up_takes_its_silent_connection_with_it() {
    let postgres = Postgres::shared().await;
    let relay = Relay::to(postgres.port()).await;
    let url = by_way_of(&postgres.fresh_database().await, relay.port());
    let settings = StoreSettings { deadline: Duration::from_secs(60), connections: 2, ..StoreSettings::default() };
    let store = open(&url, settings).await.unwrap();
    store.migrate().await.unwrap();
    fill(&store, 2).await;
    relay.silence();
    // As a leader does that has to show that it lives.
    assert!(tokio::time::timeout(Duration::from_millis(1200), store.ping()).await.is_err());
    store.ping().await.expect("nobody waits behind it");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_no_dead_connection_costs_a_caller_his_answer() {
    let postgres = Postgres::start().await;
    let store = store(&postgres.fresh_database().await).await;
    fill(&store, 10).await;
    postgres.restart().await;
    for call in 0..20 {
        store.ping().await.unwrap_or_else(|error| panic!("call {call}: {error:?}"));
    }
    fill(&store, 10).await;
    postgres.restart().await;
    let one = [registration("a", "1", now())];
    assert_eq!(store.schedule_upsert(&one).await.unwrap().schedules[0].revision, 1, "writes are repeated as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_demoted_is_left_for_the_one_that_takes_writes() {
    let (old, new) = (Postgres::start().await, Postgres::start().await);
    let relay = Relay::to(old.port()).await;
    let url = old.fresh_database().await;
    let name = url.rsplit_once('/').unwrap().1;
    run(&new.url("postgres"), &format!("CREATE DATABASE {name}")).await;
    store(&new.url(name)).await.close().await;
    let store = store(&by_way_of(&url, relay.port())).await;
    fill(&store, 5).await;
    run(&old.url("postgres"), "ALTER SYSTEM SET default_transaction_read_only = on").await;
    run(&old.url("postgres"), "SELECT pg_reload_conf()").await;
    relay.lead_to(new.port());
    for key in 0..5 {
        store.schedule_upsert(&[registration(&key.to_string(), "1", now())]).await.expect("the other one takes it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_hosts_the_one_that_takes_writes_is_used() {
    let (standby, primary) =
        (Postgres::start_with(&["default_transaction_read_only=on"]).await, Postgres::start().await);
    let hosts = format!("127.0.0.1:1,127.0.0.1:{},127.0.0.1:{}", standby.port(), primary.port());
    let store = store(&format!("postgres://postgres@{hosts}/postgres?target_session_attrs=read-write")).await;
    store.schedule_upsert(&[registration("a", "1", now())]).await.unwrap();
    primary.kill();
    let error = store.ping().await.unwrap_err();
    let StoreError::Unavailable(cause) = &error else { panic!("{error:?}") };
    let text = cause.to_string();
    assert!(text.contains("refused") && text.contains("takes no writes"), "{text}");
    assert!(error.is_passing(), "one of them may come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_serve_is_refused_in_words() {
    let refused = async |url: String| {
        let store = open(&url, StoreSettings::default()).await.unwrap();
        let error = store.migrate().await.unwrap_err();
        assert!(!error.is_passing(), "{error:?}");
        let StoreError::Unavailable(cause) = error else { panic!("{error:?}") };
        cause.to_string()
    };
    let standby = Postgres::start_with(&["default_transaction_read_only=on"]).await;
    let text = refused(standby.url("postgres")).await;
    assert!(text.contains("takes no writes"), "{text}");
    let postgres = Postgres::start().await;
    run(&postgres.url("postgres"), "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0").await;
    let text = refused(postgres.url("latin")).await;
    assert!(text.contains("LATIN1") && text.contains("UTF8"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_somebody_holds_does_not_hold_up_the_others() {
    let url = Postgres::shared().await.fresh_database().await;
    let store = store(&url).await;
    let batch = claimed(&store, 3).await;
    let mut somebody = PgConnection::connect(&url).await.unwrap();
    let mut held = somebody.begin().await.unwrap();
    let lock = "SELECT 1 FROM schedules s JOIN runs r ON r.schedule_id = s.id WHERE r.id = $1 FOR UPDATE OF s";
    sqlx::query(lock).bind(batch[0].run_id).execute(&mut *held).await.unwrap();

    let done = SettleResult::Done(RunState::Succeeded);
    assert_eq!(store.run_settle(&batch).await.unwrap().results, [SettleResult::Held, done, done]);
    let lease = [(batch[0].run_id, batch[0].lease_token)];
    assert_eq!(store.run_renew(&lease, Duration::from_secs(30)).await.unwrap(), [Renewal::Done]);
    held.rollback().await.unwrap();
    assert_eq!(store.run_settle(&batch).await.unwrap().results, [done, done, done]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_somebody_holds_does_not_hold_up_the_others() {
    let url = Postgres::shared().await.fresh_database().await;
    let store = store(&url).await;
    let batch = claimed(&store, 3).await;
    let leases: Vec<_> = batch.iter().map(|settlement| (settlement.run_id, settlement.lease_token)).collect();
    let mut somebody = PgConnection::connect(&url).await.unwrap();
    let mut held = somebody.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM runs WHERE id = $1 FOR UPDATE").bind(batch[1].run_id).execute(&mut *held).await.unwrap();

    let renewals = store.run_renew(&leases, Duration::from_secs(30)).await.unwrap();
    assert_eq!(renewals, [Renewal::Done, Renewal::Held, Renewal::Done]);
    let done = SettleResult::Done(RunState::Succeeded);
    assert_eq!(store.run_settle(&batch).await.unwrap().results, [done, SettleResult::Held, done]);
    held.rollback().await.unwrap();
    assert_eq!(store.run_settle(&batch).await.unwrap().results, [done, done, done]);
    assert!(claim(&store, 9, Duration::from_secs(30)).await.runs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_does_not_hold_any_more_is_made_anew() {
    let url = Postgres::shared().await.fresh_database().await;
    let store = store(&url).await;
    let id = store.schedule_upsert(&[registration("a", "1", now())]).await.unwrap().schedules[0].id;
    for _ in 0..2 {
        store.schedule_get(id).await.unwrap().unwrap();
    }
    run(&url, "ALTER TABLE schedules ALTER COLUMN iterations TYPE numeric; ALTER TABLE schedules ALTER COLUMN iterations TYPE bigint")
        .await;
    run(&url, "ALTER TABLE schedules ALTER COLUMN payload TYPE varchar(100000)").await;
    for _ in 0..3 {
        store.schedule_get(id).await.unwrap().expect("the statement is prepared anew");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_is_known_by_itself_in_either_mode() {
    let postgres = Postgres::shared().await;
    for settings in [
        ["pool_mode=transaction", ""],
        ["pool_mode=session", ""],
        ["pool_mode=transaction", "ignore_startup_parameters=options"],
    ] {
        let pooler = PgBouncer::start(postgres, &settings).await;
        let store = store(&pooler.url(&postgres.fresh_database().await)).await;
        fill(&store, 8).await;
        let mut together = JoinSet::new();
        for key in 0..40 {
            let store = store.clone();
            together.spawn(async move { store.schedule_upsert(&[registration(&key.to_string(), "1", now())]).await });
        }
        while let Some(registered) = together.join_next().await {
            registered.unwrap().unwrap_or_else(|error| panic!("{settings:?}: {error:?}"));
        }
        let taken = claim(&store, 100, Duration::from_secs(30)).await;
        assert_eq!(taken.runs.len(), 40, "{settings:?}");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_promoted_takes_over() {
    let primary = Postgres::start().await;
    let name = primary.fresh_database().await.rsplit_once('/').unwrap().1.to_owned();
    store(&primary.url(&name)).await.close().await;
    let standby = primary.start_standby().await;
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", standby.port(), primary.port());
    let store = store(&format!("postgres://postgres@{hosts}/{name}")).await;
    fill(&store, 5).await;
    let before = store.schedule_upsert(&[registration("before", "1", now())]).await.unwrap().schedules[0].id;
    let mut follower = PgConnection::connect(&standby.url(&name)).await.unwrap();
    crate::eventually("the standby has it", Duration::from_secs(20), async || {
        let found: i64 = sqlx::query_scalar("SELECT count(*) FROM schedules").fetch_one(&mut follower).await.unwrap();
        (found == 1).then_some(())
    })
    .await;
    primary.kill();
    assert!(store.ping().await.is_err(), "nobody takes writes");
    standby.promote().await;
    crate::eventually("the new primary is used", Duration::from_secs(15), async || {
        store.schedule_upsert(&[registration("after", "1", now())]).await.ok()
    })
    .await;
    assert!(store.schedule_get(before).await.unwrap().is_some());
    for _ in 0..10 {
        store.ping().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_for_a_while_is_used_again_at_once() {
    let postgres = Postgres::start().await;
    let store = store(&postgres.fresh_database().await).await;
    fill(&store, 5).await;
    postgres.freeze();
    for _ in 0..3 {
        let began = Instant::now();
        assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
        assert!(began.elapsed() < 3 * DEADLINE, "{:?}", began.elapsed());
    }
    postgres.thaw();
    fill(&store, 5).await;
    assert_eq!(store.failing_for(), None);
}
