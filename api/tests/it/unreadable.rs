//! A stored document that this version cannot read: shown by what is known of it, and no reason to hide the others.

use axum::http::StatusCode;
use reveille_shared::model::schedule::ClientKey;
use reveille_shared::model::timing::{ArmAt, Arming, OnUnchanged};
use reveille_shared::store::Registration;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Api, START, document};

/// Stores a payload as it is.
async fn store(api: &Api, key: &str, payload: &str) -> String {
    let registration = Registration {
        id: Uuid::now_v7(),
        client: ClientKey { key: key.to_owned(), ..ClientKey::default() },
        name: "stored".to_owned(),
        payload: payload.to_owned(),
        fingerprint: key.to_owned(),
        queue: "default".to_owned(),
        priority: 0,
        arming: Arming { at: ArmAt::At(START + 7000), calendar: true, unchanged: OnUnchanged::Keep },
        run_id: Uuid::now_v7(),
        history_check: false,
    };
    api.store.schedule_upsert(&[registration]).await.unwrap().schedules[0].id.to_string()
}

#[tokio::test]
async fn an_unreadable_document_is_shown_by_what_is_known_of_it_and_hides_no_other() {
    let api = Api::start().await;
    let sound = api.register(&document("1", "cron", "@daily")).await;
    let newer = json!({
        "name": "newer", "client": {"key": "k", "type": "t"}, "type": "lunar", "schedule": "full moon",
        "task": {"type": "owl", "connection": {"headers": {"Authorization": "s3cr3t"}}, "data": "s3cr3t"}
    });
    let newer = store(&api, "k", &newer.to_string()).await;
    let garbage = store(&api, "g", "not json s3cr3t").await;

    let listed = api.get("/schedules").await;
    assert_eq!(listed.status, StatusCode::OK);
    let ids: Vec<&str> = listed.json.as_array().unwrap().iter().map(|shown| shown["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&sound, &newer, &garbage]);
    assert_eq!(listed.json[0]["unreadable"], Value::Null);
    assert!(!listed.json.to_string().contains("s3cr3t"), "{}", listed.json);
    let paged = api.get("/schedules?limit=2").await;
    assert_eq!((paged.status, paged.json.as_array().unwrap().len()), (StatusCode::OK, 2));

    let shown = api.shown(&newer).await;
    assert_eq!(shown, listed.json[1]);
    assert_eq!(
        (&shown["name"], &shown["client"]["key"], &shown["unreadable"]),
        (&json!("newer"), &json!("k"), &json!(true))
    );
    assert_eq!((&shown["state"], &shown["revision"]), (&json!("active"), &json!(1)));
    assert_eq!(shown["task"], json!({"status": "idle", "next": START / 1000 + 7, "iteration": 0, "retry_count": 0}));
    assert_eq!(api.shown(&garbage).await["name"], Value::Null);

    // It can be mended and taken away like any other.
    let mended = api.post(&format!("/schedules/{newer}/update"), &document("k", "cron", "@daily")).await;
    assert_eq!(mended.status, StatusCode::OK, "{}", mended.json);
    assert_eq!(api.shown(&newer).await["unreadable"], Value::Null);
    assert_eq!(api.delete(&format!("/schedules/{garbage}")).await.status, StatusCode::OK);
}
