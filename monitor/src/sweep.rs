//! When the leading monitor prunes finished rows: small batches with pauses at least four times as long
//! as the batch took, so that a sweep never has more than a fifth of the time, and after a sweep a
//! minute of rest. Pure.

use std::time::Duration;

use reveille_shared::model::UnixMs;

use crate::watch::Moment;

/// Rows of one batch.
pub const BATCH: i64 = 1_000;

const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_PER_WORK: u32 = 4;
const REST: Duration = Duration::from_secs(60);

/// The planner of the sweeps.
#[derive(Debug, Default)]
pub struct Sweep {
    at: Option<Duration>,
    rest_until: Duration,
}

impl Sweep {
    /// Nothing to prune yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in when there will be something to prune.
    pub fn on_reading(&mut self, now: Moment, next_prune: Option<UnixMs>) {
        self.at = next_prune.map(|at| now.deadline(at).max(self.rest_until));
    }

    /// Takes in what a batch did.
    pub fn on_batch(&mut self, now: Duration, took: Duration, rows: u64) {
        if rows >= BATCH.unsigned_abs() {
            self.rest_until = now + PAUSE.max(took * PAUSE_PER_WORK);
            self.at = Some(self.rest_until);
            return;
        }
        self.on_end(now);
    }

    /// Rests after the last batch, or after one that failed. The next reading tells what is left.
    pub fn on_end(&mut self, now: Duration) {
        self.rest_until = now + REST;
        self.at = None;
    }

    /// Whether a batch is due.
    pub fn is_due(&self, now: Duration) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    /// When the next batch is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.at
    }
}
