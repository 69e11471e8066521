//! The REST surface: routes, and what every request goes through. Maps requests to the service and its
//! answers to the wire; decides nothing.

mod csv;
mod docs;
mod history;
mod history_query;
mod runs;
mod schedules;
mod schema;
mod shelter;
mod timezones;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, MatchedPath, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use reveille_shared::Context;
use reveille_shared::model::traceparent::TraceParent;
use reveille_shared::runtime::trace::{Kind, Span, Tracer};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use self::docs::{documentation, openapi_json};
use self::shelter::Shelter;
use crate::auth::Gate;
use crate::error::Problem;
use crate::graphql::{self, Graphql, TokenInInit};
use crate::limits::{Limits, Rates};
use crate::metrics::ApiMetrics;
use crate::{Service, Settings};

/// The route of a request to nothing we have.
const UNMATCHED: &str = "unmatched";

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    service: Service,
    metrics: ApiMetrics,
    gate: Gate,
    rates: Rates,
    limits: Limits,
    graphql: Graphql,
}

impl FromRef<App> for Service {
    fn from_ref(app: &App) -> Self {
        app.service.clone()
    }
}

impl FromRef<App> for Graphql {
    fn from_ref(app: &App) -> Self {
        app.graphql.clone()
    }
}

/// Every route with its documentation. A new one is a handler with `#[utoipa::path]` and a line here.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(schema::base())
        .routes(routes!(schedules::list, schedules::register, schedules::delete_matching))
        .routes(routes!(schedules::preview))
        .routes(routes!(schedules::show, schedules::delete))
        .routes(routes!(schedules::update))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::trigger))
        .routes(routes!(runs::list))
        .routes(routes!(history::of_schedule))
        .routes(routes!(runs::show))
        .routes(routes!(history::list))
        .routes(routes!(runs::wake))
        .routes(routes!(runs::workers))
        .routes(routes!(timezones::list))
}

/// What the routes say of themselves.
pub(crate) fn description() -> OpenApi {
    let mut description = routes().into_openapi();
    schema::complete(&mut description);
    description
}

pub(crate) fn router(context: Context, settings: Settings) -> Router {
    let service = Service::new(context.clone(), &settings);
    let app = App {
        metrics: ApiMetrics::register(&context.metrics),
        gate: Gate::new(context.clone(), &settings.access),
        rates: Rates::default(),
        limits: settings.limits,
        graphql: Graphql::new(&context, service.clone(), settings.request_timeout),
        service,
    };
    let shelter = Shelter::new(settings.request_timeout);
    let (routes, _) = routes().split_for_parts();
    routes
        // GraphQL describes itself.
        .route("/graphql", get(graphql::look).post(graphql::execute))
        .route("/graphql/assets/{name}", get(graphql::asset))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), authenticate))
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

/// Finds out who asks, and whether it is too often.
async fn authenticate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let caller = match app.gate.caller(request.headers()).await {
        Ok(caller) => caller,
        // It shows nothing but itself.
        Err(_) if graphql::is_for_page(&request) => return next.run(request).await,
        // A browser cannot send a key with this: the connection brings it before it does anything.
        Err(_) if graphql::is_for_socket(&request) && !request.headers().contains_key(AUTHORIZATION) => {
            let gate = app.gate.clone();
            request.extensions_mut().insert(TokenInInit(Arc::new(move |token| {
                let gate = gate.clone();
                Box::pin(async move { gate.holder(&token).await.ok() })
            })));
            return next.run(request).await;
        }
        Err(problem) => return problem.into_response(),
    };
    let now = app.service.context().clock.clock().monotonic();
    // Callers without an application share what one has.
    if let Err(problem) = app.rates.take(caller.application.as_deref().unwrap_or_default(), &app.limits, now) {
        return problem.into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Counts, logs and traces a request: route and outcome, never path, query, headers or body.
async fn observe(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let method = known_method(request.method());
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or_else(|| UNMATCHED.to_owned(), |path| path.as_str().to_owned());
    let sent = request.headers().get("traceparent").and_then(|value| value.to_str().ok()?.parse().ok());
    let mut span = request_span(&app.service.context().tracer, method, &route, sent);
    // Without traces of our own the caller's place is remembered all the same: it costs nothing.
    if let Some(place) = span.traceparent().or(sent) {
        request.extensions_mut().insert(place);
    }
    let clock = app.service.context().clock.clock().clone();
    let began = clock.monotonic();
    let response = next.run(request).await;
    let took = clock.monotonic().saturating_sub(began);
    let status = response.status().as_u16();
    span.set("http.response.status_code", || i64::from(status));
    if response.status().is_server_error() {
        span.fail("the request failed");
    }
    app.metrics.observe(method, &route, status, took.as_secs_f64());
    tracing::debug!(method, route, status, duration_ms = took.as_secs_f64() * 1000.0, "request answered");
    response
}

/// The span of a request (OpenTelemetry's semantic conventions for HTTP servers), within the caller's trace.
fn request_span(tracer: &Tracer, method: &'static str, route: &str, sent: Option<TraceParent>) -> Span {
    let mut span = match route {
        UNMATCHED => tracer.span(Kind::Server, method, sent),
        route => tracer.span(Kind::Server, format!("{method} {route}"), sent),
    };
    span.set("http.request.method", || method);
    if route != UNMATCHED {
        span.set("http.route", || route.to_owned());
    }
    span
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
