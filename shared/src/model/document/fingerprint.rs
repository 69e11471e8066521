//! Fingerprints: equal exactly when two definitions mean the same.
//!
//! SHA-256 over the definition's JSON with sorted names and without white space. Numbers stay the text
//! they are: two that differ beyond the precision of a double are different data.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::model::schedule::Definition;

/// The fingerprint of a definition: 64 hexadecimal digits.
pub fn fingerprint(definition: &Definition) -> String {
    // A definition is plain data: writing it cannot fail, and reading back what was written neither.
    let text = serde_json::to_string(definition).unwrap_or_default();
    let mut canonical = String::with_capacity(text.len());
    write_canonical(&text, &mut canonical);
    let mut digits = String::with_capacity(64);
    for byte in Sha256::digest(canonical.as_bytes()) {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

fn write_canonical(json: &str, out: &mut String) {
    let json = json.trim();
    match json.as_bytes().first() {
        Some(b'{') => match serde_json::from_str::<BTreeMap<String, &RawValue>>(json) {
            Ok(fields) => write_object(&fields, out),
            Err(_) => out.push_str(json), // a name that is no Unicode
        },
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
            out.push('[');
            for item in items {
                write_canonical(item.get(), out);
                out.push(',');
            }
            out.push(']');
        }
        Some(b'"') => match serde_json::from_str::<String>(json) {
            Ok(text) => write_text(&text, out),
            Err(_) => out.push_str(json), // a text that is no Unicode
        },
        _ => out.push_str(json),
    }
}

fn write_object(fields: &BTreeMap<String, &RawValue>, out: &mut String) {
    out.push('{');
    for (name, value) in fields {
        write_text(name, out);
        out.push(':');
        write_canonical(value.get(), out);
        out.push(',');
    }
    out.push('}');
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}
