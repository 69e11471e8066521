//! The lines of the table. Each function measures one of them over all rounds: whoever is compared runs in the same
//! round, and every second round runs in reverse order.

mod burst;
mod embedded;
mod footprint;
mod growth;
mod idle;
mod lateness;
mod ledger;
mod now;
mod registration;
mod roofline;
mod sustained;
mod throughput;

use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use futures_util::FutureExt;

use crate::options::Plan;
use crate::report::{Report, Row};
use crate::rig::Rig;
use crate::rig::deployment::Subject;

/// In the order of the table of goals; P2 is measured with P1, P6 with P5.
const LINES: [&str; 12] = ["P1", "P3", "P4", "P5", "P7", "P8", "P9", "P10", "P11", "P12", "P13", "P14"];

/// Measures what `plan` names. What fails becomes a line that says so: the others are still worth having.
pub(crate) async fn table(
    rig: &Rig,
    plan: &Plan,
    report: &mut Report,
    after_each: impl Fn(&Report) -> Result<()>,
) -> Result<()> {
    for id in LINES {
        let with = match id {
            "P1" => "P2",
            "P5" => "P6",
            _ => id,
        };
        if !plan.includes(id) && !plan.includes(with) {
            continue;
        }
        crate::say(&format!("{id} …"));
        let measured = std::panic::AssertUnwindSafe(one(rig, plan, report, id)).catch_unwind().await;
        let rows = measured.unwrap_or_else(|panic| Err(told(&*panic)));
        match rows {
            Ok(rows) => report.rows.extend(rows),
            Err(error) => {
                crate::say(&format!("{id} failed: {error:#}"));
                let error = format!("{error:#}");
                let line = error.lines().next().unwrap_or_default().to_owned();
                report.rows.push(Row::new(id, "failed", "").note(line));
            }
        }
        after_each(report)?;
    }
    Ok(())
}

async fn one(rig: &Rig, plan: &Plan, report: &mut Report, id: &str) -> Result<Vec<Row>> {
    match id {
        "P1" => idle::lines(rig, plan).await,
        "P3" => lateness::lines(rig, plan, report).await,
        "P4" => now::lines(rig, plan, report).await,
        "P5" => throughput::bursts(rig, plan, report).await,
        "P7" => registration::lines(rig, plan).await,
        "P8" => growth::lines(rig, plan, report).await,
        "P11" => embedded::lines(rig, plan, report).await,
        "P12" => footprint::lines(rig, plan).await,
        "P13" => sustained::lines(rig, plan, report).await,
        _ => Ok(vec![later(id)]),
    }
}

/// Lines whose measurement belongs to work that is still to come.
fn later(id: &str) -> Row {
    let later = "belongs to later work";
    match id {
        "P9" => Row::not_measured("P9", "claims that return nothing, 50 idle workers", "≤ 0.1 per due instant", later),
        "P10" => Row::not_measured("P10", "slow and hung targets", "≥ 0.97 of ideal, healthy p99 ≤ 250 ms late", later),
        _ => Row::not_measured("P14", "picks and acks, 32 consumers", "≥ 5 000/s and ≥ the best peer", later),
    }
}

/// Who takes part in a round, in reverse every second time.
fn in_turn(mut subjects: Vec<&Subject>, round: usize) -> Vec<&Subject> {
    if round % 2 == 1 {
        subjects.reverse();
    }
    subjects
}

/// One burst of the product, for who wants its counters alone.
pub(crate) async fn burst(rig: &Rig, jobs: usize) -> Result<burst::Burst> {
    burst::of_product(rig, &rig.ours, jobs, 1).await
}

/// Statements of one idle worker in a window.
pub(crate) async fn idle_statements(rig: &Rig, window: Duration) -> Result<f64> {
    idle::statements(rig, window).await
}

/// What the test kit says when a process does not start, which is how it fails.
fn told(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    anyhow!("{}", text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked"))
}
