//! What one request may ask for, and in which form.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::{ask, data, post};
use crate::support::Api;

const INTROSPECTION: &str = include_str!("introspection.graphql");

async fn code(api: &Api, query: &str) -> String {
    let answer = ask(api, query, json!({})).await;
    answer.json["errors"][0]["extensions"]["code"].as_str().unwrap_or("none").to_owned()
}

#[tokio::test]
async fn requests_are_bounded_in_depth_breadth_and_size() {
    let api = Api::start().await;
    let nested = |depth: usize| {
        let inner = "runs { nodes { schedule { ".repeat(depth);
        format!("{{ schedule(id: \"x\") {{ {inner} name {} }} }}", "} } }".repeat(depth))
    };
    assert_eq!(code(&api, &nested(1)).await, "none");
    assert_eq!(code(&api, &nested(8)).await, "limit_exceeded");
    let many = |count: usize| (0..count).map(|index| format!("w{index}: wake {{ known }} ")).collect::<String>();
    assert_eq!(code(&api, &format!("{{ {} }}", many(10))).await, "none");
    assert_eq!(code(&api, &format!("{{ {} }}", many(11))).await, "limit_exceeded");
    let hidden = format!("query {{ ...Many }} fragment Many on Query {{ ... {{ {} }} }}", many(11));
    assert_eq!(code(&api, &hidden).await, "limit_exceeded");
    let aliases = (0..31).map(|index| format!("k{index}: known ")).collect::<String>();
    assert_eq!(code(&api, &format!("{{ wake {{ {aliases} }} }}")).await, "limit_exceeded");
    let wide = "{ schedules(first: 200) { nodes { runs(first: 200) { nodes { id } } } } }";
    assert_eq!(code(&api, wide).await, "limit_exceeded");
    assert_eq!(
        code(&api, "{ schedules(first: 200) { nodes { id name runs(first: 1) { nodes { id } } } } }").await,
        "limit_exceeded"
    );
    assert_eq!(
        code(&api, "{ schedules(first: 100) { nodes { id name runs(first: 1) { nodes { id } } } } }").await,
        "none"
    );
    assert_eq!(code(&api, "{ ...A } fragment A on Query { ...A }").await, "invalid_graphql");
    assert_eq!(code(&api, "{ nothing }").await, "invalid_graphql");
    assert_eq!(code(&api, "{").await, "invalid_graphql");
    assert_eq!(code(&api, &"{".repeat(10_000)).await, "invalid_graphql");
    let large = format!("{{ wake {{ known }} }} #{}", "x".repeat(256 * 1024));
    assert_eq!(ask(&api, &large, json!({})).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn tools_may_read_the_schema() {
    let api = Api::start().await;
    let schema = data(&api, INTROSPECTION, json!({})).await;
    assert_eq!(schema["__schema"]["subscriptionType"]["name"], "Subscription");
}

#[tokio::test]
async fn a_request_is_one_json_body_by_post() {
    let api = Api::start().await;
    let query = json!({"query": "{ wake { known } }"}).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/graphql"] {
        let answer = post(&api, kind, &query).await;
        assert_eq!(
            (answer.status, &answer.json["code"]),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, &json!("unsupported_media_type"))
        );
    }
    assert_eq!(post(&api, "application/json; charset=utf-8", &query).await.json["data"]["wake"]["known"], false);
    for body in ["", "[]", "7", "{\"query\":7}", &format!("[{query},{query}]")] {
        let answer = post(&api, "application/json", body).await;
        assert_eq!(answer.json["errors"][0]["extensions"]["code"], "invalid_graphql", "{body}");
    }
    let by_get = api.get("/graphql?query=%7Bwake%7Bknown%7D%7D").await;
    assert_eq!((by_get.status, &by_get.json["code"]), (StatusCode::METHOD_NOT_ALLOWED, &json!("method_not_allowed")));
    assert_eq!(api.delete("/graphql").await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_newer_media_type_tells_by_status_what_was_not_executed() {
    let api = Api::start().await;
    let send = async |query: &str| {
        let request =
            Request::builder().method(Method::POST).uri("/graphql").header("content-type", "application/json");
        let request = request.header("accept", "application/graphql-response+json, application/json;q=0.9");
        api.send(request.body(Body::from(json!({"query": query}).to_string())).unwrap()).await
    };
    let good = send("{ wake { known } }").await;
    assert_eq!(
        (good.status, &good.headers["content-type"]),
        (StatusCode::OK, &"application/graphql-response+json".parse().unwrap())
    );
    let bad = send("{ nothing }").await;
    assert_eq!((bad.status, &bad.json["data"]), (StatusCode::BAD_REQUEST, &Value::Null));
}
