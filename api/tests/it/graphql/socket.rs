//! Subscriptions over graphql-transport-ws: who may watch what, and how a connection ends.

use std::time::Duration;

use reveille_shared::bus::stage::{RunStage, Stage};
use reveille_shared::bus::{BusEvent, Subscription};
use reveille_shared::model::access::Scope;
use reveille_shared::model::run::RunState;
use reveille_testkit::{Heard, Subscriber, eventually};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::access::key;
use crate::support::{Api, START};

const SOON: Duration = Duration::from_secs(20);
const STAGES: &str = "subscription($scheduleId: ID, $application: String, $group: String) {
    runStages(scheduleId: $scheduleId, application: $application, group: $group) {
        runId application stage state outcome at missed } }";

fn stage(application: &str, group: &str, stage: Stage) -> RunStage {
    RunStage {
        run_id: Uuid::now_v7(),
        schedule_id: Uuid::now_v7(),
        application: application.to_owned(),
        group: group.to_owned(),
        attempt: 1,
        stage,
        state: RunState::Running,
        outcome: None,
        at: START,
    }
}

/// Ends when a worker would know that somebody watches.
async fn wanted(workers: &mut Subscription) {
    while workers.recv().await != Some(BusEvent::StagesWanted) {}
}

/// An API that wants keys, and one that is limited to the application `chef`.
async fn with_key() -> (Api, String) {
    let api = Api::start().await;
    let (_, key) = key(&api, Scope::Read, Some("chef"), None).await;
    (api, key)
}

