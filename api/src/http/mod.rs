//! The REST surface: routes, and what every request goes through. Maps requests to the service and its
//! answers to the wire; decides nothing.

pub(crate) mod listing;
pub(crate) mod query;
pub(crate) mod request;
mod runs;
mod schedules;
mod shelter;

use std::convert::Infallible;

use axum::Router;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use reveille_shared::runtime::Context;

use self::shelter::Shelter;
use crate::auth::Caller;
use crate::error::Problem;
use crate::graphql::{self, GraphqlSchema};
use crate::metrics::ApiMetrics;
use crate::{Service, Settings};

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    service: Service,
    metrics: ApiMetrics,
    pub(crate) graphql: GraphqlSchema,
    pub(crate) sockets: graphql::Sockets,
}

/// The service, acting for the caller of a request.
pub(crate) struct Acting(pub(crate) Service);

impl FromRequestParts<App> for Acting {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let caller = parts.extensions.get::<Caller>().cloned().unwrap_or_else(Caller::operator);
        Ok(Self(app.service.acting_for(caller)))
    }
}

pub(crate) fn router(context: Context, settings: Settings) -> Router {
    let app = App {
        metrics: ApiMetrics::register(&context.metrics),
        graphql: graphql::schema(&context, settings.request_timeout),
        sockets: graphql::Sockets::new(),
        service: Service::new(context, &settings),
    };
    let shelter = Shelter::new(settings.request_timeout);
    Router::new()
        .route("/schedules", get(schedules::list).post(schedules::register).delete(schedules::delete_matching))
        .route("/schedules/preview", post(schedules::preview))
        .route("/schedules/{id}", get(schedules::show).delete(schedules::delete))
        .route("/schedules/{id}/update", post(schedules::update))
        .route("/schedules/{id}/pause", post(schedules::pause))
        .route("/schedules/{id}/resume", post(schedules::resume))
        .route("/schedules/{id}/trigger", post(schedules::trigger))
        .route("/schedules/{id}/runs", get(runs::list))
        .route("/runs/{id}", get(runs::show))
        .route("/wake", get(runs::wake))
        .route("/graphql", get(graphql::look).post(graphql::execute))
        .route("/graphql/assets/{name}", get(graphql::asset))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(shelter, shelter::answer))
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

async fn no_route() -> Problem {
    Problem::not_found("there is nothing at this address")
}

async fn no_method() -> Problem {
    let detail = "this address does not take this method; the Allow header names those it takes";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "method not allowed", detail)
}

/// Counts and logs a request: route and outcome, never path, query, headers or body.
async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let method = known_method(request.method());
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let clock = app.service.context().clock.clock().clone();
    let began = clock.monotonic();
    let response = next.run(request).await;
    let took = clock.monotonic().saturating_sub(began);
    let status = response.status().as_u16();
    app.metrics.observe(method, &route, status, took.as_secs_f64());
    tracing::debug!(method, route, status, duration_ms = took.as_secs_f64() * 1000.0, "request answered");
    response
}

/// Callers may invent methods; a metric's labels must stay few.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
