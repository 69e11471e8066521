//! P7: registrations over HTTP connections that are kept, beside pgbench writing the same rows.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hyper::body::Bytes;
use reveille_testkit::scratch_dir;

use crate::clock;
use crate::http::Connection;
use crate::options::Plan;
use crate::report::Condition::{AtMost, TimesAtLeast};
use crate::report::{Kind, Row};
use crate::rig::Rig;
use crate::rig::deployment::Deployment;
use crate::rig::embedded::Embedded;
use crate::rig::load::document;
use crate::rig::template::Template;

pub(crate) async fn lines(rig: &Rig, plan: &Plan) -> Result<Vec<Row>> {
    let row = |what: String, goal, conditions: &[_]| Row::rate("P7", what, "registrations/s").goal(goal, conditions);
    let conditions = |times| [TimesAtLeast(times, Kind::Limit)];
    let mut rows = [
        row("registration, 1 connection, PostgreSQL".to_owned(), "≥ 0.6 × pgbench", &conditions(0.6)),
        row("registration, 32 connections, PostgreSQL".to_owned(), "≥ 0.7 × pgbench", &conditions(0.7)),
        row("registration, 1 connection, SQLite".to_owned(), "", &[]),
        row("registration, 32 connections, SQLite".to_owned(), "≥ 5 × base", &[TimesAtLeast(5.0, Kind::Base)]),
    ];
    let mut publishes = Row::new("P7", "publishes per far-future registration", "").goal("≤ 0.01", &[AtMost(0.01)]);
    for round in 0..plan.rounds {
        for subject in super::in_turn(rig.subjects(), round) {
            let deployment = Deployment::start(subject, &rig.server, &rig.redis, 1).await?;
            let before = publishes_of(rig).await?;
            let mut registered = 0;
            for (index, (connections, count)) in plan.registrations().into_iter().enumerate() {
                let rate = rate(deployment.listen(), connections, count, &format!("pg{index}")).await?;
                rows[index].add_product(subject.name, rate);
                registered += count;
            }
            let spent = (publishes_of(rig).await? - before) as f64;
            publishes.add_product(subject.name, spent / registered as f64);
            if subject.name == "ours" {
                for (row, (clients, count)) in rows.iter_mut().zip(plan.registrations()) {
                    let limit = pgbench(rig, &deployment, clients, count).await?;
                    row.add("pgbench, the same rows in one statement", Kind::Limit, limit);
                }
            }
            rig.server.discard(deployment.stop().await).await?;

            let embedded = Embedded::start(subject).await?;
            for (index, (connections, count)) in plan.registrations().into_iter().enumerate() {
                let rate = rate(embedded.listen(), connections, count, &format!("sqlite{index}")).await?;
                rows[2 + index].add_product(subject.name, rate);
            }
            fs::remove_dir_all(embedded.stop().await).ok();
        }
    }
    let bulk = Row::not_measured("P7", "bulk registration of 10 000 a call", "≥ 0.4 × COPY", "there is no such call");
    Ok(rows.into_iter().chain([publishes, bulk]).collect())
}

/// Registrations per second over so many connections.
async fn rate(listen: &str, connections: usize, count: usize, prefix: &str) -> Result<f64> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(listen).await?);
    }
    let far = clock::date(clock::FAR_FUTURE_MS);
    let share = count / connections;
    let began = Instant::now();
    let mut tasks = Vec::new();
    for (number, mut connection) in open.into_iter().enumerate() {
        let (prefix, far) = (prefix.to_owned(), far.clone());
        tasks.push(tokio::spawn(async move {
            for registration in 0..share {
                let key = format!("{prefix}-{number}-{registration}");
                let document = document("http://127.0.0.1:9/never", &key, "date", &far);
                connection.post("/schedules", Bytes::from(document.to_string())).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok((share * connections) as f64 / began.elapsed().as_secs_f64())
}

/// Transactions per second of the same rows, by as many clients.
async fn pgbench(rig: &Rig, deployment: &Deployment, clients: usize, count: usize) -> Result<f64> {
    let mut api = deployment.connect().await?;
    let key = format!("limit-{clients}");
    let template = Template::register(&deployment.database, &mut api, "http://127.0.0.1:9/never", &key).await?;
    deployment.database.execute("DROP SCHEMA IF EXISTS limits CASCADE").await?;
    let script = scratch_dir("pgbench").join("registration.sql");
    fs::write(&script, template.limit(&deployment.database).await?)?;
    let transactions = (count / clients).to_string();
    let clients = clients.to_string();
    let mut command = rig.server.program("pgbench");
    command.args(["-n", "-M", "prepared", "-h", "127.0.0.1", "-p", &rig.server.port().to_string(), "-U", "postgres"]);
    command.args(["-c", &clients, "-j", "1", "-t", &transactions, "-f"]).arg(&script).arg(&deployment.database.name);
    let output = tokio::task::spawn_blocking(move || command.output()).await?.context("run pgbench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
    ensure!(output.status.success(), "pgbench: {stderr}");
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    tps.with_context(|| format!("no tps in {text}"))
}

/// Messages that were published so far, by scripts too.
async fn publishes_of(rig: &Rig) -> Result<i64> {
    let mut connection = redis::Client::open(rig.redis.url())?.get_multiplexed_async_connection().await?;
    let text: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await?;
    let calls = |line: &str| line.strip_prefix("cmdstat_publish:calls=")?.split(',').next()?.parse().ok();
    Ok(text.lines().find_map(calls).unwrap_or(0))
}
