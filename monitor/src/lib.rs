//! The elected monitor: tracks the next due instant in the database and publishes it; brings back what
//! dead workers held; prunes what is finished.

use std::time::Duration;

use reveille_shared::runtime::Context;

/// Settings of a monitor.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often the database is read although nothing seems to happen; never more than the lease.
    pub recheck: Duration,
    /// How often it repeats the state as a heartbeat.
    pub beat: Duration,
    /// How long leadership lasts without a beat.
    pub ttl: Duration,
}

/// Runs a monitor, leading or standing by, until the lifecycle stops it; then it resigns and returns.
pub async fn run(_context: Context, _settings: Settings) {}
