//! The identity of what a document says: two documents with the same fingerprint mean the same, so
//! registering one after the other changes nothing.
//!
//! Order of members, white space, the spelling of strings, and defaults that are written out make no
//! difference. The spelling of a number in `data` does: the target receives it as written, and can tell 1
//! from 1.0, and a number with more digits than a float keeps them.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::model::schedule::Definition;
use crate::model::task::{DEFAULT_TIMEOUT_S, RedisMode};

const DEFAULT_METHOD: &str = "POST";

/// SHA-256, in hexadecimal, of the canonical JSON of a document.
pub fn fingerprint(definition: &Definition) -> String {
    let plain = spelled_out(definition);
    // A document has string keys only, so it always serialises; were that to change, no two would be taken for the same.
    let json = serde_json::to_string(&plain).unwrap_or_else(|_| format!("{plain:?}"));
    let mut canonical = String::with_capacity(json.len());
    write_canonical(&json, &mut canonical);
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(canonical.as_bytes()) {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// The same document with its fixed defaults written out and its free spellings made one. What the server
/// may be configured to default (`body`) stays as it is.
fn spelled_out(definition: &Definition) -> Definition {
    let mut plain = definition.clone();
    plain.traceparent = None; // says who registered, not what
    plain.schedule = definition.schedule.split_whitespace().collect::<Vec<_>>().join(" ");
    plain.timezone = definition.timezone.trim().to_ascii_lowercase();
    plain.task.timeout.get_or_insert(DEFAULT_TIMEOUT_S);
    let connection = &mut plain.task.connection;
    connection.method.get_or_insert_with(|| DEFAULT_METHOD.to_owned());
    // The newer fields are left out where they say the default, so that a digest made before they were there still holds.
    connection.mode = connection.mode.filter(|mode| *mode != RedisMode::default());
    let headers = std::mem::take(&mut connection.headers);
    connection.headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    plain
}

/// Members sorted by name and, of a name written twice, the last; strings respelled; no white space.
fn write_canonical(json: &str, out: &mut String) {
    let composed = match json.as_bytes().first() {
        Some(b'{') => serde_json::from_str(json).map(|members| write_object(&members, out)).ok(),
        Some(b'[') => serde_json::from_str(json).map(|items: Vec<&RawValue>| write_array(&items, out)).ok(),
        Some(b'"') => serde_json::from_str(json).map(|text: String| write_string(text, out)).ok(),
        _ => None,
    };
    // A number, boolean or null; or half a surrogate pair, which no document that was parsed holds.
    if composed.is_none() {
        out.push_str(json);
    }
}

fn write_object(members: &BTreeMap<String, &RawValue>, out: &mut String) {
    out.push('{');
    for (name, value) in members {
        write_string(name.clone(), out);
        out.push(':');
        write_canonical(value.get(), out);
        out.push(',');
    }
    out.push('}');
}

fn write_array(items: &[&RawValue], out: &mut String) {
    out.push('[');
    for item in items {
        write_canonical(item.get(), out);
        out.push(',');
    }
    out.push(']');
}

fn write_string(text: String, out: &mut String) {
    out.push_str(&serde_json::Value::String(text).to_string());
}
