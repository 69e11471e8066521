//! The in-process bus, and the mailbox of every subscription.

use std::time::Duration;

use reveille_shared::bus::local::LocalBus;
use reveille_shared::bus::wake::SOON_MS;
use reveille_shared::bus::{Beat, Bus, BusEvent, Subscription};

const TTL: Duration = Duration::from_secs(6);

fn drain(subscription: &mut Subscription) -> Vec<BusEvent> {
    std::iter::from_fn(|| subscription.try_recv()).collect()
}

#[tokio::test]
async fn registrations_later_than_the_next_one_publish_nothing() {
    let bus = LocalBus::new();
    bus.lower(1000, 0).await.unwrap();
    let mut subscription = bus.subscribe();
    assert_eq!(subscription.recv().await, Some(BusEvent::Connected(bus.read().await.unwrap())));
    for at in 0..1000 {
        bus.lower(1000 + at, 0).await.unwrap();
    }
    assert_eq!(drain(&mut subscription), []);
    let earlier = bus.lower(999, 0).await.unwrap();
    assert_eq!(drain(&mut subscription), [BusEvent::Wake(earlier)]);
}

#[tokio::test]
async fn after_a_due_instant_what_is_soon_is_told_and_what_is_far_is_not() {
    const NOW: i64 = 100_000;
    let bus = LocalBus::new();
    bus.lower(NOW - 50, NOW - 50).await.unwrap();
    let state = bus.read().await.unwrap();
    let mut subscription = bus.subscribe();
    assert_eq!(drain(&mut subscription), [BusEvent::Connected(state.clone())]);
    for later in 1..=1000 {
        bus.lower(NOW + SOON_MS + later, NOW).await.unwrap();
    }
    assert_eq!(drain(&mut subscription), [], "a thousand far ones");
    for later in 0..10 {
        bus.lower(NOW + later, NOW + later).await.unwrap();
        assert_eq!(drain(&mut subscription), [BusEvent::Soon(0)], "each that is due: a claim before it misses it");
    }
    for later in [90, 70, 80] {
        bus.lower(NOW + later, NOW).await.unwrap();
    }
    assert_eq!(drain(&mut subscription), [BusEvent::Soon(NOW + 70)], "unread ones are one");
    let kept = bus.read().await.unwrap();
    assert_eq!(kept.map(|kept| (kept.seq, kept.next_ms)), state.map(|state| (state.seq, state.next_ms)));
}

#[tokio::test]
async fn unread_events_are_merged_and_the_newest_state_stays() {
    let bus = LocalBus::new();
    bus.elect("m", TTL).await.unwrap();
    let mut subscription = bus.subscribe();
    for at in (0..10_000).rev() {
        bus.lower(at, 0).await.unwrap();
        let beat = Beat { id: "m".to_owned(), epoch: 1, ttl: TTL, db_ms: at, seen_nonce: 0, seen_seq: 0 };
        bus.beat(&beat).await.unwrap();
    }
    let state = bus.read().await.unwrap().unwrap();
    assert_eq!((state.seq, state.next_ms), (10_000, 0));
    let events = drain(&mut subscription);
    assert_eq!(events.len(), 3);
    assert_eq!(events[0], BusEvent::Connected(None));
    assert!(matches!(&events[1], BusEvent::Wake(wake) if wake.seq == state.seq && wake.next_ms == 0));
    assert_eq!(events[2], BusEvent::Heartbeat(state));
}

#[tokio::test]
async fn the_first_to_stand_leads_until_it_resigns() {
    let bus = LocalBus::new();
    let mut subscription = bus.subscribe();
    assert!(bus.elect("one", TTL).await.unwrap());
    assert!(bus.elect("one", TTL).await.unwrap());
    assert!(!bus.elect("two", TTL).await.unwrap());
    bus.resign("two").await.unwrap();
    assert!(!bus.elect("two", TTL).await.unwrap());
    bus.resign("one").await.unwrap();
    assert_eq!(drain(&mut subscription), [BusEvent::Connected(None), BusEvent::Resigned]);
    assert!(bus.elect("two", TTL).await.unwrap());
    let beat = Beat { id: "one".to_owned(), epoch: 1, ttl: TTL, db_ms: 1, seen_nonce: 0, seen_seq: 0 };
    assert_eq!(bus.beat(&beat).await.unwrap(), None);
}

#[tokio::test]
async fn a_waiting_receiver_is_woken_and_outlived_by_none() {
    let bus = LocalBus::new();
    let mut subscription = bus.subscribe();
    assert_eq!(subscription.recv().await, Some(BusEvent::Connected(None)));
    let (event, lowered) = tokio::join!(subscription.recv(), bus.lower(5, 0));
    assert_eq!(event, Some(BusEvent::Wake(lowered.unwrap())));
    drop(bus);
    assert_eq!(subscription.recv().await, None);
}
