//! The lines of the table. Each function measures one of them over all rounds: whoever is compared runs in the same
//! round, and every second round runs in reverse order.

mod burst;
mod ledger;
mod throughput;

use anyhow::{Error, Result, anyhow};
use futures_util::FutureExt;

use crate::options::Plan;
use crate::report::{Report, Row};
use crate::rig::Rig;

/// Measures what `plan` names. What fails becomes a line that says so: the others are still worth having.
pub(crate) async fn table(
    rig: &Rig,
    plan: &Plan,
    report: &mut Report,
    after_each: impl Fn(&Report) -> Result<()>,
) -> Result<()> {
    for id in ["P5"] {
        if !plan.includes(id) {
            continue;
        }
        crate::say(&format!("{id} …"));
        let measured = std::panic::AssertUnwindSafe(one(rig, plan, report, id)).catch_unwind().await;
        let rows = measured.unwrap_or_else(|panic| Err(told(&*panic)));
        match rows {
            Ok(rows) => report.rows.extend(rows),
            Err(error) => {
                crate::say(&format!("{id} failed: {error:#}"));
                report.rows.push(Row::new(id, "failed", "").note(format!("{error:#}")));
            }
        }
        after_each(report)?;
    }
    Ok(())
}

async fn one(rig: &Rig, plan: &Plan, report: &mut Report, id: &str) -> Result<Vec<Row>> {
    match id {
        "P5" => throughput::bursts(rig, plan, report).await,
        _ => Ok(Vec::new()),
    }
}

/// What the test kit says when a process does not start, which is how it fails.
fn told(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    anyhow!("{}", text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked"))
}
