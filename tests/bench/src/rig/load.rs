//! Thousands of schedules at once, without knowing the schema: one is registered through the API, and its rows are
//! copied in the database with other keys and another instant. So the same load fits every version of the product.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::postgres::Database;
use crate::clock;
use crate::http::Connection;

/// What a call carries: 300 bytes of JSON, as an order might.
pub(crate) const BODY: &str = concat!(
    r#"{"order":"0190b5c8-7c1e-7aa3-9d0f-3f6f1f0f2f7b","customer":4711,"currency":"EUR","total":"129.90","lines":["#,
    r#"{"sku":"A-1001","quantity":2,"price":"39.95"},{"sku":"B-2040","quantity":1,"price":"50.00"}],"#,
    r#""note":"leave it with the neighbours at number twelve when nobody is there","channel":"webshops-eu"}"#
);

/// An instant nothing else has, decades away, by which the template's rows show where instants stand.
const TEMPLATE_DUE: i64 = 3_786_912_000_123;
/// Rows that one statement copies.
const CHUNK: i64 = 100_000;

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

/// Rows of one registered schedule: a table and what stands in it.
#[derive(Debug)]
pub(crate) struct Template {
    tables: Vec<(String, Vec<(String, Role)>)>,
    schedule_id: String,
}

/// What becomes of a column in a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Same,
    ScheduleId,
    RunId,
    Due,
    Key,
    Fingerprint,
    Field,
}

impl Template {
    /// Registers the schedule that is copied: far in the future, calling `url`.
    pub(crate) async fn register(database: &Database, api: &mut Connection, url: &str, key: &str) -> Result<Self> {
        let document = document(url, key, "date", &clock::date(TEMPLATE_DUE));
        let schedule_id = api.register(&document).await?;
        let run_id: String =
            database.look(&format!("SELECT id::text FROM runs WHERE schedule_id = '{schedule_id}'")).await?;
        let mut tables = Vec::new();
        for table in tables_of_schedules(database).await? {
            let column = if table == "schedules" { "id" } else { "schedule_id" };
            let row =
                format!("SELECT (SELECT to_jsonb(t)::text FROM {table} t WHERE {column} = '{schedule_id}' LIMIT 1)");
            let row: Option<String> = database.look(&row).await?;
            if let Some(Value::Object(row)) = row.map(|row| serde_json::from_str(&row)).transpose()? {
                let roles = row.iter().map(|(name, value)| (name.clone(), role(name, value, &schedule_id, &run_id)));
                tables.push((table, roles.collect()));
            }
        }
        if tables.len() < 2 {
            bail!("a schedule and its run are nowhere: {tables:?}");
        }
        Ok(Self { tables, schedule_id })
    }

    /// Copies it, over a connection that is closed afterwards: only then are its rows counted.
    pub(crate) async fn copy(&self, database: &Database, copies: Copies) -> Result<()> {
        use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
        let mut connection = PgConnection::connect(&database.url).await?;
        let end = copies.from + copies.count;
        for from in (copies.from..end).step_by(usize::try_from(CHUNK)?) {
            let chunk = Copies { from, count: CHUNK.min(end - from), ..copies };
            for statement in self.statements(&chunk, copies.from) {
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.context("copy schedules")?;
            }
        }
        connection.close().await?;
        Ok(())
    }

    fn statements(&self, copies: &Copies, first: i64) -> Vec<String> {
        let last = copies.from + copies.count - 1;
        let statement = |(table, columns): &(String, Vec<(String, Role)>)| {
            let names: Vec<String> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            let values: Vec<String> = columns.iter().map(|(name, role)| role.expression(name, copies, first)).collect();
            let column = if table == "schedules" { "id" } else { "schedule_id" };
            format!(
                "INSERT INTO {table} ({}) SELECT {} FROM {table} t CROSS JOIN generate_series({}, {last}) n WHERE t.{column} = '{}'",
                names.join(", "),
                values.join(", "),
                copies.from,
                self.schedule_id
            )
        };
        self.tables.iter().map(statement).collect()
    }

