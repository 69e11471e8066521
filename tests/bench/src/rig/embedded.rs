//! The product in one process over SQLite, and the same loads on its file.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reveille_testkit::{Process, eventually, scratch_dir};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, SqlitePool};

use super::deployment::{PATIENCE, Subject};
use super::load::{CHUNK, Copies, Dialect, Role, TEMPLATE_DUE, Table, document};
use crate::clock;
use crate::http::Connection;

/// One process. Ends with this value.
pub(crate) struct Embedded {
    process: Process,
    listen: String,
    /// From its start until it was ready.
    pub(crate) started_in: Duration,
    dir: PathBuf,
    pool: SqlitePool,
}

/// Rows of one registered schedule, which are copied.
pub(crate) struct EmbeddedTemplate {
    tables: Vec<Table>,
    schedule: String,
}

impl Embedded {
    /// On a new empty folder.
    pub(crate) async fn start(subject: &Subject) -> Result<Self> {
        Self::start_in(subject, scratch_dir("embedded")).await
    }

    /// On a folder that a process before it left.
    pub(crate) async fn start_in(subject: &Subject, dir: PathBuf) -> Result<Self> {
        let began = Instant::now();
        let process = Process::builder(&subject.binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--data-dir"])
            .args([&dir])
            .with_ready_file()
            .start();
        let ready = process.wait_ready(PATIENCE).await;
        let started_in = began.elapsed();
        let listen = ready.listen.context("its address")?;
        let file = std::fs::read_dir(&dir)?.flatten().map(|entry| entry.path());
        let file = file.into_iter().find(|path| path.extension().is_some_and(|end| end == "db" || end == "sqlite"));
        let options = SqliteConnectOptions::from_str(&format!("sqlite:{}", file.context("its file")?.display()))?;
        let options = options.busy_timeout(Duration::from_secs(30));
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        Ok(Self { process, listen, started_in, dir, pool })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::open(&self.listen).await
    }

    pub(crate) fn listen(&self) -> &str {
        &self.listen
    }

    /// One run through the whole path.
    pub(crate) async fn warm_up(&self, url: &str) -> Result<()> {
        self.connect().await?.register(&document(url, "warm-up", "now", "")).await?;
        eventually(PATIENCE, "the path is warm", || async {
            self.count("SELECT count(*) FROM runs WHERE state = 2").await.is_ok_and(|count| count > 0)
        })
        .await;
        Ok(())
    }

    /// A look of the benchmark at the file.
    pub(crate) async fn count(&self, statement: &str) -> Result<i64> {
        Ok(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&self.pool).await?)
    }

    /// Ends it and leaves its folder.
    pub(crate) async fn stop(self) -> PathBuf {
        self.pool.close().await;
        self.process.sigterm();
        self.process.wait_exit(PATIENCE).await;
        self.dir
    }
}

impl EmbeddedTemplate {
    pub(crate) async fn register(embedded: &Embedded, url: &str) -> Result<Self> {
        let document = document(url, "template", "date", &clock::date(TEMPLATE_DUE));
        let id = embedded.connect().await?.register(&document).await?;
        let schedule = format!("X'{}'", id.replace('-', "").to_uppercase());
        let texts = async |statement: String| -> Result<Vec<String>> {
            Ok(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(&embedded.pool).await?)
        };
        let run = texts(format!("SELECT quote(id) FROM runs WHERE schedule_id = {schedule}")).await?;
        let run = run.first().context("its run")?;
        let owned = "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c
                      WHERE m.type = 'table' AND c.name = 'schedule_id' AND m.name <> 'history' ORDER BY m.name";
        let mut tables = Vec::new();
        for name in std::iter::once("schedules".to_owned()).chain(texts(owned.to_owned()).await?) {
            let owner = Table::owner_column(&name);
            let mut columns = Vec::new();
            for column in texts(format!("SELECT name FROM pragma_table_info('{name}')")).await? {
                let value = format!("SELECT quote(\"{column}\") FROM {name} WHERE {owner} = {schedule} LIMIT 1");
                if let Some(value) = texts(value).await?.first() {
                    columns.push((column.clone(), Role::of(&column, value, &schedule, run)));
                }
            }
            if !columns.is_empty() {
                tables.push(Table { name, columns });
            }
        }
        ensure!(tables.len() >= 2, "a schedule and its run are nowhere");
        Ok(Self { tables, schedule })
    }

    pub(crate) async fn copy(&self, embedded: &Embedded, copies: Copies) -> Result<()> {
        let end = copies.from + copies.count;
        for from in (copies.from..end).step_by(usize::try_from(CHUNK)?) {
            let chunk = Copies { from, count: CHUNK.min(end - from), ..copies };
            for table in &self.tables {
                let copy = table.copy(Dialect::Sqlite, &self.schedule, &chunk, copies.from);
                sqlx::raw_sql(AssertSqlSafe(copy)).execute(&embedded.pool).await.context("copy schedules")?;
            }
        }
        Ok(())
    }
}
