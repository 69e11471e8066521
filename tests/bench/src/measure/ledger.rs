//! What the product's own tables say of a burst. The one place that knows its states; see `model/run.rs`.

use anyhow::Result;

use crate::rig::postgres::Database;

/// Outcomes of the runs of one instant.
pub(crate) struct Judged {
    pub(crate) succeeded: i64,
    /// Dispatched before the instant.
    pub(crate) early: i64,
}

/// Whether something that is due at `due_at` or before it is pending, or anything is running.
pub(crate) async fn has_open(database: &Database, due_at: i64) -> Result<bool> {
    let pending = format!("SELECT 1 FROM runs WHERE state = 0 AND due_at <= {due_at}");
    let running = "SELECT 1 FROM runs WHERE state = 1";
    database.look(&format!("SELECT EXISTS ({pending}) OR EXISTS ({running})")).await
}

/// What became of the runs of the instant `due_at`.
pub(crate) async fn judge(database: &Database, due_at: i64) -> Result<Judged> {
    let count = |what: &str| format!("SELECT count(*) FROM runs WHERE nominal_at = {due_at} AND {what}");
    Ok(Judged {
        succeeded: database.look(&count("state = 2")).await?,
        early: database.look(&count("dispatched_at < nominal_at")).await?,
    })
}
