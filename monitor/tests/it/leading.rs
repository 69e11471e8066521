//! What a leading monitor publishes, on each store and each bus.

use std::sync::Arc;
use std::time::Duration;

use reveille_monitor::Settings;
use reveille_shared::bus::{Bus, BusEvent, Subscription, ToldBacklog};
use reveille_shared::model::zone::rules;
use reveille_shared::runtime::lifecycle::Lifecycle;
use reveille_shared::store::{Backlog, Store, StoreSettings};
use reveille_testkit::{Redis, eventually, eventually_some};
use tokio::time::timeout;

use crate::cluster::{
    Node, PATIENCE, brisk, claim, finish, local_bus, open, postgres, redis_bus, register, sqlite, sqlite_url, wait_next,
};

const HOUR_MS: i64 = 3_600_000;
const LEASE: Duration = Duration::from_secs(30);

/// Both ways the product is run: embedded, and on servers.
async fn embedded() -> (Arc<dyn Store>, Arc<dyn Bus>, Lifecycle) {
    let (bus, lifecycle) = local_bus();
    (sqlite().await, bus, lifecycle)
}

async fn clustered() -> (Arc<dyn Store>, Arc<dyn Bus>, Lifecycle) {
    let redis = Redis::shared().await;
    let (bus, lifecycle) = redis_bus(redis, &redis.fresh_namespace());
    (postgres().await, bus, lifecycle)
}

/// The next wake that says something new. Repeats between them are heartbeats.
async fn next_wake(events: &mut Subscription) -> reveille_shared::bus::wake::WakeState {
    let wake = async {
        loop {
            if let BusEvent::Wake(state) = events.recv().await.unwrap() {
                return state;
            }
        }
    };
    timeout(PATIENCE, wake).await.expect("a wake is published")
}

async fn next_nudge(events: &mut Subscription) -> reveille_shared::bus::wake::WakeState {
    let nudge = async {
        loop {
            if let BusEvent::Nudge(state) = events.recv().await.unwrap() {
                return state;
            }
        }
    };
    timeout(PATIENCE, nudge).await.expect("a nudge is published")
}

async fn check_next_wake_follows((store, bus, lifecycle): (Arc<dyn Store>, Arc<dyn Bus>, Lifecycle)) {
    let now = store.ping().await.unwrap();
    let node = Node::start(&store, &bus, lifecycle, brisk());
    node.wait_leads().await;
    assert_eq!(node.metric("monitor_next_wake_timestamp_seconds"), None, "nothing is scheduled");

    let far = now + HOUR_MS;
    register(&store, "far", far).await;
    bus.lower(far, 0).await.unwrap();
    wait_next(&bus, Some(far)).await;

    let soon = store.ping().await.unwrap() + 400;
    register(&store, "soon", soon).await;
    bus.lower(soon, 0).await.unwrap();
    wait_next(&bus, Some(soon)).await;

    // A worker does its work in time: the monitor moves the next wake on.
    eventually(PATIENCE, "it is due", || async { store.ping().await.unwrap() >= soon }).await;
    finish(&store, &claim(&store, LEASE).await).await;
    wait_next(&bus, Some(far)).await;
    eventually(PATIENCE, "the metric follows", || async {
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
        let seconds = far as f64 / 1000.0;
        node.metric("monitor_next_wake_timestamp_seconds") == Some(seconds)
    })
    .await;

    assert_eq!(node.metric("monitor_epoch"), Some(1.0));
    node.stop().await;
    assert_eq!(node.metric("monitor_leader"), Some(0.0));
    assert_eq!(node.metric("monitor_next_wake_timestamp_seconds"), None, "only the leader shows it");
}

#[tokio::test]
async fn next_wake_follows_embedded() {
    check_next_wake_follows(embedded().await).await;
}

#[tokio::test]
async fn next_wake_follows_clustered() {
    check_next_wake_follows(clustered().await).await;
}

#[tokio::test]
async fn what_was_there_before_the_election_is_published() {
    let (store, bus, lifecycle) = clustered().await;
    let due = store.ping().await.unwrap() + HOUR_MS;
    register(&store, "known", due).await;
    let _node = Node::start(&store, &bus, lifecycle, brisk());
    wait_next(&bus, Some(due)).await;
}

