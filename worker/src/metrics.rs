//! What a worker counts. Registered once per worker, in the registry it is given.
//!
//! Invariant: label values come from fixed lists, so the number of series does not grow with the work.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use reveille_shared::model::task::TaskKind;
use reveille_shared::runtime::telemetry::Metrics;

/// Bounds of the lag histogram in seconds: from a prompt dispatch to an outage.
const LAG_BUCKETS: [f64; 14] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];

/// The metrics of one worker. Cloning shares them.
#[derive(Clone)]
pub(crate) struct WorkerMetrics {
    /// Claimed runs by target and by how this worker's attempt at them ended.
    runs: Family<RunLabels, Counter>,
    /// Dispatch start − `due_at`.
    pub(crate) dispatch_lag: Histogram,
    /// Dispatches more than a second late, by cause.
    pub(crate) late_runs: Family<CauseLabel, Counter>,
    pub(crate) claims: Family<ResultLabel, Counter>,
    pub(crate) settles: Family<ResultLabel, Counter>,
    pub(crate) dead_letters: Counter,
    pub(crate) wakes: Family<ReasonLabel, Counter>,
    pub(crate) slots: Gauge,
    pub(crate) slots_busy: Gauge,
    /// Runs postponed because a secret stayed sealed.
    pub(crate) secrets_unopened: Counter,
    /// 1 in degraded mode.
    pub(crate) degraded: Gauge,
    /// Endpoints that are left alone because they cannot be connected to.
    pub(crate) breaker_open: Gauge,
    /// Endpoints that answer so slowly that runs make room for others.
    pub(crate) congested: Gauge,
    /// Stages that nobody could be told of.
    pub(crate) stages_dropped: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    target: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    reason: &'static str,
}

impl WorkerMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let this = Self {
            runs: Family::default(),
            dispatch_lag: Histogram::new(LAG_BUCKETS),
            late_runs: Family::default(),
            claims: Family::default(),
            settles: Family::default(),
            dead_letters: Counter::default(),
            wakes: Family::default(),
            slots: Gauge::default(),
            slots_busy: Gauge::default(),
            secrets_unopened: Counter::default(),
            degraded: Gauge::default(),
            breaker_open: Gauge::default(),
            congested: Gauge::default(),
            stages_dropped: Counter::default(),
        };
        metrics.register(|registry| this.add_to(registry));
        this
    }

    fn add_to(&self, registry: &mut Registry) {
        registry.register("worker_runs", "Claimed runs by target and how the attempt ended", self.runs.clone());
        registry.register(
            "worker_dispatch_lag_seconds",
            "How long after its due time a dispatch began",
            self.dispatch_lag.clone(),
        );
        registry.register("worker_late_runs", "Dispatches more than a second late, by cause", self.late_runs.clone());
        registry.register("worker_claims", "Claims by what they took", self.claims.clone());
        registry.register("worker_settles", "Settlements by what became of them", self.settles.clone());
        registry.register("worker_dead_letters", "Runs given up for good and kept", self.dead_letters.clone());
        registry.register("worker_wakes", "Wake-ups that led to a claim, by reason", self.wakes.clone());
        registry.register("worker_slots", "Runs dispatched at the same time, at most", self.slots.clone());
        registry.register("worker_slots_busy", "Runs being dispatched", self.slots_busy.clone());
        registry.register(
            "worker_secrets_unopened",
            "Runs postponed because a secret is sealed under a key that this worker lacks",
            self.secrets_unopened.clone(),
        );
        registry.register(
            "worker_degraded",
            "1 while no heartbeat is heard and the database is checked instead",
            self.degraded.clone(),
        );
        registry.register(
            "worker_breaker_open",
            "Endpoints that are left alone because they cannot be connected to",
            self.breaker_open.clone(),
        );
        registry.register(
            "worker_targets_congested",
            "Endpoints that answer so slowly that runs which call them make room for others",
            self.congested.clone(),
        );
        registry.register(
            "worker_stages_dropped",
            "Stages of runs that somebody watched and that were dropped",
            self.stages_dropped.clone(),
        );
    }

    /// Counts a run that was dispatched to a target of this kind, or ended without a dispatch.
    pub(crate) fn count_run(&self, target: Option<TaskKind>, outcome: &'static str) {
        let target = match target {
            Some(TaskKind::Rest) => "rest",
            Some(TaskKind::Kafka) => "kafka",
            Some(TaskKind::Redis) => "redis",
            None => "none",
        };
        self.runs.get_or_create(&RunLabels { target, outcome }).inc();
    }

    pub(crate) fn count_late(&self, cause: &'static str) {
        self.late_runs.get_or_create(&CauseLabel { cause }).inc();
    }

    pub(crate) fn count_claim(&self, result: &'static str) {
        self.claims.get_or_create(&ResultLabel { result }).inc();
    }

    pub(crate) fn count_settles(&self, result: &'static str, settlements: usize) {
        let settlements = u64::try_from(settlements).unwrap_or(u64::MAX);
        self.settles.get_or_create(&ResultLabel { result }).inc_by(settlements);
    }

    pub(crate) fn count_wake(&self, reason: &'static str) {
        self.wakes.get_or_create(&ReasonLabel { reason }).inc();
    }
}
