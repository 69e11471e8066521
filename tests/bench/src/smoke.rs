//! What a test can gate on: counters that do not depend on how fast or how busy the machine is.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::measure;
use crate::rig::postgres::Server;
use crate::rig::{Rig, Traffic};

/// Runs due at one instant.
const RUNS: usize = 2_000;
const WINDOW: Duration = Duration::from_secs(5);
/// Bounds of what the product does today, with room: the goals are the table's business.
const STATEMENTS_PER_RUN: f64 = 0.05;
const ROW_VERSIONS_PER_RUN: f64 = 2.2;
/// The goal is 1229; what runs in the background of a server may add to it.
const WAL_BYTES_PER_RUN: f64 = 1400.0;

/// Measures the counters of `binary`, and answers them in words. An error names the first that is off.
pub async fn smoke(binary: &Path) -> Result<String> {
    let server = Server::quick().await?;
    let rig = Rig::with_sink(server, binary.to_owned(), Traffic::own().await?).await?;
    let burst = measure::burst(&rig, RUNS).await?;
    let cost = burst.cost.unwrap_or_default();
    let idle = measure::idle_statements(&rig, WINDOW).await?;
    let text = format!(
        "{RUNS} runs due at once: {:.4} statements, {:.2} row versions and {:.0} bytes of WAL per run \
         (full-page images apart: {:.0}); lost {}, early {}, called twice {}; \
         an idle worker: {idle} statements in {} s\n",
        cost.statements,
        cost.row_versions,
        cost.wal_bytes,
        cost.full_page_image_bytes,
        burst.lost,
        burst.early,
        burst.repeated,
        WINDOW.as_secs(),
    );
    ensure!(burst.lost == 0, "lost runs: {text}");
    ensure!(cost.wal_bytes <= WAL_BYTES_PER_RUN, "WAL: {text}");
    ensure!(burst.early == 0, "early runs: {text}");
    ensure!(cost.statements <= STATEMENTS_PER_RUN, "more than {STATEMENTS_PER_RUN} statements per run: {text}");
    ensure!(cost.row_versions <= ROW_VERSIONS_PER_RUN, "more than {ROW_VERSIONS_PER_RUN} row versions per run: {text}");
    ensure!(cost.row_versions > 0.0 && cost.wal_bytes > 0.0, "nothing was counted: {text}");
    ensure!(idle == 0.0, "an idle worker sends statements: {text}");
    Ok(text)
}