    /// One registration as the database sees it: the statement of the limit, which writes the same rows into tables
    /// of the schema `limits` that have the same columns and indexes.
    pub(crate) fn pgbench_script(&self, rows: &[(String, Vec<(String, String)>)]) -> Result<String> {
        let mut inserts = Vec::new();
        for (table, values) in rows {
            let (_, roles) = self.tables.iter().find(|(name, _)| name == table).context("a table of the template")?;
            let value = |(name, literal): &(String, String)| match roles
                .iter()
                .find(|(role_name, _)| role_name == name)
                .map(|(_, role)| role)
            {
                Some(Role::ScheduleId) => "ids.schedule_id".to_owned(),
                Some(Role::RunId) => "gen_random_uuid()".to_owned(),
                Some(Role::Key | Role::Fingerprint) => "ids.schedule_id::text".to_owned(),
                _ => literal.clone(),
            };
            let names: Vec<String> = values.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            let values: Vec<String> = values.iter().map(value).collect();
            inserts.push(format!(
                "INSERT INTO limits.{table} ({}) SELECT {} FROM ids",
                names.join(", "),
                values.join(", ")
            ));
        }
        let last = inserts.pop().context("a table")?;
        let others: Vec<String> =
            inserts.iter().enumerate().map(|(n, insert)| format!(", w{n} AS ({insert})")).collect();
        let ids = "WITH ids AS MATERIALIZED (SELECT gen_random_uuid() AS schedule_id)";
        Ok(format!("{ids}{} {last};\n", others.concat()))
    }

    /// The template's rows: tables, and each column's value as SQL spells it.
    pub(crate) async fn rows(&self, database: &Database) -> Result<Vec<(String, Vec<(String, String)>)>> {
        let mut rows = Vec::new();
        for (table, columns) in &self.tables {
            let column = if table == "schedules" { "id" } else { "schedule_id" };
            let mut values = Vec::new();
            for (name, _) in columns {
                let literal: String = database
                    .look(&format!(
                        "SELECT quote_nullable(\"{name}\"::text) FROM {table} WHERE {column} = '{}' LIMIT 1",
                        self.schedule_id
                    ))
                    .await?;
                values.push((name.clone(), literal));
            }
            rows.push((table.clone(), values));
        }
        Ok(rows)
    }
}

impl Role {
    /// The value of column `name` in copy `n`.
    fn expression(self, name: &str, copies: &Copies, first: i64) -> String {
        match self {
            Self::ScheduleId => "('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid".to_owned(),
            Self::RunId => "('018f0001-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid".to_owned(),
            Self::Due => format!("{}::bigint + (n - {first})::bigint * {}", copies.due_at, copies.apart),
            Self::Key => "'copy-' || n".to_owned(),
            Self::Fingerprint => format!("md5(t.\"{name}\") || n"),
            // Scattered by different strides, so that no two fields say the same.
            Self::Field if copies.scattered => format!("'{name}-' || (n * {} % 1000)", name.len()),
            Self::Field | Self::Same => format!("t.\"{name}\""),
        }
    }
}

fn role(name: &str, value: &Value, schedule_id: &str, run_id: &str) -> Role {
    match (name, value) {
        (_, Value::String(text)) if text == schedule_id => Role::ScheduleId,
        (_, Value::String(text)) if text == run_id => Role::RunId,
        (_, Value::Number(number)) if number.as_i64() == Some(TEMPLATE_DUE) => Role::Due,
        ("client_key", _) => Role::Key,
        ("fingerprint", _) => Role::Fingerprint,
        ("application" | "client_group" | "operation" | "client_type", _) => Role::Field,
        _ => Role::Same,
    }
}

/// `schedules` and what belongs to one, but not its history.
async fn tables_of_schedules(database: &Database) -> Result<Vec<String>> {
    let others: Vec<String> = database
        .look(
            "SELECT coalesce(array_agg(table_name::text ORDER BY table_name), '{}') FROM information_schema.columns
              WHERE table_schema = 'public' AND column_name = 'schedule_id' AND table_name <> 'history'",
        )
        .await?;
    Ok(std::iter::once("schedules".to_owned()).chain(others).collect())
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
            ("id", json!("S"), Role::ScheduleId),
            ("schedule_id", json!("S"), Role::ScheduleId),
            ("id", json!("R"), Role::RunId),
            ("fires_at", json!(TEMPLATE_DUE), Role::Due),
            ("client_key", json!("x"), Role::Key),
            ("application", json!("x"), Role::Field),
            ("created_at", json!(7), Role::Same),
        ] {
            assert_eq!(role(name, &value, "S", "R"), expected, "{name}");
        }
    }
}
