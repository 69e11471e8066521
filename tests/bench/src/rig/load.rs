//! Thousands of schedules at once, without knowing the schema: one is registered through the API, and its rows are
//! copied in the database with other keys and another instant. So the same load fits every version of the product.

use serde_json::{Value, json};

/// What a call carries: 300 bytes of JSON, as an order might.
pub(crate) const BODY: &str = concat!(
    r#"{"order":"0190b5c8-7c1e-7aa3-9d0f-3f6f1f0f2f7b","customer":4711,"currency":"EUR","total":"129.90","lines":["#,
    r#"{"sku":"A-1001","quantity":2,"price":"39.95"},{"sku":"B-2040","quantity":1,"price":"50.00"}],"#,
    r#""note":"leave it with the neighbours at number twelve when nobody is there","channel":"webshops-eu"}"#
);

/// An instant nothing else has, decades away, by which the template's rows show where instants stand.
pub(super) const TEMPLATE_DUE: i64 = 3_786_912_000_123;
/// Rows that one statement copies.
pub(super) const CHUNK: i64 = 100_000;

/// What copies are to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copies {
    /// Copies are numbered from here, over all loads of a database.
    pub(crate) from: i64,
    pub(crate) count: i64,
    /// When the first one is due: unix ms.
    pub(crate) due_at: i64,
    /// How much later each next one is: ms.
    pub(crate) apart: i64,
    /// Whether each client field takes a thousand values, for look-ups by it.
    pub(crate) scattered: bool,
}

/// A document that calls `url` once, at `schedule`.
pub(crate) fn document(url: &str, key: &str, kind: &str, schedule: &str) -> Value {
    json!({
        "name": "bench",
        "client": {"application": "bench", "group": "load", "key": key, "operation": "call", "type": "one"},
        "type": kind,
        "schedule": schedule,
        "timezone": "UTC",
        "task": {"type": "rest", "connection": {"host": url}, "data": serde_json::from_str::<Value>(BODY).unwrap_or_default()}
    })
}

/// A table of the template, and what becomes of its columns.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<(String, Role)>,
}

/// How a database spells what a copy needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    Sqlite,
}

/// What becomes of a column in a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Same,
    ScheduleId,
    RunId,
    Due,
    Key,
    Fingerprint,
    Field,
}

impl Table {
    /// The column that says whose row it is.
    pub(super) fn owner_column(name: &str) -> &'static str {
        if name == "schedules" { "id" } else { "schedule_id" }
    }

    /// Copies the row of `schedule`, an id as the dialect spells it, numbered `copies.from` and up; the whole load
    /// began at `first`.
    pub(super) fn copy(&self, dialect: Dialect, schedule: &str, copies: &Copies, first: i64) -> String {
        let names: Vec<String> = self.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let value = |(name, role): &(String, Role)| role.expression(dialect, name, copies, first);
        let values: Vec<String> = self.columns.iter().map(value).collect();
        let (table, from, last) = (&self.name, copies.from, copies.from + copies.count - 1);
        let numbers = match dialect {
            Dialect::Postgres => format!("generate_series({from}, {last}) n"),
            Dialect::Sqlite => format!(
                "(WITH RECURSIVE c (n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM c WHERE n < {last}) SELECT n FROM c)"
            ),
        };
        format!(
            "INSERT INTO {table} ({}) SELECT {} FROM {numbers} CROSS JOIN {table} t WHERE t.{} = {schedule}",
            names.join(", "),
            values.join(", "),
            Self::owner_column(table)
        )
    }
}

impl Role {
    /// What a column is, by what stands in the template's row.
    pub(super) fn of(name: &str, value: &str, schedule_id: &str, run_id: &str) -> Self {
        match name {
            _ if value == schedule_id => Self::ScheduleId,
            _ if value == run_id => Self::RunId,
            _ if value == TEMPLATE_DUE.to_string() => Self::Due,
            "client_key" => Self::Key,
            "fingerprint" => Self::Fingerprint,
            "application" | "client_group" | "operation" | "client_type" => Self::Field,
            _ => Self::Same,
        }
    }

    /// The value of column `name` in copy `n`. Ids grow with it, as the product's do.
    fn expression(self, dialect: Dialect, name: &str, copies: &Copies, first: i64) -> String {
        let id = |kind: u8| match dialect {
            Dialect::Postgres => format!("('018f000{kind}-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"),
            Dialect::Sqlite => format!("unhex('018f000{kind}000070008000' || printf('%012x', n))"),
        };
        match self {
            Self::ScheduleId => id(0),
            Self::RunId => id(1),
            Self::Due => format!("{} + (n - {first}) * {}", copies.due_at, copies.apart),
            Self::Key => "'copy-' || n".to_owned(),
            Self::Fingerprint => format!("t.\"{name}\" || n"),
            Self::Field if copies.scattered => format!("'{name}-' || (n / {} % 1000)", stride(name)),
            Self::Field | Self::Same => format!("t.\"{name}\""),
        }
    }
}

/// Copies that have the same value one after the other: of each field another number, so that no two say the same.
fn stride(field: &str) -> u32 {
    match field {
        "application" => 1,
        "client_group" => 7,
        "operation" => 11,
        _ => 13,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_three_hundred_bytes_of_json() {
        assert_eq!(BODY.len(), 300);
        assert!(serde_json::from_str::<Value>(BODY).is_ok_and(|body| body.is_object()));
    }

    #[test]
    fn columns_are_known_by_what_stands_in_them() {
        for (name, value, expected) in [
            ("id", "S", Role::ScheduleId),
            ("schedule_id", "S", Role::ScheduleId),
            ("id", "R", Role::RunId),
            ("fires_at", "3786912000123", Role::Due),
            ("client_key", "x", Role::Key),
            ("application", "x", Role::Field),
            ("created_at", "7", Role::Same),
        ] {
            assert_eq!(Role::of(name, value, "S", "R"), expected, "{name}");
        }
    }
}
