//! The registration document: what it accepts, how it refuses, what it keeps, and when two are the same.

mod accepted;
mod arbitrary;
mod identity;
mod previews;
mod refusals;

use reveille_shared::model::document::{
    Defaults, DocumentError, FieldError, Parsed, fingerprint, parse, parse_preview,
};
use reveille_shared::model::schedule::Definition;
use reveille_shared::model::secret::SecretHeaders;
use reveille_shared::model::task::{Backoff, BodyMode, Delivery, FailedPolicy, TaskKind};
use reveille_shared::model::timing::TimingKind;
use serde_json::{Map, Value, json};

/// The document of the wire contract.
const CONTRACT: &str = r#"{
  "name": "bbb",
  "client": {"operation": "op#1", "application": "chef", "group": "system", "key": "12345678", "type": "scheduler"},
  "type": "cron",
  "schedule": "30 * * * * *",
  "timezone": "Asia/Seoul",
  "task": {
    "type": "rest",
    "connection": {"host": "http://localhost:3000/api/run/DELAY-TEST-9",
                   "headers": {"Content-Type": "application/json", "Authorization": "Bearer ..."}},
    "data": {"instanceName": "delay-test-999", "variables": {}},
    "history_check": false,
    "failed_policy": "retry",
    "retry_wait": 60
  }
}"#;
/// Pointer and code.
type Finding = (String, &'static str);

const ABSENT: &str = "";

fn defaults() -> Defaults {
    Defaults {
        timezone: "Europe/Berlin".to_owned(),
        targets: vec![TaskKind::Rest, TaskKind::Kafka, TaskKind::Redis],
        connections: [("orders".to_owned(), TaskKind::Kafka)].into(),
    }
}

fn read(document: &str) -> Result<Parsed, DocumentError> {
    parse(document.as_bytes(), &defaults(), false)
}

fn accepted(document: &str) -> Definition {
    read(document).unwrap().definition
}

/// Pointer and code of everything that is wrong.
fn findings(error: DocumentError) -> Vec<Finding> {
    match error {
        DocumentError::Syntax { detail } => vec![(detail, "syntax")],
        DocumentError::Fields(errors) => errors
            .into_iter()
            .map(|FieldError { pointer, code, detail }| {
                assert!(!detail.is_empty(), "{pointer} {code} says nothing");
                (pointer, code)
            })
            .collect(),
    }
}

fn refused(document: &str) -> Vec<Finding> {
    findings(read(document).unwrap_err())
}

/// The contract's document with members set to JSON texts, or taken out.
fn with(patches: &[(&str, &str)]) -> String {
    let mut document: Value = serde_json::from_str(CONTRACT).unwrap();
    for (pointer, value) in patches {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let members = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if *value == ABSENT {
            members.remove(name);
        } else {
            members.insert(name.to_owned(), serde_json::from_str(value).unwrap());
        }
    }
    document.to_string()
}

fn quoted(length: usize) -> String {
    format!("\"{}\"", "x".repeat(length))
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}
