//! GraphQL over HTTP: the same schedules as REST, refusals by field, limits.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, Api, document};

/// Sends a request and answers its data; errors of the request fail the test.
pub(crate) async fn data(api: &Api, query: &str, variables: Value) -> Value {
    let answer = ask(api, query, variables).await;
    assert_eq!(answer.json["errors"], Value::Null, "{query}");
    answer.json["data"].clone()
}

async fn ask(api: &Api, query: &str, variables: Value) -> Answer {
    post(api, &json!({"query": query, "variables": variables}).to_string()).await
}

async fn post(api: &Api, body: &str) -> Answer {
    let request = Request::builder().method(Method::POST).uri("/graphql").header("content-type", "application/json");
    api.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

const REGISTER: &str = "mutation($document: JSON) { registerSchedule(document: $document) {
    id name respId warnings client { application key } schedule { id type task { status data } }
    userErrors { pointer code message } } }";

#[tokio::test]
async fn a_schedule_is_registered_and_read_by_both_surfaces() {
    let api = Api::start().await;
    let registered = data(&api, REGISTER, json!({"document": document("1", "cron", "30 * * * * *")})).await;
    let payload = &registered["registerSchedule"];
    assert_eq!(payload["userErrors"], json!([]));
    let id = payload["id"].as_str().unwrap();
    let shown = api.shown(id).await;
    let read = data(&api, "query($id: ID!) { schedule(id: $id) { document } }", json!({"id": id})).await;
    assert_eq!(read["schedule"]["document"], shown);
}
