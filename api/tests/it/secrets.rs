//! Secrets: sealed at rest, never shown, and kept by `***` for the server they were registered for.

use std::sync::Arc;

use axum::http::StatusCode;
use reveille_api::Settings;
use reveille_shared::bus::local::LocalBus;
use reveille_shared::model::schedule::Definition;
use reveille_shared::store::StoredPayload;
use serde_json::{Value, json};

use crate::support::{Api, KEY, document, sealer};

const CANARY: &str = "canary-6f1d";

fn secretive(key: &str) -> Value {
    let mut document = document(key, "cron", "@daily");
    document["task"]["connection"]["headers"] =
        json!({"authorization": CANARY, "Cookie": CANARY, "X-Token": CANARY, "X-Plain": "seen"});
    document
}

fn redis(key: &str) -> Value {
    let mut document = document(key, "cron", "@daily");
    document["task"]["type"] = json!("redis");
    document["task"]["connection"] = json!({"host": format!("redis://u:{CANARY}@h:1"), "topic": "t"});
    document
}

/// What is stored, as text and opened.
async fn stored(api: &Api, id: &str) -> (String, Definition) {
    let row = api.store.schedule_get(id.parse().unwrap()).await.unwrap().unwrap();
    let mut definition = serde_json::from_str(&row.payload).unwrap();
    sealer(&[KEY]).unseal(&mut definition).unwrap();
    (row.payload, definition)
}

async fn revision(api: &Api, id: &str) -> i64 {
    api.shown(id).await["revision"].as_i64().unwrap()
}

/// What an earlier version would have stored.
async fn store_in_the_clear(api: &Api, id: &str) {
    let (_, plain) = stored(api, id).await;
    let row = api.store.schedule_get(id.parse().unwrap()).await.unwrap().unwrap();
    let payload = serde_json::to_string(&plain).unwrap();
    let clear = StoredPayload { id: row.id, revision: row.revision, payload, fingerprint: "old".to_owned() };
    assert_eq!(api.store.schedule_reseal(&[clear]).await.unwrap(), 1);
}

#[tokio::test]
async fn secrets_are_sealed_masked_and_survive_being_sent_back() {
    let api = Api::start().await;
    let id = api.register(&secretive("1")).await;
    let shown = api.shown(&id).await;
    let headers = &shown["task"]["connection"]["headers"];
    assert_eq!(headers, &json!({"authorization": "***", "Cookie": "***", "X-Token": "***", "X-Plain": "seen"}));
    let everything = api.get("/schedules").await.json.to_string() + &shown.to_string() + &stored(&api, &id).await.0;
    assert!(!everything.contains(CANARY));

    // By update and by registration; changed elsewhere, so that it is really written.
    let mut back = shown.clone();
    back["task"]["data"] = json!({"b": 2});
    back["client"]["group"] = json!("moved to another client key");
    assert_eq!(api.post(&format!("/schedules/{id}/update"), &back).await.status, StatusCode::OK);
    assert_eq!(stored(&api, &id).await.1.task.connection.headers["Cookie"], CANARY);
    back["task"]["data"] = json!({"c": 3});
    back["task"]["connection"]["headers"]["Cookie"] = json!("new");
    back["task"]["connection"]["host"] = json!("http://localhost:3000/another/path");
    assert_eq!(api.register(&back).await, id);
    let (payload, plain) = stored(&api, &id).await;
    let headers = plain.task.connection.headers;
    assert_eq!((headers["authorization"].as_str(), headers["Cookie"].as_str()), (CANARY, "new"));
    assert!(!payload.contains(CANARY));
}

#[tokio::test]
async fn the_same_document_again_is_unchanged_although_nonces_differ() {
    let api = Api::start().await;
    for document in [secretive("1"), redis("2")] {
        let id = api.register(&document).await;
        api.register(&document).await;
        let masked = api.shown(&id).await;
        api.register(&masked).await;
        assert_eq!(revision(&api, &id).await, 1);
        let other = serde_json::from_str(&document.to_string().replacen(CANARY, "other", 1)).unwrap();
        api.register(&other).await;
        assert_eq!(revision(&api, &id).await, 2);
    }
}

