//! The worker: sleeps without touching the database until something is due, claims it into free slots,
//! dispatches it and settles it.

use std::time::Duration;

use reveille_shared::runtime::Context;

/// Settings of a worker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Runs dispatched at the same time, at most.
    pub concurrency: usize,
    /// Queues it serves.
    pub queues: Vec<String>,
    /// How long a claimed run may go without a sign of life.
    pub lease: Duration,
    /// How long a stop waits for calls in flight.
    pub drain: Duration,
    /// Name under which it claims, for people.
    pub name: String,
    /// Body of a target that asks for none in particular: `data`, or the whole document.
    pub default_body: reveille_shared::model::task::BodyMode,
    /// Without a heartbeat for this long it checks the database by itself.
    pub degraded_after: Duration,
    /// How often it does so then, ± 20 %.
    pub degraded_check: Duration,
}

/// Runs a worker until the lifecycle stops it: then it claims nothing more, finishes or hands back
/// what it holds within [`Settings::drain`], and returns.
pub async fn run(_context: Context, _settings: Settings) {}
