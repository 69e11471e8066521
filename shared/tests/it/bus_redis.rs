//! The bus against a real Redis that is killed, emptied, stopped and refused.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::bus::redis::RedisBus;
use reveille_shared::bus::{Beat, Bus, BusError, BusEvent, Subscription};
use reveille_shared::runtime::clock::{Clock, SystemClock, TestClock};
use reveille_shared::runtime::lifecycle::Lifecycle;
use tokio::time::timeout;

use crate::eventually;
use crate::redis_server::RedisServer;

const SOON: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(6);

fn bus(server: &RedisServer) -> RedisBus {
    bus_with(server, Arc::new(SystemClock::new()))
}

fn bus_with(server: &RedisServer, clock: Arc<dyn Clock>) -> RedisBus {
    RedisBus::connect(&server.url(), "reveille", clock, &Lifecycle::new()).unwrap()
}

async fn next(subscription: &mut Subscription) -> BusEvent {
    timeout(SOON, subscription.recv()).await.expect("nothing is heard").expect("the bus is gone")
}

fn beat(id: &str) -> Beat {
    Beat { id: id.to_owned(), epoch: 1, ttl: TTL, db_ms: 5, seen_nonce: 0, seen_seq: 0 }
}

#[tokio::test]
async fn a_subscriber_survives_a_kill_and_a_restart() {
    let mut server = RedisServer::start().await;
    let bus = bus(&server);
    let before = bus.lower(900, 0).await.unwrap();
    let mut subscription = bus.subscribe();
    assert_eq!(next(&mut subscription).await, BusEvent::Connected(Some(before)));

    server.kill();
    assert_eq!(next(&mut subscription).await, BusEvent::Disconnected);
    assert!(matches!(bus.lower(800, 0).await, Err(BusError::Unavailable(_))));

    server.restart().await;
    assert_eq!(next(&mut subscription).await, BusEvent::Connected(None));
    let after = bus.lower(700, 0).await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Wake(after));
}

#[tokio::test]
async fn a_subscriber_waits_for_a_redis_that_is_not_there_yet() {
    let mut server = RedisServer::start_killed().await;
    let bus = bus(&server);
    let mut subscription = bus.subscribe();
    assert!(bus.read().await.is_err());
    assert_eq!(subscription.try_recv(), None);
    server.restart().await;
    assert_eq!(next(&mut subscription).await, BusEvent::Connected(None));
}

#[tokio::test]
async fn a_killed_subscription_comes_back_with_what_it_missed() {
    let server = RedisServer::start().await;
    let bus = bus(&server);
    let mut subscription = bus.subscribe();
    assert_eq!(next(&mut subscription).await, BusEvent::Connected(None));
    server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    let missed = bus.lower(500, 0).await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Disconnected);
    assert_eq!(next(&mut subscription).await, BusEvent::Connected(Some(missed)));
}

#[tokio::test]
async fn a_command_outlives_the_connection_it_met() {
    let server = RedisServer::start().await;
    let bus = bus(&server);
    bus.lower(500, 0).await.unwrap();
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    assert_eq!(bus.lower(400, 0).await.unwrap().next(), Some(400));
}

#[tokio::test]
async fn a_silent_server_is_noticed_by_an_unanswered_ping() {
    let server = RedisServer::start().await;
    let clock = TestClock::new();
    let bus = bus_with(&server, Arc::new(clock.clone()));
    let mut subscription = bus.subscribe();
    assert_eq!(next(&mut subscription).await, BusEvent::Connected(None));
    server.signal("-STOP");
    let heard = eventually("the connection is given up", SOON, async || {
        clock.advance(Duration::from_secs(5)); // silence, as often as it takes
        subscription.try_recv()
    });
    assert_eq!(heard.await, BusEvent::Disconnected);
    assert!(timeout(Duration::from_secs(4), bus.lower(1, 0)).await.unwrap().is_err(), "a caller hung");
    server.signal("-CONT");
    let heard = eventually("it is back", SOON, async || {
        clock.advance(Duration::from_secs(1));
        subscription.try_recv()
    });
    assert!(matches!(heard.await, BusEvent::Connected(_)));
}

