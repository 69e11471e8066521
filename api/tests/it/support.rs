//! One API with a store and a clock of its own, called without a socket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use reveille_api::{Settings, router};
use reveille_shared::Context;
use reveille_shared::bus::Bus;
use reveille_shared::bus::hint::Hinter;
use reveille_shared::bus::local::LocalBus;
use reveille_shared::model::lateness::LateCause;
use reveille_shared::model::run::{
    AttemptRecord, ClaimedRun, Exit, Outcome, OutcomeCode, RunState, Settlement, Successor,
};
use reveille_shared::model::secret::SecretHeaders;
use reveille_shared::runtime::clock::{Clock, DbClock, TestClock};
use reveille_shared::runtime::fault::Faults;
use reveille_shared::runtime::lifecycle::Lifecycle;
use reveille_shared::runtime::seal::Sealer;
use reveille_shared::runtime::telemetry::Metrics;
use reveille_shared::runtime::trace::Tracer;
use reveille_shared::store::{Claim, InjectedNow, Store, StoreSettings};
use reveille_testkit::Postgres;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::described;

/// 2027-01-15T08:00:00Z, a whole minute.
pub(crate) const START: i64 = 1_800_000_000_000;

/// A secret key.
pub(crate) const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// Seals under the first of these keys; `X-Token` is secret, too.
pub(crate) fn sealer(keys: &[&str]) -> Sealer {
    let names = SecretHeaders::default().and(["X-Token".to_owned()]);
    Sealer::new(keys.iter().map(|key| key.parse().unwrap()).collect(), names)
}

pub(crate) struct Api {
    router: Router,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) faults: Faults,
    pub(crate) metrics: Metrics,
    pub(crate) context: Context,
    clock: TestClock,
    pub(crate) now: InjectedNow,
    pub(crate) lifecycle: Lifecycle,
    _folder: Option<TempDir>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_with(Settings { sealer: sealer(&[KEY]), ..Settings::default() }, Arc::new(LocalBus::new())).await
    }

    pub(crate) async fn start_with(settings: Settings, bus: Arc<dyn Bus>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("api.db").display());
        Self { _folder: Some(folder), ..Self::start_at(&url, settings, bus).await }
    }

    pub(crate) async fn start_on_postgres() -> Self {
        let url = Postgres::shared().await.fresh_database().await;
        Self::start_at(&url, Settings::default(), Arc::new(LocalBus::new())).await
    }

    async fn start_at(url: &str, settings: Settings, bus: Arc<dyn Bus>) -> Self {
        let now = InjectedNow::new(START);
        let store_settings = StoreSettings { injected_now: Some(now.clone()), ..StoreSettings::default() };
        let store = reveille_shared::store::open(url, store_settings).await.unwrap();
        store.migrate().await.unwrap();
        Self::over(store, now, settings, bus)
    }

    /// An API of other settings on the same store.
    pub(crate) fn beside(&self, settings: Settings) -> Self {
        Self::over(self.store.clone(), self.now.clone(), settings, self.bus.clone())
    }

    fn over(store: Arc<dyn Store>, now: InjectedNow, settings: Settings, bus: Arc<dyn Bus>) -> Self {
        let clock = TestClock::new();
        let shared_clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let db_clock = DbClock::new(shared_clock.clone()); // knows nothing yet, as in a process that only serves the API
        let (lifecycle, faults, metrics) = (Lifecycle::new(), Faults::none(), Metrics::new());
        let context = Context {
            store: store.clone(),
            hints: Hinter::spawn(bus.clone(), shared_clock, &lifecycle),
            bus: bus.clone(),
            clock: db_clock,
            metrics: metrics.clone(),
            tracer: Tracer::off(),
            lifecycle: lifecycle.clone(),
            faults: faults.clone(),
        };
        Self {
            router: router(context.clone(), settings),
            context,
            store,
            bus,
            faults,
            metrics,
            clock,
            now,
            lifecycle,
            _folder: None,
        }
    }

    /// Time passes, for the database and for the process alike.
    pub(crate) fn pass(&self, duration: Duration) {
        self.clock.advance(duration);
        self.now.advance(i64::try_from(duration.as_millis()).unwrap());
    }

    /// Serves it on a socket; answers the address.
    pub(crate) async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = self.router.clone();
        self.lifecycle.spawn("test server", async move { axum::serve(listener, router).await.unwrap() });
        address
    }

    /// An answer whose body is still to be read.
    pub(crate) async fn begin(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.begin(request).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        described::check(&method, &path, status, &headers, &json);
        Answer { status, headers, json }
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: impl Into<Body>) -> Answer {
        self.send(Request::builder().method(method).uri(path).body(body.into()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, Body::empty()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, body.to_string()).await
    }

    /// Registers and answers the id.
    pub(crate) async fn register(&self, document: &Value) -> String {
        let answer = self.post("/schedules", document).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        answer.json["id"].as_str().unwrap().to_owned()
    }

    /// The document as it is shown.
    pub(crate) async fn shown(&self, id: &str) -> Value {
        let answer = self.get(&format!("/schedules/{id}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        answer.json[0].clone()
    }

    /// Claims all that is due.
    pub(crate) async fn claim(&self) -> Vec<ClaimedRun> {
        let claim = Claim {
            limit: 100,
            owner: "test".to_owned(),
            lease: Duration::from_secs(30),
            queues: vec!["default".to_owned()],
        };
        self.store.run_claim(&claim).await.unwrap().runs
    }

    /// Settles a claimed run.
    pub(crate) async fn settle(&self, run: &ClaimedRun, exit: Exit) {
        let attempt = AttemptRecord {
            attempt: run.attempt,
            started_at: START,
            ended_at: START,
            worker: "test".to_owned(),
            woken_at: Some(START),
            first_byte_at: Some(START),
            late_cause: Some(LateCause::SlotsBusy),
        };
        let settlement = Settlement { run_id: run.id, lease_token: run.lease_token, exit, attempt: Some(attempt) };
        self.store.run_settle(&[settlement]).await.unwrap();
    }
}

pub(crate) fn finish(state: RunState, code: OutcomeCode, successor: Option<Successor>) -> Exit {
    Exit::Finish {
        state,
        outcome: Outcome::new(code, "as the test says"),
        successor,
        coalesced: 0,
        skipped: 0,
        pauses: false,
    }
}

/// A valid document; tests change what they are about.
pub(crate) fn document(key: &str, kind: &str, schedule: &str) -> Value {
    json!({
        "name": "bbb",
        "client": {"operation": "op#1", "application": "chef", "group": "system", "key": key, "type": "scheduler"},
        "type": kind,
        "schedule": schedule,
        "task": {"type": "rest", "connection": {"host": "http://localhost:3000/run"}, "data": {"a": 1}}
    })
}
