//! The API's door: closed until the database is there (503), then open, but never to a browser that speaks for
//! another site. Who may do what is the API's own business.
//! Health and metrics stand beside it and are always answered.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use reveille_api::{Problem, problem_response};
use tower::ServiceExt;

/// Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct Door {
    api: Arc<OnceLock<Router>>,
}

impl Door {
    /// A closed door.
    pub(crate) fn new() -> Self {
        Self::default()
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
}

/// Whether a browser sends this for a page of another site (Fetch Metadata). Such a page needs no answer to do
/// harm: a form can register a schedule with any listener on its visitor's own machine.
fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site")
}

async fn enter(State(door): State<Door>, request: Request) -> Response {
    if is_cross_site(request.headers()) {
        return problem(
            StatusCode::FORBIDDEN,
            "cross_site",
            "cross-site request",
            "pages of other sites may not call the API",
        );
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
