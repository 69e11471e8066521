//! Metrics registries that are passed around, never global: two roles in one process share one, two
//! tests in one process do not. The tracing subscriber is installed by the binary alone.
//!
//! Also the pulses by which the liveness probe knows, from memory, that the loops still turn.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::registry::Registry;

/// The metrics of a process, rendered by its `/metrics`. Cloning shares them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    pulses: Arc<Mutex<Vec<Pulse>>>,
}

impl Metrics {
    /// An empty registry whose metrics are named `reveille_…`.
    pub fn new() -> Self {
        Self { registry: Arc::new(Mutex::new(Registry::with_prefix("reveille"))), pulses: Arc::default() }
    }

    /// Lets a role register its metrics.
    pub fn register<T>(&self, build: impl FnOnce(&mut Registry) -> T) -> T {
        build(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Registers a loop that promises to beat at least once per `promise`, beginning now.
    pub fn pulse(&self, name: &'static str, promise: Duration, now: Duration) -> Pulse {
        let pulse = Pulse { name, promise, last: Arc::new(Mutex::new(now)) };
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).push(pulse.clone());
        pulse
    }

    /// The loops that broke their promise: the process hangs and should be restarted.
    pub fn silent(&self, now: Duration) -> Vec<&'static str> {
        let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.iter().filter(|pulse| pulse.is_silent(now)).map(|pulse| pulse.name).collect()
    }

    /// OpenMetrics text, from memory.
    pub fn render(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing into a String cannot fail; an empty answer is what a scraper flags anyway.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Milliseconds for the log. The 128 bits of [`Duration::as_millis`] are written as text into a JSON line, where a number
/// is expected.
pub fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A loop's sign of life, on the monotonic clock. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Pulse {
    name: &'static str,
    promise: Duration,
    last: Arc<Mutex<Duration>>,
}

impl Pulse {
    /// The loop turned at `now`.
    pub fn beat(&self, now: Duration) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn is_silent(&self, now: Duration) -> bool {
        now > *self.last.lock().unwrap_or_else(PoisonError::into_inner) + self.promise
    }
}
