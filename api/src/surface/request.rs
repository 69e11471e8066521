//! Reading requests within limits: bodies, ids, preferences.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use uuid::Uuid;

use crate::error::Problem;

/// Largest body that is read, in bytes.
const BODY_MAX: usize = 256 * 1024;
/// How long a body may take to arrive: it occupies one of a limited number of turns.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// What is read of a larger body, so that its sender, who is not done yet, hears why it is refused: a connection that is
/// closed under somebody who sends loses the answer.
const DRAINED_MAX: usize = 8 * 1024 * 1024;

/// The body, within its limits.
pub(crate) async fn body(request: Request) -> Result<Bytes, Problem> {
    let headers = request.headers();
    if let Some(encoding) = headers.get_all(header::CONTENT_ENCODING).iter().find(|encoding| !is_identity(encoding)) {
        return Err(encoded(encoding));
    }
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    // Who waits for a word before he sends has sent nothing.
    let most = if headers.contains_key(header::EXPECT) { BODY_MAX } else { DRAINED_MAX };
    if announced.is_some_and(|length: usize| length > most) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_WAIT, read(request.into_body())).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(_)) => {
            let detail = "the body could not be read to its end";
            Err(Problem::new(StatusCode::BAD_REQUEST, "incomplete_body", "incomplete body", detail))
        }
        Err(_elapsed) => {
            let detail = format!("the body did not arrive within {} s", BODY_WAIT.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "request timeout", detail))
        }
    }
}

/// `None` when it is larger than [`BODY_MAX`].
async fn read(mut body: Body) -> Result<Option<Bytes>, axum::Error> {
    let (mut kept, mut length) = (Vec::new(), 0);
    while length <= DRAINED_MAX
        && let Some(frame) = body.frame().await.transpose()?
    {
        let Some(data) = frame.data_ref() else { continue };
        length += data.len();
        if length <= BODY_MAX {
            kept.extend_from_slice(data);
        } else {
            kept = Vec::new();
        }
    }
    Ok((length <= BODY_MAX).then(|| Bytes::from(kept)))
}

fn is_identity(encoding: &HeaderValue) -> bool {
    encoding.is_empty() || encoding.as_bytes().eq_ignore_ascii_case(b"identity")
}

/// RFC 9110, section 15.5.16. Bodies are small: what inflating them would save is not worth a bomb to watch for.
fn encoded(encoding: &HeaderValue) -> Problem {
    let detail =
        format!("the body is sent with `Content-Encoding: {}`: send it as it is", encoding.to_str().unwrap_or("?"));
    let title = "unsupported content encoding";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_encoding", title, detail)
}

fn too_large() -> Problem {
    let detail = format!("the body is larger than {BODY_MAX} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "payload too large", detail)
}

/// The segment of a path where an id stands; an error when it is not even text.
pub(crate) type IdPath = Result<Path<String>, PathRejection>;

/// The id in a path. What is not an id is not there: 404, as for an id nobody has.
pub(crate) fn id(path: IdPath, what: &str) -> Result<Uuid, Problem> {
    let id = path.ok().and_then(|Path(text)| Uuid::try_parse(&text).ok());
    id.ok_or_else(|| Problem::not_found(format!("there is no {what} with this id")))
}

/// Whether the caller asked for unknown fields to be refused (RFC 7240, `Prefer: handling=strict`).
pub(crate) fn is_strict(headers: &HeaderMap) -> bool {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    preferences.flat_map(|value| value.split([',', ';'])).any(|preference| {
        let preference = preference.replace([' ', '"'], "");
        preference.eq_ignore_ascii_case("handling=strict")
    })
}
