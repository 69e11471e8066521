//! Metrics registries that are passed around, never global: two roles in one process share one, two
//! tests in one process do not. The tracing subscriber is installed by the binary alone.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::registry::Registry;

/// The metrics of a process, rendered by its `/metrics`. Cloning shares them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// An empty registry whose metrics are named `reveille_…`.
    pub fn new() -> Self {
        Self { registry: Arc::new(Mutex::new(Registry::with_prefix("reveille"))) }
    }

    /// Lets a role register its metrics.
    pub fn register<T>(&self, build: impl FnOnce(&mut Registry) -> T) -> T {
        build(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
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