#[tokio::test]
async fn a_flush_shows_in_the_next_beat() {
    let server = RedisServer::start().await;
    let bus = bus(&server);
    assert!(bus.elect("one", TTL).await.unwrap());
    let before = bus.beat(&beat("one")).await.unwrap().unwrap();
    let mut subscription = bus.subscribe();
    assert!(matches!(next(&mut subscription).await, BusEvent::Connected(Some(_))));

    server.command(&["FLUSHALL"]).await;
    assert_eq!(bus.beat(&beat("one")).await.unwrap(), None, "the leadership is gone with the rest");
    assert!(bus.elect("one", TTL).await.unwrap());
    let seen = Beat { seen_nonce: before.nonce, seen_seq: before.seq, ..beat("one") };
    let after = bus.beat(&seen).await.unwrap().unwrap();
    assert_ne!(after.nonce, before.nonce);
    assert!(after.seq > before.seq);
    assert_eq!(next(&mut subscription).await, BusEvent::Heartbeat(after));
}

#[tokio::test]
async fn leadership_ends_with_its_time() {
    let server = RedisServer::start().await;
    let bus = bus(&server);
    assert!(bus.elect("one", Duration::from_millis(100)).await.unwrap());
    eventually("another leads", SOON, async || bus.elect("two", TTL).await.unwrap().then_some(())).await;
    assert_eq!(bus.beat(&beat("one")).await.unwrap(), None);
    assert!(!bus.elect("one", TTL).await.unwrap());
}

#[tokio::test]
async fn beats_and_standing_again_renew_leadership() {
    let server = RedisServer::start().await;
    let bus = bus(&server);
    let brief = Duration::from_secs(20);
    for renew_by_beat in [true, false] {
        assert!(bus.elect("one", brief).await.unwrap());
        if renew_by_beat {
            bus.beat(&Beat { ttl: Duration::from_secs(900), ..beat("one") }).await.unwrap().unwrap();
        } else {
            assert!(bus.elect("one", Duration::from_secs(900)).await.unwrap());
        }
        let left = server.command(&["TTL", "{reveille}:monitor"]).await;
        assert!(matches!(left, redis::Value::Int(left) if left > 800), "{left:?}");
    }
}

#[tokio::test]
async fn resigning_hands_over_at_once() {
    let server = RedisServer::start().await;
    let bus = bus(&server);
    assert!(bus.elect("one", TTL).await.unwrap());
    assert!(!bus.elect("two", TTL).await.unwrap());
    let mut standby = bus.subscribe();
    assert_eq!(next(&mut standby).await, BusEvent::Connected(None));
    bus.resign("two").await.unwrap(); // not its to give
    assert!(!bus.elect("two", TTL).await.unwrap());
    bus.resign("one").await.unwrap();
    assert_eq!(next(&mut standby).await, BusEvent::Resigned);
    assert!(bus.elect("two", TTL).await.unwrap());
}

#[tokio::test]
async fn registrations_later_than_the_next_one_publish_nothing() {
    let server = RedisServer::start().await;
    let bus = bus(&server);
    bus.lower(1000, 0).await.unwrap();
    let mut subscription = bus.subscribe();
    next(&mut subscription).await;
    for at in 0..2000 {
        bus.lower(1000 + at, 0).await.unwrap();
    }
    // The first event heard is of the one that is earlier.
    let earlier = bus.lower(999, 0).await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Wake(earlier.clone()));
    assert_eq!(earlier.seq, 2);
}

#[tokio::test]
async fn after_a_due_instant_what_is_soon_is_told_and_what_is_far_is_not() {
    let server = RedisServer::start().await;
    let bus = bus(&server);
    let state = bus.lower(1000, 1000).await.unwrap();
    let mut subscription = bus.subscribe();
    assert_eq!(next(&mut subscription).await, BusEvent::Connected(Some(state.clone())));
    for later in 0..1000 {
        bus.lower(60_000 + later, 1050).await.unwrap();
    }
    // The first event heard is of the one that is due.
    let kept = bus.lower(1050, 1050).await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Soon(0));
    assert_eq!((kept.seq, kept.next_ms), (state.seq, state.next_ms));
    bus.lower(1100, 1050).await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Soon(1100));
}

