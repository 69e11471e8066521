//! The template on PostgreSQL: registered, found in the tables, copied, and taken as the limit of a registration.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::load::{CHUNK, Copies, Dialect, Role, TEMPLATE_DUE, Table, document};
use super::postgres::Database;
use crate::clock;
use crate::http::Connection;

/// Rows of one registered schedule, which are copied.
#[derive(Debug)]
pub(crate) struct Template {
    tables: Vec<Table>,
    /// As SQL spells it.
    schedule: String,
}

impl Template {
    /// Registers the schedule that is copied: far in the future, calling `url`.
    pub(crate) async fn register(database: &Database, api: &mut Connection, url: &str, key: &str) -> Result<Self> {
        let document = document(url, key, "date", &clock::date(TEMPLATE_DUE));
        let id = api.register(&document).await?;
        let run_id: String = database.look(&format!("SELECT id::text FROM runs WHERE schedule_id = '{id}'")).await?;
        let mut tables = Vec::new();
        for name in tables_of_schedules(database).await? {
            let column = Table::owner_column(&name);
            let row = format!("SELECT (SELECT to_jsonb(t)::text FROM {name} t WHERE {column} = '{id}' LIMIT 1)");
            let row: Option<String> = database.look(&row).await?;
            if let Some(Value::Object(row)) = row.map(|row| serde_json::from_str(&row)).transpose()? {
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let role =
                    |(name, value): (&String, &Value)| (name.clone(), Role::of(name, &text(value), &id, &run_id));
                tables.push(Table { name, columns: row.iter().map(role).collect() });
            }
        }
        ensure!(tables.len() >= 2, "a schedule and its run are nowhere: {tables:?}");
        Ok(Self { tables, schedule: format!("'{id}'") })
    }

    /// Copies it, over a connection that is closed afterwards: only then are its rows counted.
    pub(crate) async fn copy(&self, database: &Database, copies: Copies) -> Result<()> {
        let mut connection = PgConnection::connect(&database.url).await?;
        let end = copies.from + copies.count;
        for from in (copies.from..end).step_by(usize::try_from(CHUNK)?) {
            let chunk = Copies { from, count: CHUNK.min(end - from), ..copies };
            for table in &self.tables {
                let copy = table.copy(Dialect::Postgres, &self.schedule, &chunk, copies.from);
                sqlx::raw_sql(AssertSqlSafe(copy)).execute(&mut connection).await.context("copy schedules")?;
            }
        }
        connection.close().await?;
        Ok(())
    }

    /// One registration as the database sees it: a statement that writes the same rows into tables of the schema
    /// `limits`, which have the same columns and indexes and are made here.
    pub(crate) async fn limit(&self, database: &Database) -> Result<String> {
        database.execute("CREATE SCHEMA limits").await?;
        let mut inserts = Vec::new();
        for table in &self.tables {
            let name = &table.name;
            database.execute(&format!("CREATE TABLE limits.{name} (LIKE public.{name} INCLUDING ALL)")).await?;
            let names: Vec<String> = table.columns.iter().map(|(column, _)| format!("\"{column}\"")).collect();
            let values = self.literals(database, table).await?;
            inserts.push(format!(
                "INSERT INTO limits.{name} ({}) SELECT {} FROM ids",
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

    /// The template's row as SQL spells it, with new ids and keys.
    async fn literals(&self, database: &Database, table: &Table) -> Result<Vec<String>> {
        let (name, owner) = (&table.name, Table::owner_column(&table.name));
        let mut values = Vec::new();
        for (column, role) in &table.columns {
            values.push(match role {
                Role::ScheduleId => "ids.schedule_id".to_owned(),
                Role::RunId => "gen_random_uuid()".to_owned(),
                Role::Key | Role::Fingerprint => "ids.schedule_id::text".to_owned(),
                _ => {
                    let schedule = &self.schedule;
                    let row = format!("FROM {name} WHERE {owner} = {schedule} LIMIT 1");
                    let literal = format!("SELECT quote_nullable(\"{column}\"::text) {row}");
                    let kind = format!("SELECT pg_typeof(\"{column}\")::text {row}");
                    let literal: String = database.look(&literal).await?;
                    format!("{}::{}", without_colons(&literal), database.look::<String>(&kind).await?)
                }
            });
        }
        Ok(values)
    }
}

/// pgbench takes a word after a colon for one of its variables, in a string too.
fn without_colons(literal: &str) -> String {
    if !literal.contains(':') {
        return literal.to_owned();
    }
    let escapes = if literal.starts_with('E') { "" } else { "E" };
    format!("{escapes}{}", literal.replace(':', "\\x3A"))
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
