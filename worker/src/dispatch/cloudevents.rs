//! CloudEvents 1.0: a run as an event. The attributes that name it, and the structured JSON form; how the
//! attributes travel in binary mode is the target's business.
//!
//! Source: github.com/cloudevents/spec, version 1.0.2: the core, the HTTP and Kafka protocol bindings, the
//! JSON format.

use std::fmt::Write;

use super::Call;

/// The `type` of all events.
const TYPE: &str = "dev.reveille.schedule.due";
/// `datacontenttype` unless a header says otherwise.
pub(crate) const DATA: &str = "application/json";

/// The attributes by name, `datacontenttype` and data left out. The id is the run's: the same over all its
/// attempts, by which a consumer recognises a repetition.
pub(crate) fn attributes(call: &Call<'_>) -> Vec<(&'static str, String)> {
    let mut attributes = vec![
        ("specversion", "1.0".to_owned()),
        ("id", call.run.id.to_string()),
        ("source", format!("urn:reveille:schedule:{}", call.run.schedule_id)),
        ("type", TYPE.to_owned()),
        ("time", call.scheduled_at()),
        ("attempt", call.run.attempt.to_string()),
        ("fencingtoken", call.run.lease_token.to_string()),
    ];
    if let Some(traceparent) = call.traceparent {
        attributes.push(("traceparent", traceparent.to_string())); // the extension for distributed tracing
    }
    if !call.definition.name.is_empty() {
        attributes.push(("subject", call.definition.name.clone()));
    }
    attributes
}

/// The event as one JSON object, data included.
pub(crate) fn structured(call: &Call<'_>) -> String {
    let mut event = String::from("{");
    for (name, value) in attributes(call) {
        // Extensions that are numbers travel as numbers.
        let is_number = matches!(name, "attempt" | "fencingtoken");
        let value = if is_number { value } else { serde_json::Value::String(value).to_string() };
        // Writing to a string does not fail.
        let _ = write!(event, r#""{name}":{value},"#);
    }
    let _ = write!(event, r#""datacontenttype":"{DATA}","data":{}}}"#, call.body());
    event
}

/// An attribute as the value of an HTTP header (HTTP binding, 3.1.3.2): what is not printable ASCII, and the
/// space, `"` and `%`, as percent-encoded UTF-8.
pub(crate) fn header_value(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_printable_ascii() {
        assert_eq!(header_value("a-b_c/1:2"), "a-b_c/1:2");
        assert_eq!(header_value("Euro \u{20ac} \"50%\"\n"), "Euro%20%E2%82%AC%20%2250%25%22%0A");
    }
}
