//! The scripts in Redis and the functions in wake.rs do the same, by random sequences of operations:
//! equal states, equal publishes.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use futures_util::StreamExt;
use reveille_shared::bus::local::LocalBus;
use reveille_shared::bus::redis::RedisBus;
use reveille_shared::bus::wake::{self, NEVER, Publish, Transition, WakeState};
use reveille_shared::bus::{Beat, Bus, BusEvent};
use reveille_shared::model::UnixMs;
use reveille_shared::runtime::clock::SystemClock;
use reveille_shared::runtime::lifecycle::Lifecycle;
use serde_json::{Value, json};

use crate::redis_server::RedisServer;

const TTL: Duration = Duration::from_secs(60);
const LEADER: &str = "leader";

#[derive(Debug)]
enum Operation {
    Lower(UnixMs, UnixMs),
    Mark(&'static str, i64),
    Set(&'static str, u64, Option<UnixMs>),
    Nudge,
    Beat(Beat),
    /// The key goes missing.
    Flush,
    /// The key holds what it held earlier: a failover to a replica that was behind.
    GoBack(usize),
    /// The key holds what no version of the scripts wrote.
    Garble,
}

/// What an operation left and said.
#[derive(Debug, PartialEq)]
struct Outcome {
    answer: Option<WakeState>,
    key: Option<WakeState>,
    published: Vec<Value>,
}

fn random_operation(rng: &mut Rng, key: Option<&WakeState>, faults: bool) -> Operation {
    let instant = |rng: &mut Rng| match rng.u8(0..12) {
        0 => NEVER,
        1 => -1,
        2 => NEVER - 1,
        // On both sides of what is soon, and close enough for instants to be equal.
        3..6 => rng.i64(0..20) + wake::SOON_MS,
        _ => rng.i64(0..20),
    };
    let token = ["one", "two/\"ö\\"][rng.usize(0..2)];
    let nonce = match key {
        Some(key) if rng.u8(0..5) > 0 => key.nonce,
        _ => rng.u64(1..1 << 53),
    };
    match rng.u8(0..if faults { 19 } else { 16 }) {
        0..5 => Operation::Lower(instant(rng), instant(rng)),
        5..8 => Operation::Mark(token, rng.i64(0..4)),
        8..12 => Operation::Set(token, nonce, (rng.u8(0..4) > 0).then(|| instant(rng))),
        12 => Operation::Nudge,
        13..16 => {
            let id = if rng.u8(0..6) > 0 { LEADER } else { "another" }.to_owned();
            let seen_seq = key.map_or(0, |key| key.seq).saturating_add(rng.u64(0..3)).saturating_sub(1);
            let [epoch, db_ms] = [rng.i64(0..5), instant(rng)];
            Operation::Beat(Beat { id, epoch, ttl: TTL, db_ms, seen_nonce: nonce, seen_seq })
        }
        16 => Operation::Flush,
        17 => Operation::GoBack(rng.usize(..)),
        _ => Operation::Garble,
    }
}

/// What wake.rs says, when a key that is created or renewed gets `nonce`.
fn expected(key: Option<&WakeState>, operation: &Operation, nonce: u64) -> Outcome {
    let unchanged = (None, Vec::new());
    let said = |kind: &str, state: WakeState| (Some(state.clone()), vec![json!({"kind": kind, "state": state})]);
    let changed = |Transition { state, publish }: Transition| match publish {
        Publish::Nothing => (Some(state), Vec::new()),
        Publish::State => said("wake", state),
        Publish::Soon(at) => (Some(state), vec![json!({"kind": "soon", "at": at})]),
    };
    let (answer, published) = match operation {
        Operation::Lower(at, now) => changed(wake::lower(key, *at, *now, nonce)),
        Operation::Mark(token, epoch) => (Some(wake::mark(key, token, *epoch, nonce)), Vec::new()),
        Operation::Set(token, nonce, next) => wake::set(key, token, *nonce, *next).map_or(unchanged, changed),
        Operation::Nudge => wake::nudge(key).map_or(unchanged, |state| said("nudge", state)),
        Operation::Beat(beat) if beat.id == LEADER => said("heartbeat", wake::beat(key, beat, nonce)),
        _ => unchanged,
    };
    Outcome { key: answer.clone().or(key.cloned()), answer, published }
}

async fn answer(bus: &dyn Bus, operation: &Operation) -> Option<WakeState> {
    match operation {
        Operation::Lower(at, now) => Some(bus.lower(*at, *now).await.unwrap()),
        Operation::Mark(token, epoch) => Some(bus.mark(token, *epoch).await.unwrap()),
        Operation::Set(token, nonce, next) => bus.set(token, *nonce, *next).await.unwrap(),
        Operation::Nudge => bus.nudge().await.unwrap(),
        Operation::Beat(beat) => bus.beat(beat).await.unwrap(),
        Operation::Flush | Operation::GoBack(_) | Operation::Garble => None,
    }
}

#[tokio::test]
async fn redis_does_what_the_functions_say() {
    let server = RedisServer::start().await;
    let lifecycle = Lifecycle::new();
    let mut connection = server.connection().await;
    let mut listener = redis::Client::open(server.url()).unwrap().get_async_pubsub().await.unwrap();
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let namespace = format!("parity-{seed}");
        let key_name = format!("{{{namespace}}}:wake");
        let bus = RedisBus::connect(&server.url(), &namespace, Arc::new(SystemClock::new()), &lifecycle).unwrap();
        assert!(bus.elect(LEADER, TTL).await.unwrap());
        listener.subscribe(&key_name).await.unwrap();
        let (mut key, mut past): (Option<WakeState>, Vec<String>) = (None, Vec::new());
        for step in 0..80 {
            let operation = random_operation(&mut rng, key.as_ref(), true);
            let garbage = ["", "{}", "null", "not json", r#"{"nonce":"1"}"#][rng.usize(0..5)];
            let text = match &operation {
                Operation::GoBack(to) if !past.is_empty() => Some(past[to % past.len()].as_str()),
                Operation::Garble => Some(garbage),
                _ => None,
            };
            if let Some(text) = text {
                redis::cmd("SET").arg(&key_name).arg(text).exec_async(&mut connection).await.unwrap();
                key = serde_json::from_str(text).ok();
            }
            if matches!(operation, Operation::Flush) {
                redis::cmd("DEL").arg(&key_name).exec_async(&mut connection).await.unwrap();
                key = None;
            }
            let answer = answer(&bus, &operation).await;
            let nonce = answer.as_ref().map_or(0, |state| state.nonce);
            let text: Option<String> = redis::cmd("GET").arg(&key_name).query_async(&mut connection).await.unwrap();
            let mut published = Vec::new();
            // The end mark comes after whatever the operation published.
            redis::cmd("PUBLISH").arg(&key_name).arg("\"end\"").exec_async(&mut connection).await.unwrap();
            while let Some(message) = listener.on_message().next().await {
                match serde_json::from_slice(message.get_payload_bytes()).unwrap() {
                    Value::String(_) => break,
                    message => published.push(message),
                }
            }
            let state = text.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let actual = Outcome { answer, key: state, published };
            assert_eq!(actual, expected(key.as_ref(), &operation, nonce), "seed {seed} step {step}: {operation:?}");
            key = actual.key;
            past.extend(text);
        }
        listener.unsubscribe(&key_name).await.unwrap();
    }
}

#[tokio::test]
async fn the_local_bus_does_what_the_functions_say() {
    for seed in 0..200 {
        let mut rng = Rng::with_seed(seed);
        let bus = LocalBus::new();
        assert!(bus.elect(LEADER, TTL).await.unwrap());
        let mut subscription = bus.subscribe();
        assert_eq!(subscription.try_recv(), Some(BusEvent::Connected(None)));
        let mut key: Option<WakeState> = None;
        for step in 0..80 {
            let operation = random_operation(&mut rng, key.as_ref(), false);
            let answer = answer(&bus, &operation).await;
            let nonce = answer.as_ref().map_or(0, |state| state.nonce);
            let published = subscription.try_recv().map(|event| match event {
                BusEvent::Wake(state) => json!({"kind": "wake", "state": state}),
                BusEvent::Nudge(state) => json!({"kind": "nudge", "state": state}),
                BusEvent::Soon(at) => json!({"kind": "soon", "at": at}),
                BusEvent::Heartbeat(state) => json!({"kind": "heartbeat", "state": state}),
                other => panic!("{other:?}"),
            });
            let published = published.into_iter().collect();
            let actual = Outcome { answer, key: bus.read().await.unwrap(), published };
            assert_eq!(actual, expected(key.as_ref(), &operation, nonce), "seed {seed} step {step}: {operation:?}");
            key = actual.key;
        }
    }
}

#[tokio::test]
async fn the_largest_numbers_survive_a_script() {
    let server = RedisServer::start().await;
    let bus = RedisBus::connect(&server.url(), "large", Arc::new(SystemClock::new()), &Lifecycle::new()).unwrap();
    let large = WakeState {
        nonce: NEVER as u64,
        epoch: NEVER - 1,
        seq: NEVER as u64 - 2,
        next_ms: NEVER - 3,
        mark: String::new(),
        since_ms: NEVER,
        db_ms: NEVER - 4,
    };
    server.command(&["SET", "{large}:wake", &serde_json::to_string(&large).unwrap()]).await;
    let lowered = bus.lower(NEVER - 3, 0).await.unwrap();
    assert_eq!(lowered, WakeState { since_ms: NEVER - 3, ..large });
}
