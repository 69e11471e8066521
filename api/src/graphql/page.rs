//! The page to try queries on: GraphiQL as published, out of the binary. Nothing on it comes from elsewhere, and
//! its policy lets nothing in; it holds no data, so whoever reaches the process may see it.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::Problem;

/// Scripts, styles and fonts from here alone. GraphiQL's editor places its lines by style attributes.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self' data:; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Kept by the browser, and asked for again by its tag.
const CACHE: &str = "no-cache";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../../assets/graphiql/", $name))
    };
}

const FILES: [(&str, &str, &[u8]); 6] = [
    ("graphiql.min.js", JAVASCRIPT, file!("graphiql.min.js")),
    ("graphiql.min.css", CSS, file!("graphiql.min.css")),
    ("react.production.min.js", JAVASCRIPT, file!("react.production.min.js")),
    ("react-dom.production.min.js", JAVASCRIPT, file!("react-dom.production.min.js")),
    ("start.js", JAVASCRIPT, file!("start.js")),
    ("page.css", CSS, file!("page.css")),
];

/// The page.
pub(super) fn show() -> Response {
    served("text/html; charset=utf-8", file!("index.html"), &HeaderMap::new())
}

/// A file of the page.
pub(crate) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let file = FILES.iter().find(|(known, ..)| *known == name);
    let (_, kind, bytes) = file.ok_or_else(|| Problem::not_found("there is nothing at this address"))?;
    Ok(served(kind, bytes, &headers))
}

fn served(kind: &'static str, bytes: &'static [u8], headers: &HeaderMap) -> Response {
    let tag = tag(bytes);
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let common = [
        (header::ETAG, tag.as_str()),
        (header::CACHE_CONTROL, CACHE),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, kind)], bytes).into_response()
}

/// Another one for other bytes; what it is otherwise does not matter.
fn tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}
