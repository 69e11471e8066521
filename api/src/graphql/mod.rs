//! The GraphQL surface at `/graphql`: the same service as REST in another grammar. Maps requests to the
//! service and its answers to the schema; decides nothing.
//!
//! Queries and mutations come by POST with a JSON body only, which no page of another site can send without
//! asking first; GET shows a page or becomes a WebSocket, and never executes anything.

mod errors;
mod input;
mod json;
mod limits;
mod mutation;
mod query;
mod types;

use async_graphql::{EmptySubscription, Request as GraphqlRequest, Response as Answer, Schema, ServerError};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use self::errors::{INVALID, with_code};
use self::limits::{COMPLEXITY_MAX, DEPTH_MAX, Limits};
use self::mutation::Mutation;
use self::query::Query;
use crate::error::Problem;
use crate::http::request::body;
use crate::http::{Acting, App};

/// The media type of GraphQL over HTTP, whose status codes tell whether a request was executed.
const RESPONSE_JSON: &str = "application/graphql-response+json";

/// Queries, mutations and subscriptions of one process.
pub(crate) type GraphqlSchema = Schema<Query, Mutation, EmptySubscription>;

/// The schema with its limits.
pub(crate) fn schema() -> GraphqlSchema {
    Schema::build(Query, Mutation, EmptySubscription)
        .limit_depth(DEPTH_MAX)
        .limit_complexity(COMPLEXITY_MAX)
        .extension(Limits)
        .finish()
}

/// The schema as text.
pub(crate) fn sdl() -> String {
    schema().sdl()
}

/// Executes one query or mutation.
pub(crate) async fn execute(
    State(app): State<App>,
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
        Ok(request) => app.graphql.execute(request.data(service)).await,
        Err(error) => {
            let sentence = format!("the body is not one GraphQL request: {error}");
            Answer::from_errors(vec![with_code(ServerError::new(sentence, None), INVALID)])
        }
    };
    Ok(written(&answer, &headers))
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
