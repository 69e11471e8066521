//! What a process says about itself over HTTP: `/livez`, `/readyz`, `/metrics`. Answers from memory; a
//! probe costs the database nothing while it serves. Holds no data of users, so it needs no token.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use reveille_shared::bus::{Bus, BusError, ToldBacklog};
use reveille_shared::model::zone::rules;
use reveille_shared::runtime::clock::Clock;
use reveille_shared::runtime::lifecycle::Lifecycle;
use reveille_shared::runtime::telemetry::Metrics;
use reveille_shared::store::Store;
use tokio::sync::Mutex;

use crate::{exposition, telemetry};

/// A database that failed for longer than this makes a process unready.
const FAILING: Duration = Duration::from_secs(3);

/// How long a probe waits for a database that failed, to hear whether it serves again.
const PROBE_LIMIT: Duration = Duration::from_millis(800);

/// How long a backlog that the leader told is answered with before it is asked again.
const BACKLOG_FRESH: Duration = Duration::from_secs(2);

/// How long the leader may take to answer, and how often the bus is looked at for it meanwhile. Scalers wait for three
/// seconds.
const BACKLOG_LIMIT: Duration = Duration::from_secs(1);
const BACKLOG_LOOK: Duration = Duration::from_millis(20);

/// What the probes answer by. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Health {
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    lifecycle: Lifecycle,
    /// The store, once the schema is there and the database was reached.
    store: Arc<OnceLock<Arc<dyn Store>>>,
    /// Where the backlog is read, on a monitor.
    bus: Arc<OnceLock<Arc<dyn Bus>>>,
    /// Until when what was told need not be asked for again. Who holds it asks for all who wait for it.
    backlog_until: Arc<Mutex<Duration>>,
}

impl Health {
    pub(crate) fn new(metrics: Metrics, clock: Arc<dyn Clock>, lifecycle: Lifecycle) -> Self {
        Self { metrics, clock, lifecycle, store: Arc::default(), bus: Arc::default(), backlog_until: Arc::default() }
    }

    /// The schema is there and the database was reached once.
    pub(crate) fn set_ready(&self, store: Arc<dyn Store>) {
        // Set twice: the first stays.
        let _ = self.store.set(store);
    }

    /// The store, once there is one.
    pub(crate) fn store(&self) -> Option<&Arc<dyn Store>> {
        self.store.get()
    }

    /// This process is a monitor: it answers how much is waiting and coming.
    pub(crate) fn set_bus(&self, bus: Arc<dyn Bus>) {
        // Set twice: the first stays.
        let _ = self.bus.set(bus);
    }

    /// The routes.
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/backlog", get(backlog))
            .with_state(self.clone())
    }
}

/// Fails when a loop no longer turns: only a restart helps then. A database or a Redis that is away is no
/// reason, a restart would not bring it back.
async fn livez(State(health): State<Health>) -> impl IntoResponse {
    let silent = health.metrics.silent(health.clock.monotonic());
    if silent.is_empty() || health.lifecycle.stopping().is_cancelled() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("no sign of life from: {}\n", silent.join(", ")))
}

/// Whether requests should come here.
async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    if health.lifecycle.stopping().is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    let Some(store) = health.store.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "waiting for the database\n");
    };
    if store.failing_for().is_some_and(|failing_for| failing_for > FAILING) {
        // Nobody else may ask while no requests come here.
        let answer = tokio::time::timeout(PROBE_LIMIT, store.probe()).await;
        if !matches!(answer, Ok(Ok(()))) {
            return (StatusCode::SERVICE_UNAVAILABLE, "the database does not serve\n");
        }
    }
    (StatusCode::OK, "ready\n")
}

/// In the text format of Prometheus, or in OpenMetrics for who asks for it.
async fn metrics(State(health): State<Health>, headers: HeaderMap) -> impl IntoResponse {
    let accepts: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let open_metrics = health.metrics.render();
    let (kind, text) = match exposition::wants_open_metrics(&accepts.join(",")) {
        true => (exposition::OPEN_METRICS, open_metrics),
        false => (exposition::TEXT, exposition::as_text(&open_metrics)),
    };
    ([(CONTENT_TYPE, kind), (VARY, "Accept")], text)
}

/// How much is waiting and coming, as the leading monitor knows it: any monitor answers, two seconds behind at most, and
/// the leader asks the database for it only where it may have changed. 503 while nobody knows: a scaler then leaves
/// things as they are, where a zero would take the workers away.
async fn backlog(State(health): State<Health>) -> Response {
    let Some(bus) = health.bus.get() else { return StatusCode::NOT_FOUND.into_response() };
    let mut until = health.backlog_until.lock().await;
    match told(bus.as_ref(), health.clock.as_ref(), &mut until).await {
        Ok(Some(told)) => Json(told.backlog).into_response(),
        Ok(None) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "not known\n").into_response(),
    }
}

/// What the leader told, asked for again after `until`. A leader that does not answer in time (it is of an older version,
/// or its database is away) told the last that is known.
async fn told(bus: &dyn Bus, clock: &dyn Clock, until: &mut Duration) -> Result<Option<ToldBacklog>, BusError> {
    let Some(known) = bus.backlog_read().await? else { return Ok(None) };
    if clock.monotonic() < *until {
        return Ok(Some(known));
    }
    bus.backlog_want().await?;
    let asked_at = clock.monotonic();
    while clock.monotonic() < asked_at + BACKLOG_LIMIT {
        if let Some(told) = bus.backlog_read().await?.filter(|told| told.number != known.number) {
            let left = BACKLOG_FRESH.saturating_sub(Duration::from_millis(told.age_ms));
            *until = asked_at + left;
            return Ok(Some(told));
        }
        clock.sleep(BACKLOG_LOOK).await;
    }
    // Who waited behind this one must not wait as long again.
    *until = clock.monotonic() + BACKLOG_LIMIT;
    Ok(Some(known))
}

/// Metrics of the process as a whole.
pub(crate) fn register(metrics: &Metrics, role: &'static str, store: Arc<dyn Store>) {
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    metrics.register(|registry| {
        registry.register("build", "Version of this process", build);
        registry.register_collector(Box::new(Statements { role, store }));
        registry.register_collector(Box::new(LogLines));
        registry.register_collector(Box::new(ZoneRules));
    });
}

/// The rules of time zones this process has at the moment.
#[derive(Debug)]
struct ZoneRules;

impl Collector for ZoneRules {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(i64::from(rules::current().version().number()));
        let help = "Version of the rules of time zones that this process has: 202606 is 2026f.";
        gauge.encode(encoder.encode_descriptor("zone_rules_version", help, None, MetricType::Gauge)?)
    }
}

/// Lines of the log that nobody took.
#[derive(Debug)]
struct LogLines;

impl Collector for LogLines {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let counter = ConstCounter::new(telemetry::dropped());
        let help = "Lines of the log that could not be written.";
        counter.encode(encoder.encode_descriptor("log_lines_dropped", help, None, MetricType::Counter)?)
    }
}

/// Statements as the store counts them.
struct Statements {
    role: &'static str,
    store: Arc<dyn Store>,
}

impl std::fmt::Debug for Statements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Statements").field("role", &self.role).finish_non_exhaustive()
    }
}

impl Collector for Statements {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let counter = ConstCounter::new(self.store.statements());
        let help = "Statements sent to the database by this process.";
        let mut metric = encoder.encode_descriptor("store_statements", help, None, MetricType::Counter)?;
        counter.encode(metric.encode_family(&[("role", self.role)])?)
    }
}
