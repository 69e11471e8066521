//! The roofline of P5: an HTTP client and the least SQL that a durable scheduler needs, sharing one machine.

use std::time::Instant;

use anyhow::Result;
use hyper::body::Bytes;

use crate::http::Connection;
use crate::rig::Rig;
use crate::rig::load::BODY;

const CONNECTIONS: usize = 64;
/// As many as the product claims at once by default.
const BATCH: i64 = 256;

/// Runs per second when each takes its share of both.
pub(crate) async fn rate(rig: &Rig, jobs: usize) -> Result<f64> {
    let calls = calls(rig, jobs).await?;
    let transitions = transitions(rig, jobs).await?;
    Ok(1.0 / (1.0 / calls + 1.0 / transitions))
}

/// POSTs per second of a bare client to the sink.
async fn calls(rig: &Rig, jobs: usize) -> Result<f64> {
    let address = rig.traffic.address();
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(Connection::open(&address).await?);
    }
    let share = jobs / CONNECTIONS;
    let began = Instant::now();
    let mut tasks = Vec::new();
    for mut connection in open {
        tasks.push(tokio::spawn(async move {
            for _ in 0..share {
                connection.post("/probe", Bytes::from_static(BODY.as_bytes())).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok((share * CONNECTIONS) as f64 / began.elapsed().as_secs_f64())
}

/// Rows per second that go from pending to running to done, two commits a batch.
async fn transitions(rig: &Rig, jobs: usize) -> Result<f64> {
    let database = rig.server.database().await?;
    database
        .execute(
            "CREATE TABLE probe (id bigint PRIMARY KEY, due_at bigint NOT NULL, state smallint NOT NULL,
                                 lease_until bigint, done_at bigint, body text NOT NULL) WITH (fillfactor = 80);
             CREATE INDEX ON probe (due_at, id) WHERE state = 0;
             CREATE INDEX ON probe (lease_until) WHERE state = 1",
        )
        .await?;
    let fill = sqlx::query("INSERT INTO probe SELECT n, 0, 0, NULL, NULL, $2 FROM generate_series(1, $1) n");
    fill.bind(i64::try_from(jobs)?).bind(BODY).execute(&database.pool).await?;
    let claim = "UPDATE probe SET state = 1, lease_until = 1
                  WHERE id IN (SELECT id FROM probe WHERE state = 0 AND due_at <= 0 ORDER BY due_at, id LIMIT $1
                                  FOR UPDATE SKIP LOCKED)
                  RETURNING id, body";
    let began = Instant::now();
    let mut done = 0_usize;
    loop {
        let claimed: Vec<(i64, String)> = sqlx::query_as(claim).bind(BATCH).fetch_all(&database.pool).await?;
        if claimed.is_empty() {
            break;
        }
        let ids: Vec<i64> = claimed.into_iter().map(|(id, _)| id).collect();
        let settle = "UPDATE probe SET state = 2, lease_until = NULL, done_at = 1 WHERE id = ANY($1)";
        sqlx::query(settle).bind(&ids).execute(&database.pool).await?;
        done += ids.len();
    }
    let rate = done as f64 / began.elapsed().as_secs_f64();
    rig.server.discard(database).await?;
    Ok(rate)
}
