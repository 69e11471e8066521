//! Holds every answer that a test of this crate receives against `/openapi.json`: status, form, stable code and each
//! member. What is not described must not be answered.

use std::sync::LazyLock;

use axum::http::{HeaderMap, Method, StatusCode, header};
use serde_json::Value;

static DESCRIPTION: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&reveille_api::openapi_json().unwrap()).unwrap());

pub(crate) fn check(method: &Method, path: &str, status: StatusCode, headers: &HeaderMap, body: &Value) {
    // HEAD answers what GET does, without its body; GraphQL describes itself.
    if method == Method::HEAD || path.starts_with("/graphql") {
        return;
    }
    let Some(operation) = operation(method, path) else {
        assert!(matches!(status.as_u16(), 401 | 403 | 404 | 405 | 429 | 500 | 503), "{method} {path}: {status}");
        return;
    };
    let what = format!("{method} {path}: {status}");
    let response = resolved(&operation["responses"][status.as_str()]);
    assert!(response.is_object(), "{what} is not described");
    let kind = headers[header::CONTENT_TYPE].to_str().unwrap();
    let content = &response["content"][kind.split(';').next().unwrap()];
    assert!(content.is_object(), "{what} is not described as {kind}");
    let is_unreadable = body.as_array().into_iter().flatten().any(|shown| shown.get("unreadable").is_some());
    if kind.starts_with("text/csv") || is_unreadable {
        return;
    }
    if let Some(mismatch) = mismatch(&content["schema"], body, "") {
        panic!("{what} is not as described: {mismatch} in {body}");
    }
}

fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let segments: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let template: Vec<&str> = template.split('/').collect();
        let same = |(known, found): (&&str, &&str)| known == found || known.starts_with('{');
        template.len() == segments.len() && template.iter().zip(&segments).all(same)
    };
    let paths = DESCRIPTION["paths"].as_object().unwrap();
    // The address without a variable goes first, as in the router.
    let item = paths.get(path).or_else(|| paths.iter().find(|(template, _)| fits(template)).map(|(_, item)| item))?;
    item.get(method.as_str().to_ascii_lowercase())
}

fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => DESCRIPTION.pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

/// Where `value` is not what the schema says; of JSON Schema as much as our description uses for answers.
fn mismatch(schema: &'static Value, value: &Value, at: &str) -> Option<String> {
    mismatch_of_part(schema, value, at).or_else(|| unknown_member(resolved(schema), value, at))
}

/// The same, where other parts may describe further members.
fn mismatch_of_part(schema: &'static Value, value: &Value, at: &str) -> Option<String> {
    let schema = resolved(schema);
    if let Some(parts) = schema["allOf"].as_array() {
        return parts.iter().find_map(|part| mismatch_of_part(part, value, at));
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        Value::String(one) => vec![one.as_str()],
        _ => return None,
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !(types.contains(&kind) || kind == "integer" && types.contains(&"number")) {
        return Some(format!("{at} is of type {kind}, not {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return Some(format!("{at} is {value}, not one of {}", schema["enum"]));
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| mismatch(&schema["items"], item, &format!("{at}/[]"))),
        Value::Object(members) => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let missing =
                required.filter(|name| !members.contains_key(*name)).map(|name| format!("{at}/{name} is missing"));
            let wrong = members.iter().filter_map(|(name, member)| {
                mismatch(schema["properties"].get(name)?, member, &format!("{at}/{name}"))
            });
            missing.chain(wrong).next()
        }
        _ => None,
    }
}

fn unknown_member(schema: &'static Value, value: &Value, at: &str) -> Option<String> {
    let known = known_members(schema);
    let mut names = value.as_object().filter(|_| !known.is_empty())?.keys();
    names.find(|name| !known.contains(&name.as_str())).map(|name| format!("{at}/{name} is not described"))
}

/// The members that a schema names, its parts included.
fn known_members(schema: &'static Value) -> Vec<&'static str> {
    let own = schema["properties"].as_object().into_iter().flat_map(|members| members.keys().map(String::as_str));
    let parts = schema["allOf"].as_array().into_iter().flatten();
    own.chain(parts.flat_map(|part| known_members(resolved(part)))).collect()
}
