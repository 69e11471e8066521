//! What the API counts: by route, so that neither ids nor inventions of callers become labels.

use axum::body::Body;
use axum::http::Method;

use crate::support::{Api, document};

#[tokio::test]
async fn requests_are_counted_by_route_and_never_by_what_was_asked() {
    let api = Api::start().await;
    let id = api.register(&document("canary", "cron", "@daily")).await;
    api.get(&format!("/schedules/{id}")).await;
    api.get(&format!("/schedules/{id}")).await;
    api.get("/schedules/canary").await;
    api.get("/canary?canary=1").await;
    api.call(Method::from_bytes(b"CANARY").unwrap(), "/schedules", Body::empty()).await;

    let text = api.metrics.render();
    for line in [
        r#"reveille_api_requests_total{method="POST",route="/schedules",status="200"} 1"#,
        r#"reveille_api_requests_total{method="GET",route="/schedules/{id}",status="200"} 2"#,
        r#"reveille_api_requests_total{method="GET",route="/schedules/{id}",status="404"} 1"#,
        r#"reveille_api_requests_total{method="GET",route="unmatched",status="404"} 1"#,
        r#"reveille_api_requests_total{method="other",route="/schedules",status="405"} 1"#,
        r#"reveille_api_request_duration_seconds_count{route="/schedules/{id}"} 3"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.to_lowercase().contains("canary") && !text.contains(&id), "{text}");
}
