//! The GraphQL surface at `/graphql`: the same service as REST in another grammar. Maps requests to the
//! service and its answers to the schema; decides nothing.
//!
//! Queries and mutations come by POST with a JSON body only, which no page of another site can send without
//! asking first; GET shows a page or becomes a WebSocket, and never executes anything.

mod client;
mod errors;
mod history;
mod input;
mod json;
mod limits;
mod mutation;
mod page;
mod query;
mod run_state;
mod scalars;
mod socket;
mod subscription;
mod types;
mod watch;
mod workers;

use async_graphql::{Request as GraphqlRequest, Response as Answer, Schema, SchemaBuilder, ServerError};
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reveille_shared::Context;

use self::errors::{INVALID, with_code};
use self::limits::{COMPLEXITY_MAX, DEPTH_MAX, Limits};
use self::mutation::Mutation;
pub(crate) use self::page::asset;
use self::query::Query;
use self::socket::Sockets;
pub(crate) use self::socket::TokenInInit;
use self::subscription::Subscription;
use self::watch::Watchers;
use crate::Service;
use crate::auth::Caller;
use crate::error::Problem;
use crate::surface::Acting;
use crate::surface::request::body;

/// Where all of it is.
const PATH: &str = "/graphql";
/// The media type of GraphQL over HTTP, whose status codes tell whether a request was executed.
const RESPONSE_JSON: &str = "application/graphql-response+json";

/// Queries, mutations and subscriptions of one process.
type GraphqlSchema = Schema<Query, Mutation, Subscription>;

/// What the handlers share. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Graphql {
    service: Service,
    schema: GraphqlSchema,
    sockets: Sockets,
}

impl Graphql {
    /// The schema with its limits; one execution may take `time`.
    pub(crate) fn new(context: &Context, service: Service, time: Duration) -> Self {
        let schema = bare_schema().extension(Limits { time }).data(Watchers::new(context)).finish();
        Self { service, schema, sockets: Sockets::new() }
    }
}

fn bare_schema() -> SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build(Query, Mutation, Subscription).limit_depth(DEPTH_MAX).limit_complexity(COMPLEXITY_MAX)
}

/// The schema as text.
pub(crate) fn sdl() -> String {
    bare_schema().finish().sdl()
}

/// Whether this asks for what holds no data, and is shown to whoever asks: the page to try queries on.
pub(crate) fn is_for_page<B>(request: &axum::http::Request<B>) -> bool {
    let path = request.uri().path();
    let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_page = path == PATH && accepts_html(request.headers()) && !request.headers().contains_key(header::UPGRADE);
    is_get && (is_page || path.starts_with("/graphql/assets/"))
}

/// Whether this opens a WebSocket, on which a browser cannot send a token: let it in with a [`TokenInInit`].
pub(crate) fn is_for_socket<B>(request: &axum::http::Request<B>) -> bool {
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    let is_websocket = upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    request.method() == Method::GET && request.uri().path() == PATH && is_websocket
}

/// Becomes a WebSocket, or shows the page to try queries on.
pub(crate) async fn look(
    State(graphql): State<Graphql>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers();
    if let Ok(upgrade) = upgrade {
        // Without a caller he is found out before anything is done: see `TokenInInit`.
        let (caller, token) = (request.extensions().get::<Caller>(), request.extensions().get::<TokenInInit>());
        let service = match (caller, token) {
            (Some(caller), _) => graphql.service.acting_for(caller.clone()),
            (None, Some(_)) => graphql.service.clone(),
            (None, None) => return Err(Problem::unauthorized("nobody asked")),
        };
        return socket::upgrade(&graphql, service, headers, request.extensions(), upgrade);
    }
    if accepts_html(headers) {
        return Ok(page::show());
    }
    let detail = "send queries and mutations by POST; GET is for browsers and WebSockets";
    Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "method not allowed", detail))
}

/// Executes one query or mutation.
pub(crate) async fn execute(
    State(graphql): State<Graphql>,
    Acting(service): Acting,
    request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    if !is_json(&headers) {
        let detail = "send the request as JSON, with `Content-Type: application/json`";
        let code = "unsupported_media_type";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, "unsupported media type", detail));
    }
    let bytes = body(request).await?;
    let answer = match serde_json::from_slice::<GraphqlRequest>(&bytes) {
        Ok(request) => graphql.schema.execute(request.data(service)).await,
        Err(error) => {
            let sentence = format!("the body is not one GraphQL request: {error}");
            Answer::from_errors(vec![with_code(ServerError::new(sentence, None), INVALID)])
        }
    };
    Ok(written(&answer, &headers))
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// An answer in the media type that was asked for. A request that was refused before it was executed has no
/// data, which the newer media type says by its status as well.
fn written(answer: &Answer, headers: &HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_new = accept.contains(RESPONSE_JSON);
    let is_refused = answer.is_err() && answer.data == async_graphql::Value::Null;
    let status = if is_new && is_refused { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let kind = if is_new { RESPONSE_JSON } else { "application/json" };
    match serde_json::to_vec(answer) {
        Ok(body) => (status, [(header::CONTENT_TYPE, kind)], body).into_response(),
        Err(error) => {
            tracing::error!(error = %error, "an answer cannot be written");
            crate::error::internal().into_response()
        }
    }
}
