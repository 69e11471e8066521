//! Pauses between attempts to reach Redis.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// Doubling pauses from 50 ms to 1 s, shortened by up to half at random, so that a fleet does not
/// come back to a restarted Redis in step.
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The pause before the next attempt.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + 0.5 * fastrand::f64());
        self.next = (self.next * 2).min(LONGEST);
        pause
    }

    /// An attempt succeeded.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }
}
