//! P13: schedules of every second that all fire every second.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use chrono::DateTime;
use hyper::body::Bytes;

use crate::clock;
use crate::http::Connection;
use crate::options::Plan;
use crate::report::{Report, Row};
use crate::rig::Rig;
use crate::rig::deployment::{Deployment, Subject};
use crate::rig::load::document;
use crate::rig::sink::Arrival;
use crate::stats::percentile;

const CONNECTIONS: usize = 8;

/// What a window showed.
struct Lag {
    p50_ms: f64,
    p99_ms: f64,
    /// Of the occurrences of the window, how many were called for.
    fired: f64,
}

pub(crate) async fn lines(rig: &Rig, plan: &Plan, report: &mut Report) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for schedules in plan.sustained.clone() {
        let row = |what: &str, unit, goal| {
            Row::new("P13", format!("{schedules} schedules of every second, {what}"), unit).goal(goal, &[])
        };
        let goal = if schedules <= 3_000 { "≤ 100" } else { "≤ 100 (stretch)" };
        let mut lines =
            [row("lag p50", "ms", goal), row("lag p99", "ms", ""), row("occurrences called for", "share", "")];
        for round in 0..plan.rounds {
            for subject in super::in_turn(rig.subjects(), round) {
                let lag = window(rig, plan, report, subject, schedules).await?;
                let figures = [lag.p50_ms, lag.p99_ms, lag.fired];
                lines.iter_mut().zip(figures).for_each(|(line, figure)| line.add_product(subject.name, figure));
            }
        }
        lines[2].note = "what is behind skips instants rather than pile them up: less than 1 is overload".to_owned();
        rows.extend(lines);
    }
    Ok(rows)
}

async fn window(rig: &Rig, plan: &Plan, report: &mut Report, subject: &Subject, schedules: usize) -> Result<Lag> {
    let deployment = Deployment::start(subject, &rig.server, &rig.redis, 1).await?;
    deployment.warm_up(&rig.traffic.url("/warm-up")).await?;
    register(rig, &deployment, schedules).await?;
    tokio::time::sleep(Duration::from_secs(3)).await; // into step
    rig.sink.take();
    // Whole seconds, and long enough after the last of them that what is late is in.
    let first = clock::wall_ms() / 1000 + 2;
    let last = first + i64::try_from(plan.sustained_window.as_secs())? - 1;
    clock::sleep_until_ms((last + 1) * 1000 + 3_000).await;
    let arrivals = rig.sink.take();
    rig.server.discard(deployment.stop().await).await?;

    let due = |arrival: &Arrival| DateTime::parse_from_rfc3339(&arrival.nominal).ok().map(|at| at.timestamp_millis());
    let of_window = arrivals
        .iter()
        .filter_map(|arrival| Some((arrival, due(arrival)?)))
        .filter(|(_, due)| (first * 1000..=last * 1000).contains(due));
    let mut occurrences = HashSet::new();
    let mut lags = Vec::new();
    for (arrival, due) in of_window {
        if occurrences.insert((arrival.path.as_str(), due)) {
            lags.push((arrival.at_us - due * 1000) as f64 / 1000.0);
        }
    }
    let early = lags.iter().filter(|lag| **lag < 0.0).count();
    report.checked(0, i64::try_from(early)?);
    let expected = schedules as f64 * (last - first + 1) as f64;
    let p = |share| percentile(&lags, share).unwrap_or(f64::NAN);
    Ok(Lag { p50_ms: p(0.5), p99_ms: p(0.99), fired: lags.len() as f64 / expected })
}

async fn register(rig: &Rig, deployment: &Deployment, schedules: usize) -> Result<()> {
    let mut tasks = Vec::new();
    for number in 0..CONNECTIONS {
        let mut connection = Connection::open(deployment.listen()).await?;
        let sink = rig.sink.url("/tick");
        tasks.push(tokio::spawn(async move {
            for schedule in (number..schedules).step_by(CONNECTIONS) {
                let document = document(&format!("{sink}/{schedule}"), &schedule.to_string(), "cron", "* * * * * *");
                connection.post("/schedules", Bytes::from(document.to_string())).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}
