//! Pauses between attempts at something that is not possible now.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// Doubling pauses from 50 ms to 1 s, shortened by up to half at random, so that a fleet does not come
/// back to a restarted server in step.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// A first pause of 50 ms.
    pub fn new() -> Self {
        Self { next: FIRST }
    }

    /// How long to wait before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + 0.5 * fastrand::f64());
        self.next = (self.next * 2).min(LONGEST);
        pause
    }

    /// An attempt succeeded.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}
