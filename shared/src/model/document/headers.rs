//! The headers of a document: which a caller may set, and what they may hold.

use std::collections::{BTreeMap, BTreeSet};

use super::fields::Fields;
use super::scalar::{Refusal, Scalar, storable};
use crate::model::secret::Reference;

const MAX_HEADERS: usize = 32;
const MAX_NAME_BYTES: usize = 256;
const MAX_VALUE_BYTES: usize = 4096;
/// Headers of the connection, which belong to the HTTP client, and those a run is signed and named with.
const FORBIDDEN: [&str; 13] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "proxy-connection",
    "idempotency-key",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];
const FORBIDDEN_PREFIX: &str = "x-reveille-";

/// The headers that were accepted, by name as registered.
pub(super) fn read(mut headers: Fields<'_>) -> BTreeMap<String, String> {
    let names = headers.names();
    if names.len() > MAX_HEADERS {
        headers
            .refuse_all(Refusal::length(format!("has {} headers, at most {MAX_HEADERS} are permitted", names.len())));
        return BTreeMap::new();
    }
    let mut taken = BTreeSet::new();
    let mut read = BTreeMap::new();
    for name in names {
        let lowered = name.to_ascii_lowercase();
        if let Err(refusal) = permitted(&lowered) {
            headers.refuse(&name, refusal);
        }
        if !taken.insert(lowered) {
            headers
                .refuse(&name, Refusal::new("duplicate", "is a header that is given twice; case makes no difference"));
        }
        if let Some(value) = headers.required(&name, value) {
            read.insert(name, value);
        }
    }
    read
}

fn permitted(lowered: &str) -> Result<(), Refusal> {
    if lowered.len() > MAX_NAME_BYTES {
        return Err(Refusal::length(format!("is a header name of more than {MAX_NAME_BYTES} bytes")));
    }
    if lowered.is_empty() || !lowered.bytes().all(is_token_byte) {
        return Err(Refusal::format("is not an HTTP header name"));
    }
    if FORBIDDEN.contains(&lowered) || lowered.starts_with(FORBIDDEN_PREFIX) {
        return Err(Refusal::new("forbidden_header", "is a header that is set by the server"));
    }
    Ok(())
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn value(value: Scalar<'_>) -> Result<String, Refusal> {
    let text = match value {
        Scalar::Text(text) => text,
        Scalar::Number(written) => written.to_owned(),
        Scalar::Bool(value) => value.to_string(),
        Scalar::Compound => return Err(Refusal::kind("a string")),
    };
    let text = storable(text, MAX_VALUE_BYTES)?;
    // `field-vchar`, space and tab of RFC 9110, section 5.5: a line break would begin a header of its own.
    if text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(Refusal::format("must not contain line breaks or control characters"));
    }
    if Reference::is_meant(&text) && Reference::read(&text).is_none() {
        let detail = "is no reference: `secret://name` is the whole value or follows one word, and a name is 1 to 128 \
                      letters, digits, `_`, `.` or `-` without a dot in front";
        return Err(Refusal::new("invalid_reference", detail));
    }
    Ok(text)
}