#[tokio::test]
async fn a_subscriber_sees_what_he_asked_for_and_nobody_is_bothered_without_one() {
    let api = Api::start().await;
    let mut workers = api.bus.subscribe();
    assert_eq!(workers.recv().await, Some(BusEvent::Connected(None)));
    let address = api.listen().await;
    let mut subscriber = Subscriber::start(&address, Value::Null).await;
    assert_eq!(workers.try_recv(), None, "a connection alone watches nothing");
    subscriber.subscribe("1", STAGES, json!({"application": "chef", "group": "system"})).await;
    wanted(&mut workers).await;
    let seen = stage("chef", "system", Stage::Claimed);
    let others = [stage("other", "system", Stage::Claimed), stage("chef", "other", Stage::Claimed), seen.clone()];
    api.bus.stages_tell(&others).await.unwrap();
    let shown = json!({"runId": seen.run_id, "application": "chef", "stage": "CLAIMED", "state": "RUNNING",
        "outcome": null, "at": "2027-01-15T08:00:00+00:00", "missed": false});
    assert_eq!(subscriber.next().await, json!({"runStages": shown}));

    subscriber.subscribe("2", STAGES, json!({"scheduleId": seen.schedule_id})).await;
    subscriber.send(&json!({"id": "1", "type": "complete"})).await;
    assert_eq!(subscriber.hear().await, Heard::Message(json!({"id": "1", "type": "complete"})));
    let settled =
        RunStage { stage: Stage::Settled, state: RunState::Succeeded, outcome: Some("ok".to_owned()), ..seen };
    api.bus.stages_tell(&[stage("chef", "system", Stage::Claimed), settled]).await.unwrap();
    let last = subscriber.next().await["runStages"].clone();
    assert_eq!((&last["stage"], &last["outcome"]), (&json!("SETTLED"), &json!("ok")));

    drop(subscriber);
    // As long as somebody watches, the workers are told again and again; then no more.
    let workers = tokio::sync::Mutex::new(workers);
    eventually(SOON, "the interest ends", || async {
        let mut workers = workers.lock().await;
        while workers.try_recv().is_some() {}
        api.pass(Duration::from_secs(6));
        tokio::time::timeout(Duration::from_millis(100), workers.recv()).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn stages_that_were_lost_are_said_to_be() {
    let api = Api::start().await;
    let mut workers = api.bus.subscribe();
    let mut subscriber = Subscriber::start(&api.listen().await, Value::Null).await;
    subscriber.subscribe("1", STAGES, json!({"application": "chef"})).await;
    wanted(&mut workers).await;
    for _ in 0..2000 {
        // Without a pause for the subscriber.
        api.bus.stages_tell(&[stage("other", "", Stage::Claimed)]).await.unwrap();
    }
    api.bus.stages_tell(&[stage("chef", "", Stage::Claimed)]).await.unwrap();
    assert_eq!(subscriber.next().await["runStages"]["missed"], true);
    api.bus.stages_tell(&[stage("chef", "", Stage::Claimed)]).await.unwrap();
    assert_eq!(subscriber.next().await["runStages"]["missed"], false);
}

#[tokio::test]
async fn a_caller_limited_to_an_application_sees_no_other() {
    let (api, key) = with_key().await;
    let mut workers = api.bus.subscribe();
    let address = api.listen().await;
    let mut subscriber = Subscriber::start(&address, json!({"Authorization": format!("Bearer {key}")})).await;
    subscriber.subscribe("1", STAGES, json!({})).await;
    subscriber.subscribe("2", STAGES, json!({"application": "other"})).await;
    wanted(&mut workers).await;
    // The second operation was read when the third is answered.
    subscriber.subscribe("3", "{ wake { known } }", json!({})).await;
    assert_eq!(subscriber.next().await["wake"]["known"], false);
    assert_eq!(subscriber.hear().await, Heard::Message(json!({"id": "3", "type": "complete"})));
    api.bus.stages_tell(&[stage("other", "", Stage::Claimed), stage("chef", "", Stage::Claimed)]).await.unwrap();
    assert_eq!(subscriber.next().await["runStages"]["application"], "chef");
}

#[tokio::test]
async fn a_connection_that_does_not_say_who_it_is_does_nothing() {
    let (api, key) = with_key().await;
    let address = api.listen().await;
    let check = async |message: Value, code: u16| {
        let mut connection = Subscriber::connect(&address, &[]).await.unwrap();
        connection.send(&message).await;
        assert_eq!(connection.hear().await, Heard::Closed(code), "{message}");
    };
    for payload in [
        Value::Null,
        json!({}),
        json!("x"),
        json!({"Authorization": "Bearer wrong"}),
        json!({"Authorization": key}),
        json!({"Authorization": 7}),
    ] {
        check(json!({"type": "connection_init", "payload": payload}), 4403).await;
    }
    check(json!({"id": "1", "type": "subscribe", "payload": {"query": "{ wake { known } }"}}), 4401).await;
    check(json!({"type": "nothing"}), 4400).await;
    check(json!([]), 4400).await;
    let mut silent = Subscriber::connect(&address, &[]).await.unwrap();
    let heard = tokio::select! {
        heard = silent.hear() => heard,
        () = async {
            loop {
                api.pass(Duration::from_secs(1));
                tokio::task::yield_now().await;
            }
        } => unreachable!(),
    };
    assert_eq!(heard, Heard::Closed(4408));
}

#[tokio::test]
async fn pages_of_other_sites_and_other_protocols_are_refused() {
    let api = Api::start().await;
    let address = api.listen().await;
    let check = async |header: (&'static str, &str), admitted: bool| {
        let connected = Subscriber::connect(&address, &[header]).await;
        assert_eq!(connected.is_ok(), admitted, "{header:?}");
    };
    check(("origin", "https://elsewhere.example"), false).await;
    check(("origin", "null"), false).await;
    check(("origin", &format!("http://{address}")), true).await;
    check(("sec-websocket-protocol", "graphql-ws"), false).await;
}

#[tokio::test]
async fn a_connection_has_a_limited_number_of_operations_and_ends_with_the_process() {
    let api = Api::start().await;
    let address = api.listen().await;
    let mut subscriber = Subscriber::start(&address, Value::Null).await;
    for id in 0..33 {
        subscriber.subscribe(&id.to_string(), STAGES, json!({})).await;
    }
    let Heard::Message(refused) = subscriber.hear().await else { panic!("closed") };
    assert_eq!((&refused["id"], &refused["type"]), (&json!("32"), &json!("next")));
    assert_eq!(refused["payload"]["errors"][0]["extensions"]["code"], "limit_exceeded");
    assert_eq!(subscriber.hear().await, Heard::Message(json!({"id": "32", "type": "complete"})));
    api.lifecycle.stop();
    assert_eq!(subscriber.hear().await, Heard::Closed(1001));
}
