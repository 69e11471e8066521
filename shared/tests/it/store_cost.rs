//! What statements cost on PostgreSQL, by counters: buffers and rows visited, which are exact whatever the machine
//! does. By the batch, and by the table: among 1 000 and among 1 000 000 others, whatever the statistics say.

use reveille_shared::model::schedule::{ClientKey, ScheduleState};
use reveille_shared::store::postgres::{PLANNER, sql};
use reveille_shared::store::{Page, ScheduleFilter};
use reveille_testkit::Postgres;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};

use crate::store_postgres::store;

const NOW: i64 = 1_800_000_000_000;

/// What an execution touched.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Shared buffers, cached or not.
    buffers: i64,
    /// Rows that any node of the plan produced, or read and threw away.
    visited: i64,
}

/// A connection of the store's kind.
async fn connect(url: &str) -> PgConnection {
    url.parse::<PgConnectOptions>().unwrap().options(PLANNER).connect().await.unwrap()
}

async fn execute(connection: &mut PgConnection, statements: impl Into<String>) {
    sqlx::raw_sql(AssertSqlSafe(statements.into())).execute(connection).await.unwrap();
}

/// Prepares a statement, and makes the one plan it has from now on.
async fn prepare(connection: &mut PgConnection, call: &Call) {
    let types = if call.types.is_empty() { String::new() } else { format!("({})", call.types) };
    execute(connection, format!("PREPARE {} {types} AS {}", call.name, call.statement)).await;
    execute(connection, format!("EXPLAIN {}", call.execute())).await;
}

async fn cost(connection: &mut PgConnection, call: &Call) -> Cost {
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {}", call.execute());
    let mut plan = Value::Null;
    // The first execution in a session reads the catalogue as well; a second one of a change would meet what the
    // first left behind, but that is in its rows' pages, which it reads anyway.
    for _ in 0..2 {
        execute(connection, "BEGIN").await;
        plan = sqlx::query_scalar(AssertSqlSafe(explain.clone()))
            .persistent(false)
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        execute(connection, "ROLLBACK").await;
    }
    let root = &plan[0]["Plan"];
    Cost { buffers: buffers(root), visited: visited(root) }
}

/// Those of the main query, and of the changes beside it that nothing reads, which are made after it.
fn buffers(root: &Value) -> i64 {
    let own = |node: &Value| number(node, "Shared Hit Blocks") + number(node, "Shared Read Blocks");
    let mut read = Vec::new();
    ctes_read(root, &mut read);
    let beside = root["Plans"].as_array().into_iter().flatten().filter(|node| {
        let name = node["Subplan Name"].as_str().and_then(|name| name.strip_prefix("CTE "));
        name.is_some_and(|name| !read.iter().any(|other| other == name))
    });
    own(root) + beside.map(own).sum::<i64>()
}

fn ctes_read(node: &Value, read: &mut Vec<String>) {
    read.extend(node["CTE Name"].as_str().map(str::to_owned));
    for below in node["Plans"].as_array().into_iter().flatten() {
        ctes_read(below, read);
    }
}

fn number(node: &Value, name: &str) -> i64 {
    node[name].as_f64().unwrap_or(0.0) as i64
}

fn visited(node: &Value) -> i64 {
    let thrown_away = ["Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck"];
    let per_loop = number(node, "Actual Rows") + thrown_away.iter().map(|name| number(node, name)).sum::<i64>();
    let below: i64 = node["Plans"].as_array().into_iter().flatten().map(visited).sum();
    per_loop * number(node, "Actual Loops") + below
}

/// A prepared statement and what it is called with.
struct Call {
    name: String,
    statement: String,
    types: &'static str,
    values: String,
}

impl Call {
    fn new(name: &str, statement: impl Into<String>, types: &'static str, values: impl Into<String>) -> Self {
        Self { name: name.to_owned(), statement: statement.into(), types, values: values.into() }
    }

    fn execute(&self) -> String {
        match self.values.as_str() {
            "" => format!("EXECUTE {}", self.name),
            values => format!("EXECUTE {} ({values})", self.name),
        }
    }
}

fn id(kind: u16, number: usize) -> String {
    format!("018f0000-{kind:04x}-7000-8000-{number:012x}")
}

