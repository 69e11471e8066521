//! Metrics of the monitor. Only the leader has a next wake, an epoch and a backlog to show; on a
//! standby they are absent or zero, so `max()` over all monitors is the cluster's value.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, atomic};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use reveille_shared::bus::wake::NEVER;
use reveille_shared::model::UnixMs;
use reveille_shared::runtime::clock::DbClock;
use reveille_shared::runtime::telemetry::Metrics;

use crate::watch::Reason;

type ByReason = [(&'static str, &'static str); 1];

/// Handles to the monitor's metrics.
#[derive(Clone, Debug)]
pub(crate) struct MonitorMetrics {
    next_wake: NextWake,
    leader: Gauge,
    epoch: Gauge,
    published: Family<ByReason, Counter>,
    overdue: Gauge,
    oldest_due: OldestDue,
    elections: Counter,
    rechecks: Family<ByReason, Counter>,
    pruned: Counter,
}

/// Why the workers were told something.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Published {
    /// The next instant changed.
    Next,
    /// Due runs stayed unclaimed.
    Nudge,
    /// A lease ran out.
    Lease,
}

impl MonitorMetrics {
    pub(crate) fn register(metrics: &Metrics, clock: DbClock) -> Self {
        let this = Self {
            next_wake: NextWake::default(),
            leader: Gauge::default(),
            epoch: Gauge::default(),
            published: Family::default(),
            overdue: Gauge::default(),
            oldest_due: OldestDue { at: Arc::new(AtomicI64::new(NEVER)), clock },
            elections: Counter::default(),
            rechecks: Family::default(),
            pruned: Counter::default(),
        };
        metrics.register(|registry| {
            registry.register_collector(Box::new(this.next_wake.clone()));
            registry.register_collector(Box::new(this.oldest_due.clone()));
            registry.register("monitor_leader", "1 on the elected monitor, else 0", this.leader.clone());
            registry.register(
                "monitor_epoch",
                "Term of this monitor, 0 before its first; grows with every election",
                this.epoch.clone(),
            );
            registry.register(
                "monitor_wakes_published",
                "Wakes published by this monitor, by reason (next, nudge, lease)",
                this.published.clone(),
            );
            registry.register(
                "monitor_overdue_runs",
                "Pending runs that were due when the leader last looked, counted up to 10000",
                this.overdue.clone(),
            );
            registry.register("monitor_elections", "Elections this monitor won", this.elections.clone());
            registry.register(
                "monitor_recheck",
                "Looks into the database for the next due instant, by reason",
                this.rechecks.clone(),
            );
            registry.register("monitor_pruned_rows", "Finished rows deleted by this monitor", this.pruned.clone());
        });
        this
    }

    pub(crate) fn term_begins(&self, epoch: i64) {
        self.leader.set(1);
        self.epoch.set(epoch);
        self.elections.inc();
    }

    pub(crate) fn term_ends(&self) {
        self.leader.set(0);
        self.overdue(0, None);
        self.next_wake.set(NEVER);
    }

    pub(crate) fn looked(&self, reason: Reason) {
        self.rechecks.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    pub(crate) fn published(&self, reason: Published) {
        let reason = match reason {
            Published::Next => "next",
            Published::Nudge => "nudge",
            Published::Lease => "lease",
        };
        self.published.get_or_create(&[("reason", reason)]).inc();
    }

    pub(crate) fn next_wake(&self, next_ms: UnixMs) {
        self.next_wake.set(next_ms);
    }

    /// What was due at a look, and since when.
    pub(crate) fn overdue(&self, runs: i64, oldest: Option<UnixMs>) {
        self.overdue.set(runs);
        self.oldest_due.at.store(oldest.unwrap_or(NEVER), Ordering::Relaxed);
    }

    pub(crate) fn pruned(&self, rows: u64) {
        self.pruned.inc_by(rows);
    }
}

/// The next wake as a gauge that is absent while nothing is scheduled: any number there would be read
/// as an instant by somebody's alert.
#[derive(Clone, Debug)]
struct NextWake(Arc<AtomicI64>);

impl Default for NextWake {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(NEVER)))
    }
}

impl NextWake {
    fn set(&self, next_ms: UnixMs) {
        self.0.store(next_ms, atomic::Ordering::Relaxed);
    }
}

impl Collector for NextWake {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let next_ms = self.0.load(Ordering::Relaxed);
        if next_ms >= NEVER {
            return Ok(());
        }
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date are exact in an f64")]
        let gauge = ConstGauge::new(next_ms as f64 / 1000.0);
        let help = "Unix time of the next due run, published to the workers; absent while nothing is scheduled \
                    and on monitors that do not lead.";
        let metric = encoder.encode_descriptor("monitor_next_wake_timestamp_seconds", help, None, MetricType::Gauge)?;
        gauge.encode(metric)
    }
}

/// How long the oldest due run has waited, as of the scrape: a run that nobody takes grows older between the looks,
/// and the clock is the database's, so no other machine's matters. 0 while nothing is due and on standbys.
#[derive(Clone)]
struct OldestDue {
    at: Arc<AtomicI64>,
    clock: DbClock,
}

impl fmt::Debug for OldestDue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OldestDue").field(&self.at).finish()
    }
}

impl Collector for OldestDue {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let at = self.at.load(Ordering::Relaxed);
        let age_ms = if at >= NEVER { 0 } else { self.clock.now_ms().saturating_sub(at).max(0) };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of any real age are exact in an f64")]
        let gauge = ConstGauge::new(age_ms as f64 / 1000.0);
        let help =
            "How long the oldest pending run that was due when the leader last looked has waited; 0 when none was.";
        gauge.encode(encoder.encode_descriptor("monitor_oldest_due_age_seconds", help, None, MetricType::Gauge)?)
    }
}
