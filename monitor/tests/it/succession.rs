//! Who leads, and what the cluster pays for it.

use std::sync::Arc;
use std::time::Duration;

use reveille_monitor::Settings;
use reveille_shared::store::{Store, StoreSettings};
use reveille_testkit::{Postgres, Redis, eventually};

use crate::cluster::{Node, PATIENCE, brisk, open, postgres, redis_bus, register, sqlite, wait_next};

const HOUR_MS: i64 = 3_600_000;

/// Two monitors on one namespace, the first of which leads.
async fn pair(redis: &Redis, settings: Settings) -> (Node, Node, Arc<dyn Store>) {
    let store = postgres().await;
    let namespace = redis.fresh_namespace();
    let (bus, lifecycle) = redis_bus(redis, &namespace);
    let leader = Node::start(&store, &bus, lifecycle, settings.clone());
    leader.wait_leads().await;
    let (bus, lifecycle) = redis_bus(redis, &namespace);
    let standby = Node::start(&store, &bus, lifecycle, settings);
    // A monitor that starts asks once whether anybody leads. From then on only news makes it ask.
    pass(&store, 1_000).await;
    (leader, standby, store)
}

/// Lets time pass, by the database's clock.
async fn pass(store: &Arc<dyn Store>, ms: i64) {
    let start = store.ping().await.unwrap();
    eventually(PATIENCE, "time passes", || async { store.ping().await.unwrap() > start + ms }).await;
}

#[tokio::test]
async fn a_clean_exit_hands_over_at_once() {
    // The leadership would last for an hour: only the resignation can end it.
    let settings = Settings { ttl: Duration::from_secs(3_600), ..brisk() };
    let (leader, standby, _store) = pair(Redis::shared().await, settings).await;
    leader.stop().await;
    standby.wait_leads().await;
    assert_eq!(standby.metric("monitor_epoch"), Some(2.0));
    assert_eq!(standby.metric("monitor_elections_total"), Some(1.0));
    assert!(!leader.leads());
}

#[tokio::test]
async fn a_standby_takes_over_from_a_monitor_that_hangs() {
    let redis = Redis::shared().await;
    let (leader, standby, store) = pair(redis, brisk()).await;
    leader.freeze_at_next_look();
    let due = store.ping().await.unwrap() + HOUR_MS;
    register(&store, "unhinted", due).await;
    leader.bus().lower(store.ping().await.unwrap(), 0).await.unwrap(); // makes it look, and hang
    standby.wait_leads().await;
    assert_eq!(standby.metric("monitor_epoch"), Some(2.0));
    wait_next(standby.bus(), Some(due)).await;
}

#[tokio::test]
async fn a_standby_stays_one_while_it_hears_heartbeats() {
    let settings = Settings { beat: Duration::from_millis(200), ttl: Duration::from_millis(800), ..brisk() };
    let (leader, standby, store) = pair(Redis::shared().await, settings).await;
    pass(&store, 2_400).await; // three times the ttl
    assert!(leader.leads());
    assert_eq!(standby.metric("monitor_elections_total"), Some(0.0));
}

#[tokio::test]
async fn an_emptied_redis_is_filled_again() {
    let redis = Redis::start().await;
    let (leader, standby, store) = pair(&redis, brisk()).await;
    let due = store.ping().await.unwrap() + HOUR_MS;
    register(&store, "known", due).await;
    leader.bus().lower(due, 0).await.unwrap();
    wait_next(leader.bus(), Some(due)).await;

    redis.restart().await;
    eventually(PATIENCE, "the wake state is back", || async {
        leader.bus().read().await.is_ok_and(|state| state.is_some_and(|state| state.next() == Some(due)))
    })
    .await;
    eventually(PATIENCE, "exactly one leads", || async { leader.leads() != standby.leads() }).await;
}

#[tokio::test]
async fn without_its_database_a_leader_leaves_and_comes_back_with_it() {
    let postgres = Postgres::start().await;
    let redis = Redis::shared().await;
    let store = open(&postgres.fresh_database().await, StoreSettings::default()).await;
    let (bus, lifecycle) = redis_bus(redis, &redis.fresh_namespace());
    // The leadership would last on: it has to be given up.
    let settings = Settings { recheck: Duration::from_millis(500), ttl: Duration::from_secs(600), ..brisk() };
    let node = Node::start(&store, &bus, lifecycle, settings);
    node.wait_leads().await;

    postgres.kill();
    eventually(PATIENCE, "it gives the leadership up", || async { !node.leads() }).await;
    postgres.restart().await;
    eventually(2 * PATIENCE, "it leads again", || async { node.leads() }).await;
}

#[tokio::test]
async fn idle_costs_one_statement_per_recheck_and_nothing_on_a_standby() {
    let postgres = Postgres::shared().await;
    let redis = Redis::shared().await;
    let database = postgres.fresh_database().await;
    let (leader_role, standby_role) = (postgres.fresh_role().await, postgres.fresh_role().await);
    let namespace = redis.fresh_namespace();
    // A recheck of 1 s instead of 30 s: a window of 6 s may hold 7 statements, as 3 min may hold 7.
    let settings = Settings { recheck: Duration::from_secs(1), ..brisk() };
    let mut nodes = Vec::new();
    for role in [&leader_role, &standby_role] {
        let store = open(&postgres.url_as(&database, role), StoreSettings::default()).await;
        let now = store.ping().await.unwrap();
        register(&store, role, now + HOUR_MS).await;
        let (bus, lifecycle) = redis_bus(redis, &namespace);
        let node = Node::start(&store, &bus, lifecycle, settings.clone());
        if nodes.is_empty() {
            node.wait_leads().await;
        }
        nodes.push((node, store));
    }

    let (_, store) = &nodes[0];
    let counted = |role: String| async move { postgres.statement_count(&role).await };
    let (leader_before, standby_before) = (counted(leader_role.clone()).await, counted(standby_role.clone()).await);
    let sent_before = store.statements();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let sent = store.statements() - sent_before;
    assert!((4..=7).contains(&sent), "{sent} statements in six rechecks");
    let executed = counted(leader_role).await - leader_before;
    assert!(executed <= 7, "{executed} statements reached the database");
    assert_eq!(counted(standby_role).await - standby_before, 0, "a standby sends nothing");
}

#[tokio::test]
async fn two_terms_of_one_database_have_different_epochs() {
    let store = sqlite().await;
    for epoch in 1..=2 {
        let (bus, lifecycle) = crate::cluster::local_bus();
        let node = Node::start(&store, &bus, lifecycle, brisk());
        node.wait_leads().await;
        assert_eq!(node.metric("monitor_epoch"), Some(f64::from(epoch)));
        node.stop().await;
    }
}
