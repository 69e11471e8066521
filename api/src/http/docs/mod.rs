//! The documentation in a browser: `/openapi.json`, and `/docs` with Swagger UI out of this binary.
//!
//! Needs neither database nor token. Invariant: nothing is fetched from elsewhere; the policy that goes with every
//! answer would not let it.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::HeaderValue;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use utoipa_swagger_ui::Config;

use super::{description, no_method};
use crate::error::{Problem, internal};

/// Inline styles are how Swagger UI lays out; scripts and requests are this server's alone. `data:` is its icons.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Seconds. After an upgrade of the server a browser may show the page before for as long.
const CACHED: &str = "max-age=3600";

/// The routes.
pub(crate) fn documentation() -> Router {
    // Answers are made once: they are the same for as long as the process lives.
    let json = openapi_json().map_err(|error| {
        tracing::error!(error = %error, "the api's description cannot be written");
    });
    let description = move || async move {
        match json {
            Ok(json) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
            Err(()) => internal().into_response(),
        }
    };
    Router::new()
        .route("/openapi.json", get(description).fallback(no_method))
        .route("/docs", get(page).fallback(no_method))
        // The page's own links are relative, so that it works behind a prefix: they need the path without a slash.
        .route("/docs/", get(async || Redirect::permanent("../docs")).fallback(no_method))
        .route("/docs/{file}", get(asset).fallback(no_method))
        .layer(map_response(guarded))
}

/// The description as it is answered and checked in.
pub(crate) fn openapi_json() -> serde_json::Result<String> {
    description().to_pretty_json().map(|json| json + "\n")
}

async fn page() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], include_str!("index.html"))
}

/// Of what comes with Swagger UI, these two files are needed.
async fn asset(Path(file): Path<String>) -> Result<Response, Problem> {
    let nothing = || Problem::not_found("there is nothing at this address");
    if file == "start.js" {
        let headers = [(CONTENT_TYPE, "text/javascript; charset=utf-8")];
        return Ok((headers, include_str!("start.js")).into_response());
    }
    if !matches!(file.as_str(), "swagger-ui.css" | "swagger-ui-bundle.js") {
        return Err(nothing());
    }
    let served = utoipa_swagger_ui::serve(&file, Arc::new(Config::default())).ok().flatten().ok_or_else(nothing)?;
    let mut response = served.bytes.into_response();
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(&served.content_type) {
        headers.insert(CONTENT_TYPE, kind);
    }
    if served.gzpipped {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHED));
    Ok(response)
}

async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
