//! The layers put together: what a role is handed.

use std::sync::Arc;

use crate::bus::Bus;
use crate::bus::hint::Hinter;
use crate::runtime::clock::DbClock;
use crate::runtime::fault::Faults;
use crate::runtime::lifecycle::Lifecycle;
use crate::runtime::telemetry::Metrics;
use crate::runtime::trace::Tracer;
use crate::store::Store;

/// What a role is handed by the composition root. Cloning shares everything in it.
#[derive(Clone)]
pub struct Context {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// The hints.
    pub bus: Arc<dyn Bus>,
    /// Sends hints after a commit.
    pub hints: Hinter,
    /// The database's clock as this process knows it, and the monotonic clock to sleep on.
    pub clock: DbClock,
    /// Where a role registers its metrics.
    pub metrics: Metrics,
    /// Makes the spans of the traces.
    pub tracer: Tracer,
    /// Start and stop.
    pub lifecycle: Lifecycle,
    /// Fault points for tests.
    pub faults: Faults,
}
