//! What breaks beneath the API: the caller gets an answer all the same, and the next one is served.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::StatusCode;
use reveille_api::Settings;
use reveille_shared::bus::local::LocalBus;
use reveille_shared::bus::presence::WorkerPresence;
use reveille_shared::bus::stage::{RunStage, StageWatch};
use reveille_shared::bus::wake::WakeState;
use reveille_shared::bus::{Beat, Bus, BusError, Subscription, ToldBacklog};
use reveille_shared::model::UnixMs;

use crate::support::{Answer, Api, document};

/// How reading the wake state goes wrong.
#[derive(Clone, Copy)]
enum Trouble {
    Panics,
    Hangs,
    Fails,
}

struct TroubledBus {
    trouble: Trouble,
    sound: LocalBus,
}

#[async_trait]
impl Bus for TroubledBus {
    async fn lower(&self, at: UnixMs, now: UnixMs) -> Result<WakeState, BusError> {
        self.sound.lower(at, now).await
    }
    async fn mark(&self, token: &str, epoch: i64) -> Result<WakeState, BusError> {
        self.sound.mark(token, epoch).await
    }
    async fn set(&self, token: &str, nonce: u64, next: Option<UnixMs>) -> Result<Option<WakeState>, BusError> {
        self.sound.set(token, nonce, next).await
    }
    async fn nudge(&self) -> Result<Option<WakeState>, BusError> {
        self.sound.nudge().await
    }
    async fn beat(&self, beat: &Beat) -> Result<Option<WakeState>, BusError> {
        self.sound.beat(beat).await
    }
    async fn elect(&self, id: &str, ttl: Duration) -> Result<bool, BusError> {
        self.sound.elect(id, ttl).await
    }
    async fn resign(&self, id: &str) -> Result<(), BusError> {
        self.sound.resign(id).await
    }
    async fn read(&self) -> Result<Option<WakeState>, BusError> {
        match self.trouble {
            Trouble::Panics => panic!("as the test wants it"),
            Trouble::Hangs => std::future::pending().await,
            Trouble::Fails => Err(BusError::Unreadable("as the test wants it".to_owned())),
        }
    }
    async fn backlog_tell(&self, told: &ToldBacklog, ttl: Duration) -> Result<(), BusError> {
        self.sound.backlog_tell(told, ttl).await
    }
    async fn backlog_read(&self) -> Result<Option<ToldBacklog>, BusError> {
        self.sound.backlog_read().await
    }
    async fn worker_tell(&self, worker: &WorkerPresence) -> Result<(), BusError> {
        self.sound.worker_tell(worker).await
    }
    async fn worker_gone(&self, id: &str) -> Result<(), BusError> {
        self.sound.worker_gone(id).await
    }
    async fn workers_read(&self) -> Result<Vec<WorkerPresence>, BusError> {
        self.sound.workers_read().await
    }
    async fn backlog_want(&self) -> Result<(), BusError> {
        self.sound.backlog_want().await
    }
    async fn stages_want(&self) -> Result<(), BusError> {
        self.sound.stages_want().await
    }

    async fn stages_tell(&self, stages: &[RunStage]) -> Result<(), BusError> {
        self.sound.stages_tell(stages).await
    }

    fn stages_watch(&self) -> StageWatch {
        self.sound.stages_watch()
    }

    fn subscribe(&self) -> Subscription {
        self.sound.subscribe()
    }
}

/// Asks for the wake state of an API on such a bus, then registers.
async fn wake(trouble: Trouble) -> Answer {
    let mut settings = Settings::default();
    if matches!(trouble, Trouble::Hangs) {
        settings.request_timeout = Duration::from_secs(2); // registering below has as long
    }
    let api = Api::start_with(settings, Arc::new(TroubledBus { trouble, sound: LocalBus::new() })).await;
    let answer = api.get("/wake").await;
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.json["status"], answer.status.as_u16());
    api.register(&document("1", "cron", "@daily")).await;
    answer
}

#[tokio::test]
async fn a_panic_is_an_internal_error_that_tells_nothing() {
    let answer = wake(Trouble::Panics).await;
    assert_eq!((answer.status, &answer.json["code"]), (StatusCode::INTERNAL_SERVER_ERROR, &"internal".into()));
    assert!(!answer.json.to_string().contains("as the test wants it"));
}

#[tokio::test]
async fn what_hangs_is_given_up() {
    let answer = wake(Trouble::Hangs).await;
    assert_eq!((answer.status, &answer.json["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"timeout".into()));
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_bus_that_cannot_be_read_is_unavailable() {
    let answer = wake(Trouble::Fails).await;
    assert_eq!((answer.status, &answer.json["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"bus_unavailable".into()));
}

#[tokio::test]
async fn without_a_database_every_call_is_unavailable() {
    let api = Api::start().await;
    let id = api.register(&document("1", "cron", "@daily")).await;
    api.store.close().await;
    let cron = document("2", "cron", "@daily");
    let none = serde_json::Value::Null;
    let calls = [
        ("GET", "/schedules".to_owned(), &none),
        ("GET", format!("/schedules/{id}"), &none),
        ("GET", format!("/schedules/{id}/runs"), &none),
        ("GET", format!("/runs/{id}"), &none),
        ("DELETE", format!("/schedules/{id}"), &none),
        ("DELETE", "/schedules?application=chef".to_owned(), &none),
        ("POST", "/schedules".to_owned(), &cron),
        ("POST", format!("/schedules/{id}/update"), &cron),
        ("POST", format!("/schedules/{id}/pause"), &none),
        ("POST", format!("/schedules/{id}/resume"), &none),
        ("POST", format!("/schedules/{id}/trigger"), &none),
    ];
    for (method, path, body) in calls {
        let answer = api.call(method.parse().unwrap(), &path, body.to_string()).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{method} {path}: {}", answer.json);
        assert_eq!(answer.json["code"], "database_unavailable", "{method} {path}");
        assert!(answer.headers.contains_key("retry-after"), "{method} {path}");
    }
    assert_eq!(api.get("/wake").await.status, StatusCode::OK);
}