#[tokio::test]
async fn a_registration_whose_hint_was_lost_is_found_by_the_recheck() {
    let (store, bus, lifecycle) = clustered().await;
    let settings = Settings { recheck: Duration::from_secs(1), ..brisk() };
    let node = Node::start(&store, &bus, lifecycle, settings);
    node.wait_leads().await;
    let due = store.ping().await.unwrap() + HOUR_MS;
    register(&store, "unhinted", due).await;
    wait_next(&bus, Some(due)).await;
}

async fn check_unclaimed_runs_are_nudged((store, bus, lifecycle): (Arc<dyn Store>, Arc<dyn Bus>, Lifecycle)) {
    let node = Node::start(&store, &bus, lifecycle, brisk());
    node.wait_leads().await;
    let mut events = bus.subscribe();
    let run = register(&store, "unclaimed", 0).await;
    let due = store.run_get(run).await.unwrap().unwrap().0.due_at;
    bus.lower(due, 0).await.unwrap();

    let hint = next_wake(&mut events).await;
    assert_eq!(hint.next_ms, due);
    let first = next_nudge(&mut events).await;
    let second = next_nudge(&mut events).await;
    assert!(hint.seq < first.seq && first.seq < second.seq, "each is something new to a worker");
    assert_eq!((first.next(), second.next()), (None, None), "it does not stand in front of those to come");
    let later = bus.lower(due + 1, 0).await.unwrap();
    assert_eq!(later.next_ms, due + 1, "so a run that somebody would take is heard of");
    assert_eq!(node.metric("monitor_overdue_runs"), Some(1.0));
    eventually(PATIENCE, "the nudges are counted", || async {
        node.metric("monitor_wakes_published_total{reason=\"nudge\"}") >= Some(2.0)
    })
    .await;

    finish(&store, &claim(&store, LEASE).await).await;
    eventually(PATIENCE, "nothing is overdue", || async { node.metric("monitor_overdue_runs") == Some(0.0) }).await;
    wait_next(&bus, None).await;
}

#[tokio::test]
async fn unclaimed_runs_are_nudged_embedded() {
    check_unclaimed_runs_are_nudged(embedded().await).await;
}

#[tokio::test]
async fn unclaimed_runs_are_nudged_clustered() {
    check_unclaimed_runs_are_nudged(clustered().await).await;
}

async fn check_expired_leases_come_back((store, bus, lifecycle): (Arc<dyn Store>, Arc<dyn Bus>, Lifecycle)) {
    let now = store.ping().await.unwrap();
    register(&store, "held", now).await;
    register(&store, "far", now + HOUR_MS).await;
    let held = claim(&store, Duration::from_millis(1_500)).await;
    assert_eq!(held.len(), 1);

    let mut events = bus.subscribe();
    let node = Node::start(&store, &bus, lifecycle, brisk());
    wait_next(&bus, Some(now + HOUR_MS)).await; // a lease in force is nobody's business
    let nudge = next_nudge(&mut events).await;
    assert_eq!(nudge.next_ms, now + HOUR_MS);
    assert!(store.ping().await.unwrap() >= now + 1_500, "not before it ran out");
    let again = claim(&store, LEASE).await;
    assert_eq!(again[0].0, held[0].0);
    assert!(again[0].1 > held[0].1, "a higher fencing token");
    wait_next(&bus, Some(now + HOUR_MS)).await;
    assert!(node.metric("monitor_wakes_published_total{reason=\"lease\"}") >= Some(1.0));
}

#[tokio::test]
async fn expired_leases_come_back_embedded() {
    check_expired_leases_come_back(embedded().await).await;
}

#[tokio::test]
async fn expired_leases_come_back_clustered() {
    check_expired_leases_come_back(clustered().await).await;
}

