//! P11: the product in one process over SQLite.

use anyhow::{Result, ensure};

use super::{burst, now};
use crate::clock;
use crate::options::Plan;
use crate::proc;
use crate::report::Condition::TimesAtLeast;
use crate::report::{Kind, Report, Row};
use crate::rig::Rig;
use crate::rig::deployment::Subject;
use crate::rig::embedded::{Embedded, EmbeddedTemplate};
use crate::rig::load::{Copies, document};
use crate::stats::percentile;

/// SQLite surely writes so many copies per second.
const COPIED_PER_S: i64 = 8_000;

pub(crate) async fn lines(rig: &Rig, plan: &Plan, report: &mut Report) -> Result<Vec<Row>> {
    let mut burst = Row::rate("P11", format!("embedded: {} due at once", plan.burst), "runs/s")
        .goal("≥ 1.5 × base", &[TimesAtLeast(1.5, Kind::Base)]);
    let mut alone = Row::new("P11", "embedded: now, alone, p50", "ms");
    let mut idle =
        Row::new("P11", "embedded: idle CPU", "ms/min").note("statements reach no server that could count them");
    let mut memory = Row::new("P11", "embedded: memory after the burst, PSS", "MiB");
    for round in 0..plan.rounds {
        for subject in super::in_turn(rig.subjects(), round) {
            let embedded = Embedded::start(subject).await?;
            embedded.warm_up(&rig.traffic.url("/warm-up")).await?;
            let figure = drain(rig, report, &embedded, plan.burst).await?;
            burst.add_product(subject.name, figure);
            let latencies = now::alone(rig, &mut embedded.connect().await?, plan.samples_alone, report).await?;
            alone.add_product(subject.name, percentile(&latencies, 0.5).unwrap_or_default());
            memory.add_product(subject.name, proc::pss_kib(embedded.pid())? as f64 / 1024.0);
            tokio::time::sleep(plan.settle).await;
            let before = proc::cpu_ns(embedded.pid());
            tokio::time::sleep(plan.idle_window).await;
            let spent = (proc::cpu_ns(embedded.pid()) - before) as f64 / 1e6;
            idle.add_product(subject.name, spent * 60.0 / plan.idle_window.as_secs_f64());
        }
    }
    let start = start_with_many(rig, plan).await?;
    Ok(vec![burst, alone, idle, memory, start])
}

async fn drain(rig: &Rig, report: &mut Report, embedded: &Embedded, jobs: usize) -> Result<f64> {
    let url = rig.traffic.url("/burst");
    let template = EmbeddedTemplate::register(embedded, &url).await?;
    let count = i64::try_from(jobs)?;
    let due_at = clock::wall_ms() + 3_000 + 1000 * count / COPIED_PER_S;
    let mut counter = rig.traffic.counter().await?;
    let copies = Copies { from: 1, count: count - 1, due_at, apart: 0, scattered: false };
    template.copy(embedded, copies).await?;
    embedded.connect().await?.register(&document(&url, "herald", "date", &clock::date(due_at))).await?;
    ensure!(clock::wall_ms() + 1_000 < due_at, "loading {jobs} schedules took longer than foreseen");
    let early = burst::early(&mut counter, due_at).await?;
    let open = format!(
        "SELECT EXISTS (SELECT 1 FROM runs WHERE state = 0 AND due_at <= {due_at}) OR EXISTS (SELECT 1 FROM runs WHERE state = 1)"
    );
    let is_open = || async { Ok(embedded.count(&open).await? != 0) };
    let seen = burst::watch(&mut counter, jobs, due_at, is_open).await?;
    let of_burst = |what: &str| format!("SELECT count(*) FROM runs WHERE nominal_at = {due_at} AND {what}");
    let lost = count - embedded.count(&of_burst("state = 2")).await?;
    let early = i64::try_from(early)? + embedded.count(&of_burst("dispatched_at < nominal_at")).await?;
    report.checked(lost, early);
    Ok(seen.burst(due_at, jobs, lost, early, None).per_s)
}

/// How long a start takes among a million schedules.
async fn start_with_many(rig: &Rig, plan: &Plan) -> Result<Row> {
    let mut row =
        Row::new("P11", format!("embedded: start to ready with {} schedules", plan.many), "ms").goal("≤ 300", &[]);
    for subject in rig.subjects() {
        let subject: &Subject = subject;
        let embedded = Embedded::start(subject).await?;
        let template = EmbeddedTemplate::register(&embedded, &rig.traffic.url("/never")).await?;
        let copies = Copies { from: 1, count: plan.many, due_at: clock::FAR_FUTURE_MS, apart: 1_000, scattered: true };
        template.copy(&embedded, copies).await?;
        let mut dir = embedded.stop().await;
        for _ in 0..plan.rounds {
            let embedded = Embedded::start_in(subject, dir).await?;
            row.add_product(subject.name, embedded.started_in.as_secs_f64() * 1000.0);
            dir = embedded.stop().await;
        }
        std::fs::remove_dir_all(dir).ok(); // it is large
    }
    Ok(row)
}
