//! The one PostgreSQL server of a benchmark: durable as in production, with counters around what is measured.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reveille_testkit::Postgres;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};

use crate::proc;

/// As a database server is run: every commit is on disk before it is answered. Checkpoints are asked for by the
/// benchmark, before a database is filled, so that no page is written whole within what is measured.
const DURABLE: [&str; 8] = [
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "checkpoint_timeout=1h",
    "max_connections=300",
    "track_io_timing=off",
];
/// Counters only: how fast it is does not matter, how soon a test is over does.
const QUICK: [&str; 1] = ["checkpoint_timeout=1h"];

/// A server. Ends with this value.
pub(crate) struct Server {
    postgres: Postgres,
    admin: PgPool,
    pub(crate) version: String,
    programs: PathBuf,
    data: PathBuf,
}

/// A database of its own with roles of its own, so that statements can be counted by who sent them.
pub(crate) struct Database {
    /// As the superuser.
    pub(crate) url: String,
    pub(crate) name: String,
    /// The looks of the benchmark itself: counted for nobody.
    pub(crate) pool: PgPool,
}

/// Row versions, statements and WAL at a moment. See [`Server::counters`].
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    pub(crate) cpu_ns: u64,
    pub(crate) lsn: String,
}

/// What PostgreSQL logged between two moments: bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wal {
    pub(crate) records: f64,
    pub(crate) full_page_images: f64,
}

impl Server {
    /// The server that times are taken with.
    pub(crate) async fn durable() -> Result<Self> {
        Self::start(&DURABLE).await
    }

    /// The server that only counters are taken with.
    pub(crate) async fn quick() -> Result<Self> {
        Self::start(&QUICK).await
    }

    /// A durable server that collects no statistics of tables by itself, so that they can be missing or stale.
    pub(crate) async fn without_autovacuum() -> Result<Self> {
        Self::start(&[&DURABLE[..], &["autovacuum=off"]].concat()).await
    }

    async fn start(settings: &[&str]) -> Result<Self> {
        let postgres = Postgres::start_with(settings).await;
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port());
        let admin = looker(&url).await?;
        let text = |statement: &'static str| sqlx::query_scalar::<_, String>(statement).fetch_one(&admin);
        let version = text("SHOW server_version").await?;
        let programs = PathBuf::from(text("SELECT setting FROM pg_config WHERE name = 'BINDIR'").await?);
        let data = PathBuf::from(text("SHOW data_directory").await?);
        if settings.contains(&"fsync=on") {
            ensure!(!proc::is_in_memory(&data), "{} is in memory: point TMPDIR to a folder on disk", data.display());
        }
        Ok(Self { postgres, admin, version, programs, data })
    }

    /// A new empty database, after a checkpoint: what is written from now on is not written whole.
    pub(crate) async fn database(&self) -> Result<Database> {
        let url = self.postgres.fresh_database().await;
        sqlx::query("CHECKPOINT").execute(&self.admin).await?;
        let name = url.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Database { pool: looker(&url).await?, url, name })
    }

    /// Throws a database away: the next subject shall find the server as the one before it did.
    pub(crate) async fn discard(&self, database: Database) -> Result<()> {
        database.pool.close().await;
        let drop = format!("DROP DATABASE {} WITH (FORCE)", database.name);
        sqlx::query(AssertSqlSafe(drop)).execute(&self.admin).await?;
        Ok(())
    }

    /// A role that nobody else uses, for one of `url`'s databases: the URL and the name.
    pub(crate) async fn role(&self, url: &str) -> (String, String) {
        let role = self.postgres.fresh_role().await;
        (self.postgres.url_as(url, &role), role)
    }

    pub(crate) async fn statements(&self, role: &str) -> i64 {
        self.postgres.statement_count(role).await
    }

    /// Buffers touched and calls so far of the statements of `role` that contain `part`.
    pub(crate) async fn buffers(&self, role: &str, part: &str) -> Result<(i64, i64)> {
        let row = sqlx::query_as(
            "SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint, coalesce(sum(calls), 0)::bigint
               FROM pg_stat_statements JOIN pg_roles ON pg_roles.oid = userid
              WHERE rolname = $1 AND strpos(query, $2) > 0",
        );
        Ok(row.bind(role).bind(part).fetch_one(&self.admin).await?)
    }

    pub(crate) fn port(&self) -> u16 {
        self.postgres.port()
    }

    /// A program that came with the server, such as `pgbench`.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.stdin(Stdio::null());
        command
    }

    pub(crate) async fn counters(&self) -> Result<Counters> {
        let lsn = sqlx::query_scalar("SELECT pg_current_wal_insert_lsn()::text").fetch_one(&self.admin).await?;
        Ok(Counters { cpu_ns: proc::family_cpu_ns(self.postgres.pid()), lsn })
    }

    /// What was logged between two moments, by the log itself.
    pub(crate) async fn wal(&self, from: &Counters, to: &Counters) -> Result<Wal> {
        // The last record may not be written yet, and its reader reads files.
        sqlx::query("SELECT pg_switch_wal()").execute(&self.admin).await?;
        let mut command = self.program("pg_waldump");
        command.args(["--stats", "--start", &from.lsn, "--end", &to.lsn, "--path"]).arg(self.data.join("pg_wal"));
        let output = command.output().context("run pg_waldump")?;
        let text = String::from_utf8_lossy(&output.stdout);
        wal_totals(&text).with_context(|| format!("pg_waldump: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

impl Database {
    /// Rows that were inserted or updated so far. Exact once whoever wrote them has disconnected.
    pub(crate) async fn row_versions(&self) -> Result<i64> {
        let sum = "SELECT coalesce(sum(n_tup_ins + n_tup_upd), 0)::bigint FROM pg_stat_user_tables";
        Ok(sqlx::query_scalar(sum).fetch_one(&self.pool).await?)
    }

    /// The answer of a look of the benchmark.
    pub(crate) async fn look<T>(&self, statement: &str) -> Result<T>
    where
        T: for<'a> sqlx::Decode<'a, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        Ok(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&self.pool).await?)
    }

    pub(crate) async fn execute(&self, statement: &str) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&self.pool).await?;
        Ok(())
    }
}

/// Few connections, whose plans need no statistics: the tables under them change by the second.
async fn looker(url: &str) -> Result<PgPool> {
    let options: PgConnectOptions = url.parse()?;
    let options = options.options([("enable_seqscan", "off"), ("plan_cache_mode", "force_custom_plan")]);
    let pool = PgPoolOptions::new().max_connections(2).idle_timeout(Duration::from_secs(600));
    pool.connect_with(options).await.with_context(|| format!("connect to {url}"))
}

/// The line `Total  N  RECORDS [%]  FPI [%]  COMBINED [%]` of `pg_waldump --stats`.
fn wal_totals(text: &str) -> Option<Wal> {
    let line = text.lines().find(|line| line.starts_with("Total"))?;
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<f64>().ok()).skip(1);
    Some(Wal { records: numbers.next()?, full_page_images: numbers.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_of_a_wal_are_read() {
        let text = "WAL statistics between A and B:\nType  N  (%)\n\
            Total                                        152                        9544 [53.81%]            8192 [46.19%]                17736 [100%]\n";
        let wal = wal_totals(text).expect("totals");
        assert!((wal.records - 9544.0).abs() < 0.1 && (wal.full_page_images - 8192.0).abs() < 0.1, "{wal:?}");
    }
}