#[tokio::test]
async fn the_password_of_a_redis_url_is_a_secret_like_any_other() {
    let api = Api::start().await;
    let id = api.register(&redis("1")).await;
    let mut shown = api.shown(&id).await;
    assert_eq!(shown["task"]["connection"]["host"], "redis://u:***@h:1");
    shown["task"]["connection"]["topic"] = json!("another");
    api.register(&shown).await;
    let (payload, plain) = stored(&api, &id).await;
    assert_eq!(plain.task.connection.host, format!("redis://u:{CANARY}@h:1"));
    assert!(!payload.contains(CANARY));
}

#[tokio::test]
async fn a_mask_does_not_send_a_secret_elsewhere() {
    let api = Api::start().await;
    for (document, host) in [(secretive("1"), "http://localhost:3001/run"), (redis("2"), "redis://u:***@i:1")] {
        let id = api.register(&document).await;
        let mut shown = api.shown(&id).await;
        shown["task"]["connection"]["host"] = json!(host);
        for path in ["/schedules".to_owned(), format!("/schedules/{id}/update")] {
            let answer = api.post(&path, &shown).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.json);
            assert_eq!(answer.json["errors"][0]["code"], "target_changed");
        }
        assert_eq!(revision(&api, &id).await, 1);
    }
}

#[tokio::test]
async fn a_mask_without_a_stored_value_is_refused() {
    let api = Api::start().await;
    let mut masked = document("1", "cron", "@daily");
    masked["task"]["connection"]["headers"] = json!({"Authorization": "***"});
    let answer = api.post("/schedules", &masked).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.json["errors"][0]["pointer"], "/task/connection/headers/Authorization");
}

#[tokio::test]
async fn without_a_key_secrets_are_refused_and_references_are_not() {
    let api = Api::start_with(Settings::default(), Arc::new(LocalBus::new())).await;
    for (document, pointer) in
        [(secretive("1"), "/task/connection/headers/Cookie"), (redis("1"), "/task/connection/host")]
    {
        let answer = api.post("/schedules", &document).await;
        assert_eq!((answer.status, &answer.json["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("no_secret_key")));
        assert_eq!(answer.json["errors"][0]["pointer"], pointer);
    }
    assert_eq!(api.get("/schedules").await.status, StatusCode::NOT_FOUND, "nothing was stored");
    let mut referring = document("1", "cron", "@daily");
    referring["task"]["connection"]["headers"] = json!({"Authorization": "Bearer secret://token"});
    let id = api.register(&referring).await;
    let shown = api.shown(&id).await;
    assert_eq!(shown["task"]["connection"]["headers"]["Authorization"], "Bearer secret://token");
}

#[tokio::test]
async fn what_was_stored_in_the_clear_is_masked_and_sealed_by_the_next_registration() {
    let api = Api::start().await;
    let mut document = secretive("1");
    document["task"]["connection"]["headers"] = json!({"Authorization": CANARY});
    let id = api.register(&document).await;
    store_in_the_clear(&api, &id).await;
    let shown = api.shown(&id).await;
    assert_eq!(shown["task"]["connection"]["headers"]["Authorization"], "***");
    api.register(&shown).await;
    let (payload, plain) = stored(&api, &id).await;
    assert!(!payload.contains(CANARY));
    assert_eq!(plain.task.connection.headers["Authorization"], CANARY);
}

#[tokio::test]
async fn a_header_that_is_no_longer_configured_as_secret_stays_one_while_it_is_kept() {
    let api = Api::start().await;
    let id = api.register(&secretive("1")).await;
    let mut shown = api.shown(&id).await;
    let sealer = reveille_shared::runtime::seal::Sealer::new(vec![KEY.parse().unwrap()], Default::default());
    let later = api.beside(Settings { sealer, ..Settings::default() });
    shown["task"]["data"] = json!({"b": 2});
    assert_eq!(later.register(&shown).await, id);
    let (payload, plain) = stored(&api, &id).await;
    assert!(!payload.contains(CANARY));
    assert_eq!(plain.task.connection.headers["X-Token"], CANARY);
}
