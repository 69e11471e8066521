//! A small cluster inside the test: real stores, real Redis, monitors as tasks that can be stopped,
//! killed and looked at.

use std::sync::Arc;
use std::time::Duration;

use reveille_monitor::Settings;
use reveille_shared::Context;
use reveille_shared::bus::Bus;
use reveille_shared::bus::hint::Hinter;
use reveille_shared::bus::local::LocalBus;
use reveille_shared::bus::redis::RedisBus;
use reveille_shared::model::UnixMs;
use reveille_shared::model::run::{Exit, Outcome, OutcomeCode, RunState, Settlement};
use reveille_shared::model::schedule::{ClientKey, DEFAULT_QUEUE};
use reveille_shared::model::timing::{ArmAt, Arming, OnUnchanged};
use reveille_shared::runtime::clock::{DbClock, SystemClock};
use reveille_shared::runtime::fault::{FaultAction, Faults};
use reveille_shared::runtime::lifecycle::Lifecycle;
use reveille_shared::runtime::telemetry::Metrics;
use reveille_shared::runtime::trace::Tracer;
use reveille_shared::store::{self, Claim, Registration, Store, StoreSettings};
use reveille_testkit::{Postgres, Redis, eventually, eventually_some, scratch_dir};
use uuid::Uuid;

/// Long enough for a busy machine, and only a failing test waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Three times as quick as in production, except for the recheck, which no test may lean on by accident.
pub(crate) fn brisk() -> Settings {
    Settings { recheck: Duration::from_secs(600), beat: Duration::from_millis(500), ttl: Duration::from_millis(2_000) }
}

/// One monitor as a task of this process.
pub(crate) struct Node {
    context: Context,
}

impl Node {
    pub(crate) fn start(store: &Arc<dyn Store>, bus: &Arc<dyn Bus>, lifecycle: Lifecycle, settings: Settings) -> Self {
        let clock = Arc::new(SystemClock::new());
        let context = Context {
            store: store.clone(),
            bus: bus.clone(),
            hints: Hinter::spawn(bus.clone(), clock.clone(), &lifecycle),
            clock: DbClock::new(clock),
            metrics: Metrics::new(),
            tracer: Tracer::off(),
            lifecycle: lifecycle.clone(),
            faults: Faults::none(),
        };
        lifecycle.spawn("monitor", reveille_monitor::run(context.clone(), settings));
        Self { context }
    }

    /// Its metrics are the one place where it shows what it does.
    pub(crate) fn metric(&self, sample: &str) -> Option<f64> {
        let text = self.context.metrics.render();
        let line =
            text.lines().find_map(|line| line.strip_prefix("reveille_")?.strip_prefix(sample)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    pub(crate) fn bus(&self) -> &Arc<dyn Bus> {
        &self.context.bus
    }

    pub(crate) fn leads(&self) -> bool {
        self.metric("monitor_leader") == Some(1.0)
    }

    pub(crate) async fn wait_leads(&self) {
        eventually(PATIENCE, "the monitor leads and has looked", || async {
            self.leads() && self.metric("monitor_recheck_total{reason=\"election\"}") == Some(1.0)
        })
        .await;
    }

    /// Makes it hang after its next mark, as a stopped or killed process would, with the key still held.
    pub(crate) fn freeze_at_next_look(&self) {
        self.context.faults.arm("monitor.marked", FaultAction::Hang);
    }

    /// As on SIGTERM.
    pub(crate) async fn stop(&self) {
        self.context.lifecycle.stop();
        self.context.lifecycle.drained().await;
    }
}

/// A bus over Redis and the lifecycle its connections live in, as one process has them.
pub(crate) fn redis_bus(redis: &Redis, namespace: &str) -> (Arc<dyn Bus>, Lifecycle) {
    let lifecycle = Lifecycle::new();
    let clock = Arc::new(SystemClock::new());
    let bus = RedisBus::connect(&redis.url(), namespace, clock, &lifecycle).unwrap();
    (Arc::new(bus), lifecycle)
}

pub(crate) fn local_bus() -> (Arc<dyn Bus>, Lifecycle) {
    (Arc::new(LocalBus::new()), Lifecycle::new())
}

pub(crate) async fn postgres() -> Arc<dyn Store> {
    open(&Postgres::shared().await.fresh_database().await, StoreSettings::default()).await
}

pub(crate) async fn sqlite() -> Arc<dyn Store> {
    open(&sqlite_url(), StoreSettings::default()).await
}

pub(crate) fn sqlite_url() -> String {
    format!("sqlite:{}", scratch_dir("monitor").join("reveille.db").display())
}

pub(crate) async fn open(url: &str, settings: StoreSettings) -> Arc<dyn Store> {
    let store = store::open(url, StoreSettings { connections: 4, ..settings }).await.unwrap();
    store.migrate().await.unwrap();
    store
}

/// Registers a one-shot that is due at `at`, without a hint. Answers its run.
pub(crate) async fn register(store: &Arc<dyn Store>, key: &str, at: UnixMs) -> Uuid {
    let run_id = Uuid::now_v7();
    let registration = Registration {
        id: Uuid::now_v7(),
        client: ClientKey { key: key.to_owned(), ..ClientKey::default() },
        name: key.to_owned(),
        payload: "{}".to_owned(),
        fingerprint: key.to_owned(),
        queue: DEFAULT_QUEUE.to_owned(),
        priority: 0,
        arming: Arming { at: ArmAt::At(at), calendar: false, unchanged: OnUnchanged::Rearm },
        run_id,
        history_check: false,
    };
    store.schedule_upsert(&[registration]).await.unwrap();
    run_id
}

/// Takes what is due, as a worker does, and holds it for `lease`.
pub(crate) async fn claim(store: &Arc<dyn Store>, lease: Duration) -> Vec<(Uuid, i64)> {
    let queues = vec![DEFAULT_QUEUE.to_owned()];
    let claim = Claim { limit: 5_000, owner: "test".to_owned(), lease, queues };
    let claimed = store.run_claim(&claim).await.unwrap();
    claimed.runs.iter().map(|run| (run.id, run.lease_token)).collect()
}

pub(crate) async fn finish(store: &Arc<dyn Store>, held: &[(Uuid, i64)]) {
    let settlements: Vec<Settlement> = held
        .iter()
        .map(|(run_id, lease_token)| Settlement {
            run_id: *run_id,
            lease_token: *lease_token,
            exit: Exit::Finish {
                state: RunState::Succeeded,
                outcome: Outcome::new(OutcomeCode::Ok, "200"),
                successor: None,
                coalesced: 0,
                skipped: 0,
                pauses: false,
            },
            attempt: None,
        })
        .collect();
    store.run_settle(&settlements).await.unwrap();
}

/// The instant the wake state shows, once it shows `expected`.
pub(crate) async fn wait_next(bus: &Arc<dyn Bus>, expected: Option<UnixMs>) {
    eventually_some(PATIENCE, &format!("the next wake is {expected:?}"), || async {
        let state = bus.read().await.unwrap()?;
        (state.next() == expected).then_some(())
    })
    .await;
}