#[tokio::test]
async fn what_another_version_says_is_passed_over() {
    let server = RedisServer::start().await;
    let bus = bus(&server);
    let mut subscription = bus.subscribe();
    assert_eq!(next(&mut subscription).await, BusEvent::Connected(None));
    for message in [r#"{"kind":"to_come","at":5}"#, r#"{"kind":"soon","at":"5"}"#, r#"{"kind":"wake","state":{}}"#] {
        server.command(&["PUBLISH", "{reveille}:wake", message]).await;
    }
    let created = bus.lower(5, 0).await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Wake(created));
}

#[tokio::test]
async fn scripts_survive_a_script_flush() {
    let server = RedisServer::start().await;
    let bus = bus(&server);
    bus.lower(1000, 0).await.unwrap();
    server.command(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(bus.lower(900, 0).await.unwrap().next(), Some(900));
}

#[tokio::test]
async fn a_password_is_used_and_never_shown() {
    let server = RedisServer::start_with(Some("letmein")).await;
    let mut subscription = bus(&server).subscribe();
    assert_eq!(next(&mut subscription).await, BusEvent::Connected(None));

    let refused = server.url().replace("letmein", "wrongword");
    let bus = RedisBus::connect(&refused, "r", Arc::new(SystemClock::new()), &Lifecycle::new()).unwrap();
    let error = bus.lower(1, 0).await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("wrongword"));
    let bad = RedisBus::connect("http://x:letmein@y", "r", Arc::new(SystemClock::new()), &Lifecycle::new());
    let Err(error @ BusError::BadUrl(_)) = bad else { panic!("taken for a redis url") };
    assert!(!format!("{error:?} {error}").contains("letmein"));
}

#[tokio::test]
async fn an_unreadable_key_is_lived_over() {
    let server = RedisServer::start().await;
    let bus = bus(&server);
    server.command(&["SET", "{reveille}:wake", "gibberish"]).await;
    assert!(matches!(bus.read().await, Err(BusError::Unreadable(_))));
    let mut subscription = bus.subscribe();
    assert_eq!(next(&mut subscription).await, BusEvent::Connected(None));
    let created = bus.lower(5, 0).await.unwrap();
    assert_eq!(next(&mut subscription).await, BusEvent::Wake(created));
}

#[tokio::test]
async fn subscriptions_end_when_dropped_and_with_the_process() {
    let server = RedisServer::start().await;
    let lifecycle = Lifecycle::new();
    let bus = RedisBus::connect(&server.url(), "reveille", Arc::new(SystemClock::new()), &lifecycle).unwrap();
    let subscribers = async || server.command(&["PUBSUB", "NUMSUB", "{reveille}:wake"]).await;
    let count = async |expected: i64| {
        eventually("so many subscribers", SOON, async || {
            let redis::Value::Array(parts) = subscribers().await else { return None };
            (parts[1] == redis::Value::Int(expected)).then_some(())
        })
        .await;
    };
    let mut kept = bus.subscribe();
    let dropped = bus.subscribe();
    count(2).await;
    drop(dropped);
    count(1).await;
    lifecycle.stop();
    lifecycle.drained().await;
    assert!(matches!(next(&mut kept).await, BusEvent::Connected(_)));
    assert_eq!(kept.recv().await, None);
    count(0).await;
}

#[tokio::test]
async fn a_leadership_that_lasts_for_ever_ends_as_others_do() {
    let server = RedisServer::start().await;
    let bus = bus(&server);
    assert!(bus.elect("gone", TTL).await.unwrap());
    server.command(&["PERSIST", "{reveille}:monitor"]).await;
    assert!(!bus.elect("next", Duration::from_millis(50)).await.unwrap());
    eventually("the other one leads", SOON, async || bus.elect("next", TTL).await.unwrap().then_some(())).await;
}