fn array(count: usize, value: impl Fn(usize) -> String, of: &str) -> String {
    format!("ARRAY[{}]::{of}[]", (0..count).map(value).collect::<Vec<_>>().join(","))
}

fn claim(count: usize) -> Call {
    let values = format!("{NOW}, {count}, 'explain', 30000, ARRAY['default']");
    Call::new(&format!("claim{count}"), sql::RUN_CLAIM, "bigint, bigint, text, bigint, text[]", values)
}

/// Settles the first running runs: as one-shots, or with a successor each.
fn settle(count: usize, recurring: bool) -> Call {
    let all = |value: &str, of: &str| array(count, |_| value.to_owned(), of);
    let next = if recurring { (NOW + 60_000).to_string() } else { "NULL".to_owned() };
    let values = [
        NOW.to_string(),
        "1000".to_owned(),
        array(count, |number| format!("'{}'", id(1, number)), "uuid"),
        all("1", "bigint"),
        all("0", "smallint"),
        all("2", "smallint"),
        all("0", "bigint"),
        all("'ok'", "text"),
        all("200", "integer"),
        all("''", "text"),
        all(&next, "bigint"),
        all("NULL", "bigint"),
        all("0", "integer"),
        all("0", "integer"),
        array(count, |number| format!("'{}'", id(9, number)), "uuid"),
        all("1", "integer"),
        all(&NOW.to_string(), "bigint"),
        all(&NOW.to_string(), "bigint"),
        all("'explain'", "text"),
        all(&NOW.to_string(), "bigint"),
        all(&NOW.to_string(), "bigint"),
        all("NULL", "text"),
        "1000".to_owned(),
        all("false", "boolean"),
        "202606".to_owned(),
    ];
    let types = "bigint, bigint, uuid[], bigint[], smallint[], smallint[], bigint[], text[], integer[], text[], bigint[], \
                 bigint[], integer[], integer[], uuid[], integer[], bigint[], bigint[], text[], bigint[], bigint[], text[], \
                 bigint, boolean[], integer";
    Call::new(&format!("settle{count}"), sql::RUN_SETTLE, types, values.join(", "))
}

fn register(count: usize) -> Call {
    let all = |value: &str, of: &str| array(count, |_| value.to_owned(), of);
    let values = [
        NOW.to_string(),
        array(count, |number| format!("'{}'", id(8, number)), "uuid"),
        all("'shop'", "text"),
        all("'new'", "text"),
        array(count, |number| format!("'new-{number}'"), "text"),
        all("'op'", "text"),
        all("'scheduler'", "text"),
        all("'n'", "text"),
        all("'{}'", "text"),
        all("'f'", "text"),
        all("'default'", "text"),
        all("0", "smallint"),
        all("false", "boolean"),
        all(&(NOW + 5000).to_string(), "bigint"),
        all("NULL", "bigint"),
        all("1", "smallint"),
        array(count, |number| format!("'{}'", id(7, number)), "uuid"),
        all("false", "boolean"),
        "202606".to_owned(),
    ];
    let types = "bigint, uuid[], text[], text[], text[], text[], text[], text[], text[], text[], text[], smallint[], boolean[], \
                 bigint[], bigint[], smallint[], uuid[], boolean[], integer";
    Call::new(&format!("register{count}"), sql::SCHEDULE_UPSERT, types, values.join(", "))
}

fn wake() -> Call {
    // Before anything is due: what is overdue is counted, and that costs by the overdue run, not by the table.
    Call::new("wake", sql::WAKE_READ, "bigint", (NOW - 3_600_000).to_string())
}

/// What the doctor asks.
fn symptoms() -> [Call; 3] {
    [
        Call::new("queues", sql::QUEUES_PENDING, "", ""),
        Call::new("dead", sql::DEAD_COUNT, "", ""),
        Call::new("failing", sql::SCHEDULES_FAILING, "", ""),
    ]
}

