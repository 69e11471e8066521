//! P1 and P2: what a deployment costs while nothing is due.

use std::time::Duration;

use anyhow::Result;

use crate::clock;
use crate::options::Plan;
use crate::proc;
use crate::report::Condition::AtMost;
use crate::report::Row;
use crate::rig::Rig;
use crate::rig::deployment::{Deployment, Subject};
use crate::rig::load::Copies;
use crate::rig::template::Template;

/// What one window showed.
struct Window {
    worker_statements: f64,
    cluster_statements: f64,
    cpu_ms_per_min: f64,
    pss_mib: f64,
}

pub(crate) async fn lines(rig: &Rig, plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let seconds = plan.idle_window.as_secs();
    for (workers, schedules) in [(1, 0), (8, 0), (1, plan.idle_schedules), (8, plan.idle_schedules)] {
        let plural = if workers == 1 { "" } else { "s" };
        let among = format!("{workers} worker{plural}, {schedules} schedules");
        let row = |id, what: &str, unit| Row::new(id, format!("{what}, {among}"), unit);
        let mut lines = [
            row("P1", "statements per idle worker", "").goal("0", &[AtMost(0.0)]),
            row("P1", &format!("statements of the cluster in {seconds} s"), "").goal("≤ 3", &[AtMost(3.0)]),
            row("P2", "CPU per idle worker", "ms/min").goal("≤ 10", &[]),
            row("P2", "memory per worker, PSS", "MiB").goal("≤ 8", &[]),
        ];
        for subject in rig.subjects() {
            let window = window(rig, subject, workers, schedules, plan.settle, plan.idle_window).await?;
            let figures = [window.worker_statements, window.cluster_statements, window.cpu_ms_per_min, window.pss_mib];
            lines.iter_mut().zip(figures).for_each(|(line, figure)| line.add_product(subject.name, figure));
        }
        rows.extend(lines);
    }
    Ok(rows)
}

/// Statements of one worker that has nothing to do.
pub(crate) async fn statements(rig: &Rig, length: Duration) -> Result<f64> {
    let settle = Duration::from_secs(3);
    Ok(window(rig, &rig.ours, 1, 100, settle, length).await?.worker_statements)
}

async fn window(
    rig: &Rig,
    subject: &Subject,
    workers: usize,
    schedules: i64,
    settle: Duration,
    length: Duration,
) -> Result<Window> {
    let deployment = Deployment::start(subject, &rig.server, &rig.redis, workers).await?;
    deployment.warm_up(&rig.traffic.url("/warm-up")).await?;
    if schedules > 0 {
        let mut api = deployment.connect().await?;
        let template =
            Template::register(&deployment.database, &mut api, &rig.traffic.url("/never"), "template").await?;
        let copies = Copies { from: 1, count: schedules, due_at: clock::FAR_FUTURE_MS, apart: 1_000, scattered: true };
        template.copy(&deployment.database, copies).await?;
    }
    tokio::time::sleep(settle).await; // whatever the warm-up left to do
    let roles = [&deployment.roles.worker, &deployment.roles.monitor, &deployment.roles.api];
    let cpu_ns = || deployment.workers.iter().map(|worker| proc::cpu_ns(worker.pid())).sum::<u64>();
    let mut before = Vec::new();
    for role in roles {
        before.push(rig.server.statements(role).await);
    }
    let cpu_before = cpu_ns();
    tokio::time::sleep(length).await;
    let cpu_ms = (cpu_ns() - cpu_before) as f64 / 1e6;
    let mut spent = Vec::new();
    for (role, before) in roles.iter().zip(before) {
        spent.push((rig.server.statements(role).await - before) as f64);
    }
    let mut pss_kib = 0;
    for worker in &deployment.workers {
        pss_kib += proc::pss_kib(worker.pid())?;
    }
    let per_worker = |total: f64| total / workers as f64;
    let window = Window {
        worker_statements: per_worker(spent[0]),
        cluster_statements: spent.iter().sum(),
        cpu_ms_per_min: per_worker(cpu_ms) * 60.0 / length.as_secs_f64(),
        pss_mib: per_worker(pss_kib as f64 / 1024.0),
    };
    rig.server.discard(deployment.stop().await).await?;
    Ok(window)
}
