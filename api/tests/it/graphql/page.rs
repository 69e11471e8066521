//! The page to try queries on, out of the binary.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};

use crate::support::Api;

async fn get(api: &Api, path: &str, header: (&str, &str)) -> (StatusCode, HeaderMap, String) {
    let request = Request::builder().uri(path).header(header.0, header.1).body(Body::empty()).unwrap();
    let response = api.begin(request).await;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, headers, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn a_browser_gets_a_page_that_takes_nothing_from_elsewhere() {
    let api = Api::start().await;
    let (status, headers, page) = get(&api, "/graphql", ("accept", "text/html,application/xhtml+xml,*/*;q=0.8")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(headers["content-type"].to_str().unwrap().starts_with("text/html"));
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!page.contains("//"), "an address of elsewhere: {page}");
    // Where a key goes is said where it is entered, and another one fetches the schema again: see `start.js`.
    assert!(page.contains("<label for=\"key\">Key or token"), "{page}");
    let (_, _, start) = get(&api, "/graphql/assets/start.js", ("accept", "*/*")).await;
    assert!(start.contains("      key,\n      fetcher: fetcherWith(key)"), "another key must make another page");
    let linked: Vec<&str> = page.split('"').filter(|text| text.starts_with("/graphql/")).collect();
    assert_eq!(linked.len(), 6);
    for path in linked {
        let (status, headers, text) = get(&api, path, ("accept", "*/*")).await;
        assert_eq!((status, text.is_empty()), (StatusCode::OK, false), "{path}");
        let tag = headers["etag"].to_str().unwrap();
        let (status, headers, text) = get(&api, path, ("if-none-match", tag)).await;
        assert_eq!((status, text.as_str()), (StatusCode::NOT_MODIFIED, ""), "{path}");
        assert!(headers.contains_key("content-security-policy"));
    }
    assert_eq!(get(&api, "/graphql/assets/VENDOR.md", ("accept", "*/*")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&api, "/graphql/assets/..%2fmod.rs", ("accept", "*/*")).await.0, StatusCode::NOT_FOUND);
}
