//! What every role runs on: clock, lifecycle, telemetry, fault points, and the [`Context`] that carries them.

pub mod backoff;
pub mod clock;
pub mod fault;
pub mod lifecycle;
pub mod seal;
pub mod telemetry;
pub mod trace;
pub mod tzdata;

use std::sync::Arc;

use self::clock::DbClock;
use self::fault::Faults;
use self::lifecycle::Lifecycle;
use self::telemetry::Metrics;
use self::trace::Tracer;
use crate::bus::Bus;
use crate::bus::hint::Hinter;
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
