//! The API's door: closed until the database is there (503), then open to whoever knows the token.
//! Health and metrics stand beside it and are always answered.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

/// Cloning shares it.
#[derive(Clone)]
pub(crate) struct Door {
    /// Digest of the token, so that comparing takes as long for a near miss as for any other.
    token: Option<[u8; 32]>,
    api: Arc<OnceLock<Router>>,
}

impl Door {
    /// A closed door. Without a token everybody may enter once it is open.
    pub(crate) fn new(token: Option<&str>) -> Self {
        Self { token: token.map(digest), api: Arc::default() }
    }

    /// Lets requests through to `api` from now on.
    pub(crate) fn open(&self, api: Router) {
        // Opened twice: the first stays.
        let _ = self.api.set(api);
    }

    /// `beside`, and everything else through the door.
    pub(crate) fn router(&self, beside: Router) -> Router {
        beside.fallback_service(axum::routing::any(enter).with_state(self.clone()))
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(expected) = self.token else { return true };
        let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, token)) = sent.and_then(|value| value.split_once(' ')) else { return false };
        scheme.eq_ignore_ascii_case("bearer") && digest(token.trim()) == expected
    }
}

async fn enter(State(door): State<Door>, request: Request) -> Response {
    if !door.admits(request.headers()) {
        let refusal = problem(StatusCode::UNAUTHORIZED, "unauthorized", "send the API's token as a bearer token");
        return ([(WWW_AUTHENTICATE, "Bearer")], refusal).into_response();
    }
    match door.api.get() {
        Some(api) => api.clone().oneshot(request).await.into_response(),
        None => {
            let refusal = problem(StatusCode::SERVICE_UNAVAILABLE, "starting", "the database is not there yet");
            ([(RETRY_AFTER, "1")], refusal).into_response()
        }
    }
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let title = status.canonical_reason();
    let body = serde_json::json!({"title": title, "status": status.as_u16(), "code": code, "detail": detail});
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