/// Schedules and their runs: `running` that are being dispatched, then `due`, then `future`, from the number `from`.
async fn fill(
    connection: &mut PgConnection,
    from: usize,
    (running, due, future): (usize, usize, usize),
    history: bool,
) {
    let (to, first_future) = (from + running + due + future, from + running + due);
    let first_due = from + running;
    let schedule = "('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid";
    let run = "('018f0000-0001-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid";
    execute(
        connection,
        format!(
            "INSERT INTO schedules (id, application, client_group, client_key, operation, client_type, name, state, revision,
                                    series, iterations, fingerprint, payload, queue, priority, created_at, updated_at, once,
                                    history_check)
             SELECT {schedule}, 'shop' || n % 3, 'group-' || n % 1000, 'key-' || n, 'op-' || n % 5000, 'type-' || n % 2000, 'n',
                    0, 1, 1, 0, 'f', repeat('x', 200), 'default', 0, 0, 0, true, {history}
               FROM generate_series({from}, {to} - 1) n;
             INSERT INTO runs (id, schedule_id, revision, series, nominal_at, due_at, armed, queue, priority, state, lease_token,
                               lease_until, lease_owner, attempt)
             SELECT {run}, {schedule}, 1, 1, d.at, d.at, true, 'default', n % 5, CASE WHEN d.running THEN 1 ELSE 0 END,
                    CASE WHEN d.running THEN 1 ELSE 0 END, CASE WHEN d.running THEN {NOW} + 30000 END, 'w', 0
               FROM (SELECT n, n < {first_due} AS running, CASE WHEN n < {first_future} THEN {NOW} - 1000
                                                                ELSE {NOW} + n * 1000 END AS at
                       FROM generate_series({from}, {to} - 1) n) d"
        ),
    )
    .await;
}

