//! Secret headers: delivered, never shown, and kept by `***`.

use axum::http::StatusCode;
use reveille_shared::model::schedule::Definition;
use serde_json::{Value, json};

use crate::support::{Api, document};

const CANARY: &str = "canary-6f1d";

fn secretive(key: &str) -> Value {
    let mut document = document(key, "cron", "@daily");
    document["task"]["connection"]["headers"] =
        json!({"authorization": CANARY, "Cookie": CANARY, "X-Api-Key": CANARY, "X-Plain": "seen"});
    document
}

async fn stored(api: &Api, id: &str) -> Definition {
    let row = api.store.schedule_get(id.parse().unwrap()).await.unwrap().unwrap();
    serde_json::from_str(&row.payload).unwrap()
}

#[tokio::test]
async fn secrets_are_masked_and_survive_being_sent_back() {
    let api = Api::start().await;
    let id = api.register(&secretive("1")).await;
    let shown = api.shown(&id).await;
    let headers = &shown["task"]["connection"]["headers"];
    assert_eq!(headers, &json!({"authorization": "***", "Cookie": "***", "X-Api-Key": "***", "X-Plain": "seen"}));
    let everything = api.get("/schedules").await.json.to_string() + &shown.to_string();
    assert!(!everything.contains(CANARY));

    // By update and by registration; changed elsewhere, so that it is really written.
    let mut back = shown.clone();
    back["task"]["data"] = json!({"b": 2});
    assert_eq!(api.post(&format!("/schedules/{id}/update"), &back).await.status, StatusCode::OK);
    assert_eq!(stored(&api, &id).await.task.connection.headers["Cookie"], CANARY);
    back["task"]["data"] = json!({"c": 3});
    back["task"]["connection"]["headers"]["X-Api-Key"] = json!("new");
    assert_eq!(api.register(&back).await, id);
    let headers = stored(&api, &id).await.task.connection.headers;
    assert_eq!((headers["authorization"].as_str(), headers["X-Api-Key"].as_str()), (CANARY, "new"));
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
