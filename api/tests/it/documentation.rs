//! `/openapi.json` and `/docs`: what is checked in is what is served, and the page needs nobody else.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use reveille_api::{documentation, openapi_json};
use serde_json::Value;
use tower::ServiceExt;

/// The description that is checked in, for those who generate clients.
const CHECKED_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

async fn get(path: &str) -> (StatusCode, HeaderMap, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = documentation().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

/// `UPDATE_OPENAPI=1 cargo test -p reveille-api openapi` writes it anew.
#[tokio::test]
async fn the_checked_in_openapi_is_the_one_that_is_served() {
    let (status, headers, served) = get("/openapi.json").await;
    assert_eq!((status, &headers[header::CONTENT_TYPE]), (StatusCode::OK, &"application/json".parse().unwrap()));
    assert_eq!(served, openapi_json().unwrap());
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(CHECKED_IN, &served).unwrap();
    }
    let checked_in = std::fs::read_to_string(CHECKED_IN).unwrap_or_default();
    let differing = served.lines().zip(checked_in.lines()).enumerate().find(|(_, (served, kept))| served != kept);
    assert!(served == checked_in, "api/openapi.json is old, see UPDATE_OPENAPI in this file: {differing:?}");
}

#[tokio::test]
async fn the_description_is_openapi_3_1_and_complete() {
    let description: Value = serde_json::from_str(&openapi_json().unwrap()).unwrap();
    assert_eq!(description["openapi"], "3.1.0");
    assert_eq!(description["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let says = |field: &str| operation[field].as_str().is_some_and(|text| !text.is_empty());
            assert!(says("summary") && says("description") && says("operationId"), "{method} {path}");
            for status in ["200", "401", "403", "429", "500", "503"] {
                assert!(operation["responses"].get(status).is_some(), "{method} {path} does not describe {status}");
            }
        }
    }
    let text = description.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(description.pointer(reference).is_some(), "{reference} leads nowhere");
    }
}

/// What tools stopped at: openapi-generator without the licence's SPDX identifier, validators and generators of models at
/// a name of a header that had to be an object. `ci/client` holds the tools themselves to it.
#[tokio::test]
async fn the_description_can_be_used_by_tools() {
    let description: Value = serde_json::from_str(&openapi_json().unwrap()).unwrap();
    assert_eq!(description["info"]["license"]["identifier"], "Apache-2.0");
    let schemas = description["components"]["schemas"].as_object().unwrap();
    assert_eq!(schemas["Connection"]["properties"]["headers"]["propertyNames"]["type"], "string");
    assert_eq!(schemas["Client"]["additionalProperties"], false);
    for of in ["Connection", "Target"] {
        for (field, schema) in schemas[of]["properties"].as_object().unwrap() {
            assert!(schema["description"].is_string(), "{of} does not describe {field}");
        }
    }
}

/// Whoever tries one example after the other replaces none by the next.
#[test]
fn the_examples_have_identities_of_their_own() {
    let description: Value = serde_json::from_str(&openapi_json().unwrap()).unwrap();
    let example = &description["components"]["schemas"]["RegistrationDocument"]["example"];
    let mut clients = vec![example["client"].to_string()];
    let page = |path: &str| std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let pages = page("README.md") + &page("docs/calling.md");
    for (at, _) in pages.match_indices("\"client\": {") {
        let client = pages[at..].split_once(": ").unwrap().1;
        let client: Value = serde_json::from_str(&client[..=client.find('}').unwrap()]).unwrap();
        clients.push(client.to_string());
    }
    let distinct: std::collections::BTreeSet<&String> = clients.iter().collect();
    assert!(clients.len() > 2 && distinct.len() == clients.len(), "{clients:?}");
}

#[tokio::test]
async fn the_page_refers_to_nothing_outside_this_server() {
    let (status, headers, page) = get("/docs").await;
    assert_eq!(status, StatusCode::OK);
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("http") && !policy.contains('*'), "{policy}");

    let links = page.split(['"']).filter(|text| text.starts_with("docs/")).collect::<Vec<_>>();
    assert_eq!(links.len(), 3, "{page}");
    for link in links {
        let (status, headers, text) = get(&format!("/{link}")).await;
        assert_eq!(status, StatusCode::OK, "{link}");
        assert_eq!(headers[header::CONTENT_SECURITY_POLICY], policy, "{link}");
        // The bundle names addresses in its texts and as XML name spaces; that it calls none of them is the policy's.
        if !link.ends_with("bundle.js") {
            check_local(link, &text);
        }
    }
    check_local("page", &page);
    let (_, _, start) = get("/docs/start.js").await;
    assert!(start.contains("validatorUrl: \"none\""), "the badge of a validator is an image of another site");
}

fn check_local(name: &str, text: &str) {
    for (at, _) in text.match_indices("//") {
        let around = &text[text[..at].char_indices().rev().nth(40).map_or(0, |(at, _)| at)..];
        let is_name_space = around.contains("xmlns=") || around.contains("xmlns:xlink=");
        assert!(is_name_space, "{name} refers to {}", around.chars().take(120).collect::<String>());
    }
}

#[tokio::test]
async fn what_is_beside_the_documentation_is_a_problem() {
    for path in ["/docs/index.html", "/docs/oauth2-redirect.html", "/docs/swagger-initializer.js", "/docs/%2e%2e%2fx"] {
        let (status, headers, _) = get(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{path}");
    }
    let (status, headers, _) = get("/docs/").await;
    assert_eq!((status, &headers[header::LOCATION]), (StatusCode::PERMANENT_REDIRECT, &"../docs".parse().unwrap()));
    let post = Request::post("/openapi.json").body(Body::empty()).unwrap();
    let response = documentation().oneshot(post).await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()[header::ALLOW], "GET,HEAD");
}
