//! Registrations that arrive together share a commit, and nothing else: each has its own answer.

use axum::http::StatusCode;
use futures_util::future::join_all;
use reveille_shared::model::run::{OutcomeCode, RunState, Successor};
use serde_json::{Value, json};

use crate::support::{Answer, Api, START, document, finish};

/// Registers all in the same moment: in one thread all are in line before the first is written.
async fn register_at_once(api: &Api, documents: &[Value]) -> Vec<Answer> {
    api.get("/schedules").await; // whoever asks is known by now, which would be a statement
    join_all(documents.iter().map(|document| api.post("/schedules", document))).await
}

#[tokio::test]
async fn what_arrives_together_is_one_statement_and_each_has_its_answer() {
    let api = Api::start().await;
    let documents: Vec<Value> = (0..64).map(|key| document(&key.to_string(), "delay", "50")).collect();
    api.get("/schedules").await;
    let before = api.store.statements();
    let answers = join_all(documents.iter().map(|document| api.post("/schedules", document))).await;
    assert_eq!(api.store.statements() - before, 1);
    for (document, answer) in documents.iter().zip(answers) {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        assert_eq!(answer.json["client"], document["client"]);
        let shown = api.shown(answer.json["id"].as_str().unwrap()).await;
        assert_eq!(shown["client"], document["client"], "the id is its own");
    }
}

#[tokio::test]
async fn the_same_client_twice_is_one_schedule_and_the_later_document() {
    let api = Api::start().await;
    let (first, mut second) = (document("1", "delay", "50"), document("1", "delay", "60"));
    second["name"] = json!("second");
    let answers = register_at_once(&api, &[first, document("2", "delay", "70"), second]).await;
    assert_eq!(answers[0].json["id"], answers[2].json["id"]);
    let shown = api.shown(answers[2].json["id"].as_str().unwrap()).await;
    assert_eq!((&shown["name"], &shown["task"]["next"]), (&json!("second"), &json!(START / 1000 + 60)));
}

#[tokio::test]
async fn one_that_fails_fails_alone() {
    let api = Api::start().await;
    // Its next minute has run already: the database's clock was set back since.
    let cron = document("cron", "cron", "0 * * * * *");
    let id = api.register(&cron).await;
    api.pass(std::time::Duration::from_secs(60));
    let run = api.claim().await.remove(0);
    let successor = Some(Successor::At(START + 120_000));
    api.settle(&run, finish(RunState::Succeeded, OutcomeCode::Ok, successor)).await;
    api.set_back(std::time::Duration::from_secs(60));
    let mut changed = cron;
    changed["task"]["data"] = json!({"a": 2});
    let answers = register_at_once(&api, &[document("1", "delay", "50"), changed, document("2", "delay", "50")]).await;
    for answer in &answers {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    }
    assert_eq!(answers[1].json["id"], json!(id));
    assert_eq!(api.shown(&id).await["task"]["next"], json!(START / 1000 + 120), "the instant after the one that ran");
}

#[tokio::test]
async fn all_are_told_that_the_database_is_away() {
    let api = Api::start().await;
    api.get("/schedules").await;
    api.store.close().await;
    let documents: Vec<Value> = (0..3).map(|key| document(&key.to_string(), "delay", "50")).collect();
    for answer in join_all(documents.iter().map(|document| api.post("/schedules", document))).await {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.json["code"], "database_unavailable");
    }
}

#[tokio::test]
async fn the_clock_is_asked_for_only_when_it_was_not_told_lately() {
    let api = Api::start().await;
    api.get("/schedules").await;
    let cost = async |key: &str| {
        let before = api.store.statements();
        api.register(&document(key, "cron", "0 * * * * *")).await;
        api.store.statements() - before
    };
    assert_eq!(cost("1").await, 2, "nothing is known yet");
    assert_eq!(cost("2").await, 1);
    assert_eq!(cost("2").await, 1, "unchanged");
    api.pass(std::time::Duration::from_secs(9));
    assert_eq!(cost("3").await, 1);
    api.pass(std::time::Duration::from_secs(10));
    assert_eq!(cost("4").await, 2);
}
