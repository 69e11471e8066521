//! P3: how late a timer fires that was known well before, and never early.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clock::{self, wall_us};
use crate::options::Plan;
use crate::report::{Kind, Report, Row};
use crate::rig::Rig;
use crate::rig::deployment::{Deployment, Subject};
use crate::rig::load::{BODY, document};
use crate::stats::percentile;

/// Between two timers, on average: each one finds everything idle.
const APART_MS: i64 = 40;
/// Timers are registered at least this much before they are due.
const AHEAD_MS: i64 = 3_000;
/// A registration surely takes less.
const REGISTRATION_MS: i64 = 15;

pub(crate) async fn lines(rig: &Rig, plan: &Plan, report: &mut Report) -> Result<Vec<Row>> {
    let what = |which: &str| format!("lateness of {} known timers, {which}", plan.timers);
    let mut p50 = Row::new("P3", what("p50"), "ms").goal("≤ 3", &[]);
    let mut p99 = Row::new("P3", what("p99"), "ms").goal("≤ 15", &[]);
    for round in 0..plan.rounds {
        let limit = limit(rig, plan.samples)?;
        add(&mut p50, &mut p99, "a thread that sleeps and POSTs", Some(Kind::Limit), &limit);
        for subject in super::in_turn(rig.subjects(), round) {
            let lateness = timers(rig, subject, plan.timers, report).await?;
            add(&mut p50, &mut p99, subject.name, None, &lateness);
        }
    }
    Ok(vec![p50, p99])
}

fn add(p50: &mut Row, p99: &mut Row, name: &str, kind: Option<Kind>, values: &[f64]) {
    for (row, share) in [(p50, 0.5), (p99, 0.99)] {
        let value = percentile(values, share).unwrap_or(f64::NAN);
        match kind {
            Some(kind) => row.add(name, kind, value),
            None => row.add_product(name, value),
        }
    }
}

async fn timers(rig: &Rig, subject: &Subject, timers: usize, report: &mut Report) -> Result<Vec<f64>> {
    let deployment = Deployment::start(subject, &rig.server, &rig.redis, 1).await?;
    deployment.warm_up(&rig.traffic.url("/warm-up")).await?;
    let mut api = deployment.connect().await?;
    rig.sink.take();
    let count = i64::try_from(timers)?;
    let first = clock::wall_ms() + AHEAD_MS + REGISTRATION_MS * count.min(200);
    let mut due = HashMap::new();
    for timer in 0..count {
        let at = first + timer * APART_MS + fastrand::i64(0..APART_MS);
        let path = format!("/timer/{timer}");
        api.register(&document(&rig.sink.url(&path), &path, "date", &clock::date(at))).await?;
        ensure!(clock::wall_ms() + AHEAD_MS <= at, "registering {timers} timers took longer than foreseen");
        due.insert(path, at);
    }
    let patience = Duration::from_millis(u64::try_from(AHEAD_MS + count * APART_MS)?) + Duration::from_secs(60);
    rig.sink.wait(timers, patience).await?;
    let arrivals = rig.sink.take();
    let lateness: HashMap<&str, f64> = arrivals
        .iter()
        .filter_map(|arrival| {
            Some((arrival.path.as_str(), (arrival.at_us - due.get(&arrival.path)? * 1000) as f64 / 1000.0))
        })
        .collect();
    let early = lateness.values().filter(|late| **late < 0.0).count();
    report.checked(i64::try_from(timers - lateness.len())?, i64::try_from(early)?);
    rig.server.discard(deployment.stop().await).await?;
    Ok(lateness.into_values().collect())
}

/// A plain thread that sleeps until an instant and writes to a connection that is open.
fn limit(rig: &Rig, samples: usize) -> Result<Vec<f64>> {
    rig.sink.take();
    let mut stream = TcpStream::connect(rig.sink.address())?;
    stream.set_nodelay(true)?;
    let request = format!("POST /probe HTTP/1.1\r\nhost: probe\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    let mut due = Vec::new();
    let mut answer = [0; 1024];
    for _ in 0..samples {
        let at = clock::wall_ms() + fastrand::i64(10..30);
        let left = at * 1000 - wall_us();
        std::thread::sleep(Duration::from_micros(u64::try_from(left).unwrap_or(0)));
        stream.write_all(request.as_bytes())?;
        ensure!(stream.read(&mut answer).context("the sink's answer")? > 0, "the sink hung up");
        due.push(at);
    }
    let arrivals = rig.sink.take();
    Ok(arrivals.iter().zip(due).map(|(arrival, due)| (arrival.at_us - due * 1000) as f64 / 1000.0).collect())
}
