//! One schedule under everything its owner and two workers can do, breadth first over real SQLite: every
//! order of commits that leads to a new state is tried, and the invariant is checked after each.

use std::collections::{HashSet, VecDeque};
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};

use crate::store_world::{Around, Kind, Op, START, Way, World};

/// States explored for each kind of schedule: what a debug build does in a few seconds.
const STATES: usize = 350;

const OPS: [Op; 17] = [
    Op::RegisterSame(0),
    Op::RegisterChanged(0),
    Op::Pause(0),
    Op::Resume(0),
    Op::Delete(0),
    Op::Trigger(0),
    Op::Claim(0),
    Op::Claim(1),
    Op::Crash(0),
    Op::Settle(0, Way::Success),
    Op::Settle(0, Way::Failure),
    Op::Settle(0, Way::HandBack),
    Op::Settle(0, Way::Gone),
    Op::Settle(1, Way::Success),
    Op::Settle(1, Way::Failure),
    Op::Tick,
    Op::Expire,
];

#[tokio::test]
async fn one_cron_schedule_in_every_state() {
    explore(Kind::Cron).await;
}

#[tokio::test]
async fn one_delay_recur_schedule_in_every_state() {
    explore(Kind::DelayRecur).await;
}

#[tokio::test]
async fn one_now_schedule_in_every_state() {
    explore(Kind::Now).await;
}

async fn explore(kind: Kind) {
    let folder = memory_folder();
    let path = folder.path().join("explore.db");
    let mut world = World::open(&format!("sqlite:{}", path.display()), &[kind], 1).await;
    let tables = Tables::open(&path).await;
    let start = Kept { rows: tables.save().await, around: world.state.clone(), now: START, trail: Vec::new() };
    let mut known = HashSet::from([world.abstraction(false).await]);
    let mut open = VecDeque::from([start]);
    let mut deepest = 0;
    while let Some(kept) = open.pop_front() {
        for op in OPS {
            tables.restore(&kept.rows).await;
            world.state = kept.around.clone();
            world.now.set(kept.now);
            let mut trail = kept.trail.clone();
            trail.push(op);
            let context = Trail(&trail);
            world.step(op).await;
            drop(context);
            if known.len() < STATES && known.insert(world.abstraction(false).await) {
                deepest = deepest.max(trail.len());
                let rows = tables.save().await;
                open.push_back(Kept { rows, around: world.state.clone(), now: world.now.get(), trail });
            }
        }
    }
    assert!(known.len() >= 200, "{} states: the abstraction or the steps are broken", known.len());
    assert!(deepest >= 4, "{deepest} steps deep");
}

/// Says how the state was reached when the invariant breaks.
struct Trail<'a>(&'a [Op]);

impl Drop for Trail<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("after {:?}", self.0);
        }
    }
}

/// A state to go on from.
struct Kept {
    rows: Vec<String>,
    around: Around,
    now: i64,
    trail: Vec<Op>,
}

/// The tables, copied out and in beside the store.
struct Tables {
    pool: SqlitePool,
}

const TABLES: [&str; 3] = ["schedules", "runs", "attempts"];

impl Tables {
    async fn open(path: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(std::time::Duration::from_secs(5));
        Self { pool: SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap() }
    }

    /// Each row as the statement that inserts it.
    async fn save(&self) -> Vec<String> {
        let mut statements = Vec::new();
        for table in TABLES {
            let columns: Vec<String> = self.texts(&format!("SELECT name FROM pragma_table_info('{table}')")).await;
            let values: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
            let row = values.join(" || ',' || ");
            statements.extend(
                self.texts(&format!("SELECT 'INSERT INTO {table} VALUES (' || {row} || ')' FROM {table}")).await,
            );
        }
        statements
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&self.pool).await.unwrap()
    }

    async fn restore(&self, rows: &[String]) {
        let deletions = TABLES.map(|table| format!("DELETE FROM {table}"));
        let script: Vec<&str> = deletions.iter().chain(rows).map(String::as_str).collect();
        let script = format!("BEGIN IMMEDIATE; {}; COMMIT", script.join("; "));
        sqlx::raw_sql(sqlx::AssertSqlSafe(script)).execute(&self.pool).await.unwrap();
    }
}

/// A folder without a disk below it where there is one: thousands of commits, and none is to survive.
fn memory_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