/// As after a load before anybody looked: no autovacuum comes between.
async fn schema(url: &str) -> PgConnection {
    store(url).await;
    let mut connection = connect(url).await;
    // As the store writes it: no zone, or the newest rules.
    execute(&mut connection, "ALTER TABLE runs ALTER COLUMN zone_newest SET DEFAULT true").await;
    for table in ["schedules", "runs"] {
        execute(&mut connection, format!("ALTER TABLE {table} SET (autovacuum_enabled = false)")).await;
    }
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_costs_by_its_runs() {
    for (recurring, history) in [(false, false), (false, true), (true, false), (true, true)] {
        let url = Postgres::shared().await.fresh_database().await;
        let mut connection = schema(&url).await;
        fill(&mut connection, 0, (600, 600, 1000), history).await;
        if recurring {
            execute(&mut connection, "UPDATE schedules SET once = false").await;
        }
        execute(&mut connection, "VACUUM ANALYZE").await;
        for (small, large) in [(claim(100), claim(500)), (settle(100, recurring), settle(500, recurring))] {
            prepare(&mut connection, &small).await;
            prepare(&mut connection, &large).await;
            let (few, many) = (cost(&mut connection, &small).await, cost(&mut connection, &large).await);
            println!("{} {few:?}, {} {many:?}, recurring: {recurring}, history: {history}", small.name, large.name);
            assert!(many.buffers <= few.buffers * 6, "{}: {few:?} became {many:?}", large.name);
            assert!(many.visited <= few.visited * 6, "{}: {few:?} became {many:?}", large.name);
        }
        for count in [100, 500] {
            execute(&mut connection, format!("DEALLOCATE settle{count}; DEALLOCATE claim{count}")).await;
        }
    }
}

/// Lists by each field that the client key has, by those asked for together, and by none; with their rows.
fn lists() -> Vec<(Call, i64)> {
    let filters: [(&[(&str, &str)], i64); 8] = [
        (&[], 50),
        (&[("application", "shop1")], 50),
        (&[("group", "group-7")], 50),
        (&[("key", "key-77")], 1),
        (&[("operation", "op-77")], 50),
        (&[("type", "type-77")], 50),
        (&[("application", "shop2"), ("key", "key-77")], 1),
        (&[("application", "shop1"), ("group", "group-7")], 50),
    ];
    let list = |number: usize| {
        let (fields, rows) = filters[number];
        let mut client = ClientKey::default();
        for (name, value) in fields {
            let value = (*value).to_owned();
            match *name {
                "application" => client.application = value,
                "group" => client.group = value,
                "key" => client.key = value,
                "operation" => client.operation = value,
                _ => client.kind = value,
            }
        }
        let filter = ScheduleFilter { client, states: vec![ScheduleState::Active] };
        let (statement, values) = sql::schedule_list(&filter, &Page { after: None, limit: rows });
        let values: Vec<String> = values.iter().map(|value| format!("'{value}'")).collect();
        let types = ["", "text", "text, text"][values.len()];
        (Call::new(&format!("list{number}"), statement, types, values.join(", ")), rows)
    };
    (0..filters.len()).map(list).collect()
}

/// Asserts what the statements cost, and tells it. Those that read come first: what the others leave behind when
/// they are rolled back would be in their way.
async fn check_costs(connection: &mut PgConnection, few: &[Cost], statistics: &str) -> String {
    let reading = cost(connection, &wake()).await;
    let mut lines = vec![format!("{statistics}: wake {reading:?}")];
    assert!(reading.buffers <= 12, "{statistics}: {reading:?} for a next wake");
    for call in symptoms() {
        let told = cost(connection, &call).await;
        lines.push(format!("{statistics}: {} {told:?}", call.name));
        assert!(told.buffers <= 20, "{statistics}: {}: {told:?}", call.name);
    }
    for (call, rows) in lists() {
        let listed = cost(connection, &call).await;
        lines.push(format!("{statistics}: {} of {rows} rows {listed:?}: {}", call.name, call.values));
        // A row of the page is found with its current run: a way through two indexes, and the rows themselves.
        assert!(listed.buffers <= 30 + 8 * rows, "{statistics}: {} {}: {listed:?}", call.name, call.values);
    }
    let calls = [claim(100), settle(100, false), register(100)];
    for (call, few) in calls.iter().zip(few) {
        let many = cost(connection, call).await;
        lines.push(format!("{statistics}: {} among few {few:?}, among many {many:?}", call.name));
        // Not equal: an index over a thousand times the rows is one or two levels deeper.
        assert!(many.buffers * 2 <= few.buffers * 3, "{statistics}: {}: {few:?} became {many:?}", call.name);
        assert!(many.visited <= few.visited + 10, "{statistics}: {}: {few:?} became {many:?}", call.name);
    }
    // Leaves nothing behind for the next case, and sets `reltuples` anew.
    execute(connection, "DEALLOCATE ALL").await;
    execute(connection, "VACUUM").await;
    lines.join("\n")
}

async fn prepare_all(connection: &mut PgConnection) {
    for call in [claim(100), settle(100, false), register(100), wake()] {
        prepare(connection, &call).await;
    }
    for call in symptoms() {
        prepare(connection, &call).await;
    }
    for (call, _) in lists() {
        prepare(connection, &call).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_cost_the_same_among_a_million_whatever_the_statistics_say() {
    let small = Postgres::shared().await.fresh_database().await;
    let mut small = schema(&small).await;
    fill(&mut small, 0, (100, 200, 1000), false).await;
    execute(&mut small, "VACUUM ANALYZE").await;
    prepare_all(&mut small).await;
    let mut few = Vec::new();
    for call in [claim(100), settle(100, false), register(100)] {
        few.push(cost(&mut small, &call).await);
    }

    let url = Postgres::shared().await.fresh_database().await;
    let mut planned_when_empty = schema(&url).await;
    // An empty table that was vacuumed is known to be empty: the worst moment to make a plan in.
    execute(&mut planned_when_empty, "VACUUM ANALYZE").await;
    prepare_all(&mut planned_when_empty).await;
    let mut connection = connect(&url).await;
    fill(&mut connection, 0, (100, 200, 1000), false).await;
    execute(&mut connection, "VACUUM ANALYZE").await;
    fill(&mut connection, 1300, (0, 0, 1_000_000), false).await;
    println!("{}", check_costs(&mut planned_when_empty, &few, "planned when empty").await);

    execute(
        &mut connection,
        "UPDATE pg_class SET reltuples = 1300, relpages = 50 WHERE relname IN ('runs', 'schedules')",
    )
    .await;
    prepare_all(&mut connection).await;
    println!("{}", check_costs(&mut connection, &few, "stale").await);

    execute(&mut connection, "DELETE FROM pg_statistic WHERE starelid IN ('runs'::regclass, 'schedules'::regclass)")
        .await;
    execute(&mut connection, "UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relname IN ('runs', 'schedules')")
        .await;
    prepare_all(&mut connection).await;
    println!("{}", check_costs(&mut connection, &few, "missing").await);

    execute(&mut connection, "VACUUM ANALYZE").await;
    prepare_all(&mut connection).await;
    println!("{}", check_costs(&mut connection, &few, "fresh").await);
}
