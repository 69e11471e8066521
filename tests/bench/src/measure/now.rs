//! P4: from the request for a run now to the first byte of its call.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hyper::body::Bytes;

use crate::clock::wall_us;
use crate::http::Connection;
use crate::options::Plan;
use crate::report::Condition::TimesAtMost;
use crate::report::{Kind, Report, Row};
use crate::rig::Rig;
use crate::rig::deployment::Deployment;
use crate::rig::load::{BODY, document};
use crate::stats::percentile;

/// Longer than a run may take; it is late, not lost, before that.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests that are sent whether or not the one before was called yet.
const EVERY: Duration = Duration::from_millis(50);

pub(crate) async fn lines(rig: &Rig, plan: &Plan, report: &mut Report) -> Result<Vec<Row>> {
    let row = |what: &str, goal, conditions: &[_]| Row::new("P4", format!("now, {what}"), "ms").goal(goal, conditions);
    let times_alone = |most| [TimesAtMost(most, Kind::Limit)];
    let mut rows = [
        row("alone, p50", "≤ 2 × limit", &times_alone(2.0)),
        row("alone, p99", "", &[]),
        row("every 50 ms, p50", "≤ 1.3 × alone", &times_alone(1.3)),
        row("every 50 ms, p99", "≤ 3 × alone", &times_alone(3.0)),
        row("back to back, p50", "≤ 1.3 × alone", &times_alone(1.3)),
        row("back to back, p99", "≤ 3 × alone", &times_alone(3.0)),
    ];
    for round in 0..plan.rounds {
        let limit = limit(rig, plan.samples).await?;
        rows[0].add("bare POST + committed insert + committed update, p50", Kind::Limit, p(&limit, 0.5));
        rows[1].add("bare POST + committed insert + committed update, p99", Kind::Limit, p(&limit, 0.99));
        for subject in super::in_turn(rig.subjects(), round) {
            let deployment = Deployment::start(subject, &rig.server, &rig.redis, 1).await?;
            deployment.warm_up(&rig.traffic.url("/warm-up")).await?;
            let mut api = deployment.connect().await?;
            let alone = alone(rig, &mut api, plan.samples_alone, report).await?;
            let every = every_so_often(rig, &mut api, plan.samples, report).await?;
            let back_to_back = back_to_back(rig, &mut api, plan.samples, report).await?;
            for (index, latencies) in [&alone, &every, &back_to_back].into_iter().enumerate() {
                rows[2 * index].add_product(subject.name, p(latencies, 0.5));
                rows[2 * index + 1].add_product(subject.name, p(latencies, 0.99));
            }
            if subject.name == "ours" {
                rows[2..].iter_mut().for_each(|row| row.add("ours, alone, p50", Kind::Limit, p(&alone, 0.5)));
            }
            rig.server.discard(deployment.stop().await).await?;
        }
    }
    Ok(rows.into())
}

/// One at a time, with pauses that nothing keeps step with: ms.
pub(crate) async fn alone(rig: &Rig, api: &mut Connection, samples: usize, report: &mut Report) -> Result<Vec<f64>> {
    closed(rig, api, samples, report, || Duration::from_millis(fastrand::u64(150..300))).await
}

/// The next as soon as the one before was called.
async fn back_to_back(rig: &Rig, api: &mut Connection, samples: usize, report: &mut Report) -> Result<Vec<f64>> {
    closed(rig, api, samples, report, || Duration::ZERO).await
}

async fn closed(
    rig: &Rig,
    api: &mut Connection,
    samples: usize,
    report: &mut Report,
    pause: impl Fn() -> Duration,
) -> Result<Vec<f64>> {
    rig.sink.take();
    let mut sent = Vec::new();
    for sample in 0..samples {
        tokio::time::sleep(pause()).await;
        sent.push(send(rig, api, sample).await?);
        rig.sink.wait(sample + 1, PATIENCE).await?;
    }
    latencies(rig, &sent, report)
}

async fn every_so_often(rig: &Rig, api: &mut Connection, samples: usize, report: &mut Report) -> Result<Vec<f64>> {
    rig.sink.take();
    let mut sent = Vec::new();
    let began = Instant::now();
    for sample in 0..samples {
        let next = EVERY * u32::try_from(sample)?;
        tokio::time::sleep(next.saturating_sub(began.elapsed())).await;
        sent.push(send(rig, api, sample).await?);
    }
    rig.sink.wait(samples, PATIENCE).await?;
    latencies(rig, &sent, report)
}

/// Asks for a run now; when the request was sent, in unix µs.
async fn send(rig: &Rig, api: &mut Connection, sample: usize) -> Result<i64> {
    let document = document(&rig.sink.url(&format!("/now/{sample}")), &format!("now-{sample}"), "now", "");
    let body = Bytes::from(document.to_string());
    let sent = wall_us();
    api.post("/schedules", body).await?;
    Ok(sent)
}

/// From each request to its call: ms.
fn latencies(rig: &Rig, sent: &[i64], report: &mut Report) -> Result<Vec<f64>> {
    let arrivals = rig.sink.take();
    let at: HashMap<&str, i64> = arrivals.iter().map(|arrival| (arrival.path.as_str(), arrival.at_us)).collect();
    let latency =
        |(sample, sent): (usize, &i64)| Some((at.get(format!("/now/{sample}").as_str())? - sent) as f64 / 1000.0);
    let latencies: Vec<f64> = sent.iter().enumerate().filter_map(latency).collect();
    let lost = sent.len() - latencies.len();
    let early = latencies.iter().filter(|latency| **latency < 0.0).count();
    report.checked(i64::try_from(lost)?, i64::try_from(early)?);
    Ok(latencies)
}

/// What no scheduler can do without: a commit that accepts, one that settles, and the call itself. ms.
async fn limit(rig: &Rig, samples: usize) -> Result<Vec<f64>> {
    let database = rig.server.database().await?;
    database.execute("CREATE TABLE probe (id bigint PRIMARY KEY, state int NOT NULL, body text NOT NULL)").await?;
    let mut sink = Connection::open(&rig.sink.address()).await?;
    rig.sink.take();
    let mut taken = Vec::new();
    for sample in 0..i64::try_from(samples)? {
        let began = Instant::now();
        let insert = sqlx::query("INSERT INTO probe VALUES ($1, 0, $2)").bind(sample).bind(BODY);
        insert.execute(&database.pool).await?;
        sink.post("/probe", Bytes::from_static(BODY.as_bytes())).await?;
        sqlx::query("UPDATE probe SET state = 1 WHERE id = $1").bind(sample).execute(&database.pool).await?;
        taken.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    ensure!(rig.sink.take().len() == samples, "the probe's own calls are all there");
    rig.server.discard(database).await?;
    Ok(taken)
}

fn p(values: &[f64], share: f64) -> f64 {
    percentile(values, share).unwrap_or(f64::NAN)
}
