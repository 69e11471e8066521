//! What a target receives: the task's data or the whole document, with the run's names put in.
//!
//! Placeholders: `{{run.id}}`, `{{run.scheduled_at}}`, `{{run.attempt}}`, `{{schedule.id}}` and
//! `{{schedule.name}}`, with or without spaces inside the braces. Anything else in braces stays as it is: data
//! may speak a template language of its own.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat};
use reveille_shared::model::task::BodyMode;

use super::Call;

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

impl Call<'_> {
    /// What the target receives: the body, the Kafka value, the Redis message.
    pub(crate) fn body(&self) -> Cow<'_, str> {
        match self.definition.task.connection.body.unwrap_or(self.default_body) {
            // A placeholder in JSON can only stand in a string, so its value is written as in one.
            BodyMode::Data => self.filled_in(self.definition.task.data.text(), as_in_json_string),
            BodyMode::Schedule => Cow::Owned(self.document()),
        }
    }

    /// A header's value, or the key of a record, with its placeholders filled in.
    pub(crate) fn text<'t>(&self, template: &'t str) -> Cow<'t, str> {
        self.filled_in(template, |value| value)
    }

    /// The instant the run is the run of, RFC 3339 in UTC with milliseconds.
    pub(crate) fn scheduled_at(&self) -> String {
        let nominal = DateTime::from_timestamp_millis(self.run.nominal_at);
        nominal.map_or_else(String::new, |at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
    }

    /// The schedule document as the API shows it: without its secrets, and with the id that is no part of it.
    fn document(&self) -> String {
        let members = self.definition.without_traceparent(self.payload);
        format!(r#"{{"id":"{}",{members}"#, self.run.schedule_id)
    }

    fn filled_in<'t>(&self, template: &'t str, written: impl Fn(String) -> String) -> Cow<'t, str> {
        if !template.contains(OPEN) {
            return Cow::Borrowed(template);
        }
        let mut filled = String::with_capacity(template.len() + 64);
        let mut rest = template;
        while let Some((before, after)) = rest.split_once(OPEN) {
            filled.push_str(before);
            let named = after.split_once(CLOSE).and_then(|(name, after)| Some((self.placeholder(name.trim())?, after)));
            match named {
                Some((value, after)) => {
                    filled.push_str(&written(value));
                    rest = after;
                }
                None => {
                    // One brace only: the second may open a placeholder, as in `{{{run.id}}}`.
                    filled.push('{');
                    rest = &rest[before.len() + 1..];
                }
            }
        }
        filled.push_str(rest);
        Cow::Owned(filled)
    }

    fn placeholder(&self, name: &str) -> Option<String> {
        Some(match name {
            "run.id" => self.run.id.to_string(),
            "run.scheduled_at" => self.scheduled_at(),
            "run.attempt" => self.run.attempt.to_string(),
            "schedule.id" => self.run.schedule_id.to_string(),
            "schedule.name" => self.definition.name.clone(),
            _ => return None,
        })
    }
}

fn as_in_json_string(value: String) -> String {
    let quoted = serde_json::Value::String(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use reveille_shared::model::run::ClaimedRun;
    use reveille_shared::model::schedule::Definition;
    use reveille_shared::runtime::clock::{DbClock, TestClock};
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::call::FirstByte;
    use crate::destination::Destination;

    const SCHEDULE: &str = "00000000-0000-0000-0000-00000000000b";
    const RUN: &str = "00000000-0000-0000-0000-00000000000a";

    fn with_call<T>(data: &str, body: Option<&str>, check: impl FnOnce(&Call<'_>) -> T) -> T {
        let document = format!(
            r#"{{"name":"say \"hi\"","client":{{}},"type":"now","schedule":"","timezone":"UTC","task":{{"type":"rest",
            "connection":{{"host":"http://localhost","body":{}}},"data":{data},"retry_wait":1}}}}"#,
            json!(body)
        );
        let definition: Definition = serde_json::from_str(&document).unwrap();
        let run = ClaimedRun {
            id: Uuid::parse_str(RUN).unwrap(),
            schedule_id: Uuid::parse_str(SCHEDULE).unwrap(),
            revision: 1,
            series: 1,
            nominal_at: 1_767_225_600_250,
            due_at: 1_767_225_600_250,
            created_at: 1_767_225_600_250,
            armed: true,
            priority: 0,
            attempt: 3,
            crashes: 0,
            lease_token: 4,
            reclaimed: false,
            late_cause: None,
            schedule: None,
        };
        let destination = &Destination::of(&definition.task, &BTreeMap::new()).unwrap_or_else(|_| unreachable!());
        let (definition, default_body) = (&definition, BodyMode::Data);
        let first_byte = &FirstByte::new(DbClock::new(Arc::new(TestClock::new())));
        let (payload, now, traceparent) = (&document[..], 0, None);
        check(&Call { run: &run, definition, destination, payload, default_body, now, first_byte, traceparent })
    }

    fn check_data(data: &str, expected: &str) {
        assert_eq!(with_call(data, None, |call| call.body().into_owned()), expected);
    }

    #[test]
    fn data_without_a_placeholder_is_sent_byte_for_byte() {
        check_data(
            "{ \"a\" : 1.0,\n \"b\": 12345678901234567890123 }",
            "{ \"a\" : 1.0,\n \"b\": 12345678901234567890123 }",
        );
        check_data(
            r#"["{{mustache}} {{ run.unknown }} {{", "}}", "{{run.id"]"#,
            r#"["{{mustache}} {{ run.unknown }} {{", "}}", "{{run.id"]"#,
        );
    }

    #[test]
    fn placeholders_become_what_they_name() {
        check_data(r#"{"id":"{{run.id}}"}"#, &format!(r#"{{"id":"{RUN}"}}"#));
        check_data(r#"["{{ run.attempt }}/{{run.scheduled_at}}"]"#, r#"["3/2026-01-01T00:00:00.250Z"]"#);
        check_data(r#""{{{schedule.id}}}""#, &format!(r#""{{{SCHEDULE}}}""#));
        check_data(r#""{{x}} {{run.attempt}}""#, r#""{{x}} 3""#);
        check_data(r#""{{x {{run.attempt}}""#, r#""{{x 3""#);
    }

    #[test]
    fn a_value_is_written_as_the_place_wants_it() {
        check_data(r#"{"n":"{{schedule.name}}"}"#, r#"{"n":"say \"hi\""}"#);
        let header = with_call("{}", None, |call| call.text("{{schedule.name}}").into_owned());
        assert_eq!(header, "say \"hi\"");
    }

    #[test]
    fn the_whole_document_is_sent_with_its_id_and_as_it_is() {
        let sent = with_call(r#"{"n":"{{run.id}}"}"#, Some("schedule"), |call| call.body().into_owned());
        let sent: Value = serde_json::from_str(&sent).unwrap();
        assert_eq!((&sent["id"], &sent["task"]["data"]["n"]), (&json!(SCHEDULE), &json!("{{run.id}}")));
    }
}
