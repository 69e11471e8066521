//! The API's door: closed until the database is there (503), then open, but never to a browser that speaks for
//! another site. Who may do what is the API's own business. Where nobody is asked for a key, only the names under which
//! this machine's own users know it are answered: a page's name can be made to lead here, and then its scripts are of
//! the same site (DNS rebinding). Nobody can make an address or `localhost` lead elsewhere.
//! Health and metrics stand beside it and are always answered.

use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
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

    /// `beside`, and everything else through the door; with `names`, for requests to these alone.
    pub(crate) fn router(&self, beside: Router, names: Option<Names>) -> Router {
        let router = beside.fallback_service(axum::routing::any(enter).with_state(self.clone()));
        match names {
            Some(names) => router.layer(from_fn_with_state(names, only_own_names)),
            None => router,
        }
    }
}

/// The names a request may be sent to beside addresses and those of loopback.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// Host of the URL under which others reach the API.
    pub(crate) public: Option<String>,
}

impl Names {
    fn allow(&self, authority: &str) -> bool {
        let host = match authority.strip_prefix('[') {
            Some(_) => return true, // an IPv6 address
            None => authority.split_once(':').map_or(authority, |(host, _port)| host),
        };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<Ipv4Addr>().is_ok()
            || self.public.as_deref().is_some_and(|public| public.eq_ignore_ascii_case(&host))
    }
}

async fn only_own_names(State(names): State<Names>, request: Request, next: Next) -> Response {
    // A request without either is from no browser.
    let sent = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(|authority| authority.as_str()).or(sent);
    if authority.is_none_or(|authority| names.allow(authority)) {
        return next.run(request).await;
    }
    problem(
        StatusCode::MISDIRECTED_REQUEST,
        "misdirected",
        "this name is not answered",
        "without a key only loopback names and addresses are answered; --public-url adds a name",
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_loopback_names_and_the_public_one_are_own_names() {
        let names = Names { public: Some("Jobs.example".to_owned()) };
        for own in ["localhost", "LOCALHOST:9902", "a.localhost.", "127.0.0.1:9902", "[::1]:9902", "jobs.example:443"] {
            assert!(names.allow(own), "{own}");
        }
        for other in ["some.example", "localhost.example", "127.0.0.1.example:9902", "jobs.example.org", ""] {
            assert!(!names.allow(other), "{other}");
        }
    }
}
