//! One namespace with everything a worker needs: a SQLite file, an in-process bus, a receiver. Workers
//! are started on it, each with a lifecycle and metrics of its own, as in processes of their own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reveille_shared::Context;
use reveille_shared::bus::Bus;
use reveille_shared::bus::hint::Hinter;
use reveille_shared::bus::local::LocalBus;
use reveille_shared::model::run::RunState;
use reveille_shared::model::schedule::Definition;
use reveille_shared::model::timing::Timing;
use reveille_shared::model::{ScheduleId, UnixMs};
use reveille_shared::runtime::clock::{Clock, DbClock, SystemClock};
use reveille_shared::runtime::fault::Faults;
use reveille_shared::runtime::lifecycle::Lifecycle;
use reveille_shared::runtime::telemetry::Metrics;
use reveille_shared::runtime::trace::Tracer;
use reveille_shared::store::sqlite::SqliteStore;
use reveille_shared::store::{AttemptRow, InjectedNow, Registration, RunRow, Store, StoreSettings};
use reveille_testkit::{Receiver, eventually, eventually_some};
use reveille_worker::Settings;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::unreliable::Unreliable;

/// Longer than anything takes that a test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) struct Fixture {
    pub(crate) store: Arc<Unreliable>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) receiver: Receiver,
    path: PathBuf,
    _directory: TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::on(Arc::new(LocalBus::new())).await
    }

    pub(crate) async fn on(bus: Arc<dyn Bus>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reveille.db");
        let store = SqliteStore::open(path.to_str().unwrap(), StoreSettings::default()).await.unwrap();
        store.migrate().await.unwrap();
        let store = Arc::new(Unreliable::new(Arc::new(store)));
        Self { store, bus, receiver: Receiver::start().await, path, _directory: directory }
    }

    /// The same database, seen by somebody whose clock is ahead.
    pub(crate) async fn store_ahead(&self, by: Duration) -> SqliteStore {
        let ahead = self.store.ping().await.unwrap() + i64::try_from(by.as_millis()).unwrap();
        let settings = StoreSettings { injected_now: Some(InjectedNow::new(ahead)), ..StoreSettings::default() };
        SqliteStore::open(self.path.to_str().unwrap(), settings).await.unwrap()
    }

    /// Starts a worker.
    pub(crate) fn worker(&self, settings: Settings) -> Worker {
        self.worker_on(Arc::new(SystemClock::new()), settings)
    }

    /// Starts a worker that lives by this clock.
    pub(crate) fn worker_on(&self, clock: Arc<dyn Clock>, settings: Settings) -> Worker {
        reveille_worker::install_tls();
        let lifecycle = Lifecycle::new();
        let context = Context {
            store: self.store.clone(),
            bus: self.bus.clone(),
            hints: Hinter::spawn(self.bus.clone(), clock.clone(), &lifecycle),
            clock: DbClock::new(clock),
            metrics: Metrics::new(),
            tracer: Tracer::off(),
            lifecycle: lifecycle.clone(),
            faults: Faults::none(),
        };
        lifecycle.spawn("worker", reveille_worker::run(context.clone(), settings));
        Worker { context }
    }

    /// A document that calls `path` of the receiver; `task` adds to its task.
    pub(crate) fn document(&self, kind: &str, schedule: &str, path: &str, task: Value) -> Value {
        let mut document = json!({
            "name": path,
            "client": {"key": Uuid::new_v4().to_string()},
            "type": kind,
            "schedule": schedule,
            "timezone": "UTC",
            "task": {"type": "rest", "connection": {"host": self.receiver.url(path)}, "retry_wait": 0},
        });
        merge(&mut document["task"], task);
        document
    }

    /// Registers documents as the API does: upsert, then hint.
    pub(crate) async fn register(&self, documents: &[Value]) -> Vec<ScheduleId> {
        let now = self.store.ping().await.unwrap();
        let registrations: Vec<_> = documents.iter().map(|document| registration(&document.to_string(), now)).collect();
        self.store_and_hint(&registrations).await
    }

    pub(crate) async fn store_and_hint(&self, registrations: &[Registration]) -> Vec<ScheduleId> {
        let upserted = self.store.schedule_upsert(registrations).await.unwrap();
        if let Some(armed) = upserted.armed_min {
            // The key still holds the instant before, which is over: only a monitor moves it on.
            self.recheck().await;
            self.bus.lower(armed, 0).await.unwrap();
        }
        upserted.schedules.iter().map(|schedule| schedule.id).collect()
    }

    /// Does what a monitor does after a due instant: tells what is due next.
    pub(crate) async fn recheck(&self) {
        let marked = self.bus.mark("monitor", 1).await.unwrap();
        let reading = self.store.wake_read().await.unwrap();
        self.bus.set("monitor", marked.nonce, reading.next_due).await.unwrap();
    }

    /// Registers a document that is due at once.
    pub(crate) async fn register_now(&self, path: &str, task: Value) -> ScheduleId {
        self.register(&[self.document("now", "", path, task)]).await[0]
    }

    /// The runs of a schedule, newest first.
    pub(crate) async fn runs(&self, schedule: ScheduleId) -> Vec<RunRow> {
        self.store.run_list(schedule, None, 100).await.unwrap()
    }

    /// The only run of a schedule, once it is in this state, and the attempts kept of it.
    pub(crate) async fn run_in(&self, schedule: ScheduleId, state: RunState) -> (RunRow, Vec<AttemptRow>) {
        let what = format!("the run is {}", state.as_str());
        let run = eventually_some(LONG, &what, || async {
            let runs = self.runs(schedule).await;
            assert_eq!(runs.len(), 1, "{runs:?}");
            runs.into_iter().find(|run| run.state == state)
        });
        self.store.run_get(run.await.id).await.unwrap().unwrap()
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// What the API makes of a document that it accepted.
pub(crate) fn registration(document: &str, now: UnixMs) -> Registration {
    let definition: Definition = serde_json::from_str(document).unwrap();
    let timing = Timing::parse(definition.kind, &definition.schedule, &definition.timezone).unwrap();
    let payload = serde_json::to_string(&definition).unwrap();
    Registration {
        id: Uuid::now_v7(),
        client: definition.client,
        name: definition.name,
        fingerprint: payload.clone(),
        payload,
        queue: definition.queue,
        priority: definition.priority,
        arming: timing.arming(now).unwrap(),
        run_id: Uuid::now_v7(),
        history_check: definition.task.history_check,
    }
}

/// A worker in a process of its own, as far as it can tell.
pub(crate) struct Worker {
    pub(crate) context: Context,
}

impl Worker {
    /// The sum of a metric's series whose labels contain `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let text = self.context.metrics.render();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.filter_map(|line| line.rsplit_once(' '));
        let named = series.filter(|(series, _)| {
            let (metric, labels) = series.split_once('{').unwrap_or((series, ""));
            metric == format!("reveille_{name}") && labels.contains(label)
        });
        named.map(|(_, value)| value.parse::<f64>().unwrap()).sum()
    }

    /// Waits until a metric has reached `value`.
    pub(crate) async fn metric_reaches(&self, name: &str, label: &str, value: f64) {
        let what = format!("{name}{{{label}}} reaches {value}");
        eventually(LONG, &what, || async { self.metric(name, label) >= value }).await;
    }

    /// Stops it and waits for its end.
    pub(crate) async fn stop(&self) {
        self.context.lifecycle.stop();
        tokio::time::timeout(LONG, self.context.lifecycle.drained()).await.unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.context.lifecycle.abort();
    }
}

/// Settings of a small worker with a lease too long to matter.
pub(crate) fn settings() -> Settings {
    Settings { concurrency: 8, ..Settings::default() }
}
