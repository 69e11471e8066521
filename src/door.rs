//! The API's door: closed until the database is there (503), then open to whoever knows the token, and never
//! to a browser that speaks for another site.
//! Health and metrics stand beside it and are always answered.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use reveille_api::{Caller, Problem, TokenInInit, problem_response};
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

    fn token_in_init(&self) -> TokenInInit {
        let expected = self.token;
        TokenInInit(Arc::new(move |token| {
            let is_known = expected.is_none_or(|expected| digest(&token) == expected);
            Box::pin(async move { is_known.then(Caller::operator) })
        }))
    }
}

/// Whether a browser sends this for a page of another site (Fetch Metadata). Such a page needs no answer to do
/// harm: a form can register a schedule with any listener on its visitor's own machine.
fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site")
}

async fn enter(State(door): State<Door>, mut request: Request) -> Response {
    if is_cross_site(request.headers()) {
        return problem(
            StatusCode::FORBIDDEN,
            "cross_site",
            "cross-site request",
            "pages of other sites may not call the API",
        );
    }
    let is_admitted = door.admits(request.headers()) || reveille_api::is_for_page(&request);
    if !is_admitted && reveille_api::is_for_socket(&request) {
        // A browser cannot send the token with this: the connection brings it before it does anything.
        request.extensions_mut().insert(door.token_in_init());
    } else if !is_admitted {
        let refusal = problem(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "not authorized",
            "send the API token as `Authorization: Bearer …`",
        );
        return ([(WWW_AUTHENTICATE, "Bearer")], refusal).into_response();
    }
    match door.api.get() {
        Some(api) => api.clone().oneshot(request).await.into_response(),
        None => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "database_unavailable",
            "the database is unavailable",
            "this process has not reached its database yet; nothing was done",
        ),
    }
}

fn problem(status: StatusCode, code: &'static str, title: &'static str, detail: &str) -> Response {
    problem_response(&Problem { status: status.as_u16(), code, title, detail: detail.to_owned(), errors: Vec::new() })
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