#[tokio::test]
async fn finished_runs_are_pruned_when_their_time_has_come() {
    let (bus, lifecycle) = local_bus();
    let retain_runs = Duration::from_millis(700);
    let store = open(&sqlite_url(), StoreSettings { retain_runs, ..StoreSettings::default() }).await;
    let now = store.ping().await.unwrap();
    let done = register(&store, "done", now).await;
    finish(&store, &claim(&store, LEASE).await).await;
    let waiting = register(&store, "waiting", now + HOUR_MS).await;

    let node = Node::start(&store, &bus, lifecycle, brisk());
    eventually(PATIENCE, "the finished run is pruned", || async { store.run_get(done).await.unwrap().is_none() }).await;
    assert!(store.ping().await.unwrap() >= now + 700, "not before its time");
    assert!(store.run_get(waiting).await.unwrap().is_some());
    eventually(PATIENCE, "it is counted", || async { node.metric("monitor_pruned_rows_total") >= Some(1.0) }).await;
    assert!(node.leads(), "pruning costs no heartbeat");
}

/// What the leader answers to a question, once it does.
async fn asked(bus: &Arc<dyn Bus>) -> ToldBacklog {
    let before = bus.backlog_read().await.unwrap().map(|told| told.number);
    bus.backlog_want().await.unwrap();
    eventually_some(PATIENCE, "the leader answers", || async {
        bus.backlog_read().await.unwrap().filter(|told| Some(told.number) != before)
    })
    .await
}

/// Asks until it is so. There is no recheck to wait for.
async fn wait_backlog(bus: &Arc<dyn Bus>, what: &str, holds: impl Fn(&Backlog) -> bool) {
    eventually(PATIENCE, what, || async { holds(&asked(bus).await.backlog) }).await;
}

async fn check_backlog_follows_whoever_asks((store, bus, lifecycle): (Arc<dyn Store>, Arc<dyn Bus>, Lifecycle)) {
    let node = Node::start(&store, &bus, lifecycle, brisk());
    node.wait_leads().await;
    assert_eq!(asked(&bus).await.backlog.due_next_minute, 0);
    let looks = || node.metric("monitor_recheck_total{reason=\"asked\"}").unwrap_or_default();

    // Behind an instant that is known, so that its hint is told to nobody.
    let now = store.ping().await.unwrap();
    register(&store, "sooner", now + 40_000).await;
    bus.lower(now + 40_000, 0).await.unwrap();
    wait_backlog(&bus, "one comes", |backlog| backlog.due_next_minute == 1).await;
    register(&store, "later", now + 45_000).await;
    bus.lower(now + 45_000, 0).await.unwrap();
    wait_backlog(&bus, "two come", |backlog| backlog.due_next_minute == 2).await;

    // Claimed and settled without a word.
    let due = store.ping().await.unwrap();
    register(&store, "due", due).await;
    bus.lower(due, 0).await.unwrap();
    wait_backlog(&bus, "one is late", |backlog| backlog.overdue_runs == 1).await;
    let held = claim(&store, LEASE).await;
    wait_backlog(&bus, "one runs", |backlog| (backlog.overdue_runs, backlog.running_runs) == (0, 1)).await;
    finish(&store, &held).await;
    wait_backlog(&bus, "it is done", |backlog| (backlog.overdue_runs, backlog.running_runs) == (0, 0)).await;
    assert!(looks() >= 4.0);
    assert!(asked(&bus).await.age_ms < 2_000);
}

#[tokio::test]
async fn the_backlog_follows_whoever_asks_embedded() {
    check_backlog_follows_whoever_asks(embedded().await).await;
}

#[tokio::test]
async fn the_backlog_follows_whoever_asks_clustered() {
    check_backlog_follows_whoever_asks(clustered().await).await;
}

#[tokio::test]
async fn whoever_asks_an_idle_monitor_costs_no_statement() {
    let (store, bus, lifecycle) = clustered().await;
    let far = store.ping().await.unwrap() + HOUR_MS;
    register(&store, "far", far).await;
    let node = Node::start(&store, &bus, lifecycle, brisk());
    node.wait_leads().await;
    // The first monitor of a database examines once by which rules of time zones its runs were armed.
    let mine = rules::armed_by().number();
    let examined = async || store.wake_forecast().await.is_ok_and(|(_, forecast)| forecast.zones.examined == mine);
    eventually(PATIENCE, "what is armed was examined", examined).await;
    let before = store.statements();
    let began = std::time::Instant::now();
    // For longer than a count answers by being new.
    while began.elapsed() < Duration::from_secs(3) {
        assert_eq!(asked(&bus).await.backlog.due_next_five_minutes, 0);
    }
    assert_eq!(store.statements(), before);
}
