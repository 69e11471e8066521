//! The bus over Redis, for roles in several processes. Each operation is one Lua script: the change of
//! the state and its publish are one step for everybody.
//!
//! Holds nothing that cannot be lost. Starts and works without a reachable Redis: commands fail within
//! 3 s, subscriptions wait. URLs and errors with credentials are never logged.
//!
//! Names, for namespace `reveille` (the braces put them into one slot of a cluster):
//! `{reveille}:wake`, the state as JSON and the channel; `{reveille}:monitor`, who leads;
//! `{reveille}:backlog`, how much is waiting and coming; `{reveille}:workers`, who is there; `{reveille}:stages`, a
//! channel for the stages of runs, used while somebody watches. Two installations on one server need two namespaces:
//! database numbers separate keys, not channels.

mod commands;
mod message;
mod patience;
mod rehearsal;
mod scripts;
mod servers;
mod subscribe;

use std::sync::Arc;
use std::time::Duration;

use ::redis::ScriptInvocation;
use async_trait::async_trait;

use self::commands::{Commands, Request};
use self::message::{BACKLOG_WANTED, STAGES_WANTED};
use self::scripts::Scripts;
use self::servers::Servers;
use self::subscribe::{Listener, StageEar, WakeEar};
use super::presence::{self, WorkerPresence};
use super::stage::{self, RunStage, StageWatch};
use super::subscription::{Subscription, channel};
use super::wake::{NEVER, WakeState, fresh_nonce, storable};
use super::{Beat, Bus, BusError, ToldBacklog};
use crate::model::UnixMs;
use crate::runtime::clock::Clock;
use crate::runtime::lifecycle::Lifecycle;

/// The wake state in Redis.
pub struct RedisBus {
    servers: Arc<Servers>,
    commands: Arc<Commands>,
    names: Names,
    scripts: Scripts,
    clock: Arc<dyn Clock>,
    lifecycle: Lifecycle,
}

/// Keys of one namespace.
#[derive(Clone)]
struct Names {
    wake: String,
    monitor: String,
    backlog: String,
    workers: String,
    stages: String,
}

impl Names {
    fn of(namespace: &str) -> Self {
        let name = |part: &str| format!("{{{namespace}}}:{part}");
        Self {
            wake: name("wake"),
            monitor: name("monitor"),
            backlog: name("backlog"),
            workers: name("workers"),
            stages: name("stages"),
        }
    }
}

impl RedisBus {
    /// A bus at `url`, as [`crate::model::redis_url`] has it: a server, Sentinels or a cluster. Does not connect yet: a role
    /// starts while Redis is down.
    ///
    /// # Errors
    /// [`BusError::BadUrl`].
    pub fn connect(url: &str, namespace: &str, clock: Arc<dyn Clock>, lifecycle: &Lifecycle) -> Result<Self, BusError> {
        Self::of(url, None, namespace, clock, lifecycle)
    }

    /// The same, trusting these certificate authorities (PEM) in place of the system's.
    ///
    /// # Errors
    /// [`BusError::BadUrl`], also when that is no PEM.
    pub fn connect_trusting(
        authorities: Vec<u8>,
        url: &str,
        namespace: &str,
        clock: Arc<dyn Clock>,
        lifecycle: &Lifecycle,
    ) -> Result<Self, BusError> {
        Self::of(url, Some(authorities), namespace, clock, lifecycle)
    }

    fn of(
        url: &str,
        authorities: Option<Vec<u8>>,
        namespace: &str,
        clock: Arc<dyn Clock>,
        lifecycle: &Lifecycle,
    ) -> Result<Self, BusError> {
        let names = Names::of(namespace);
        let servers = Arc::new(Servers::of(url, authorities, &names.wake).map_err(BusError::BadUrl)?);
        Ok(Self {
            commands: Arc::new(Commands::new(servers.clone())),
            servers,
            names,
            scripts: Scripts::new(),
            clock,
            lifecycle: lifecycle.clone(),
        })
    }

    /// Who leads at this moment, by its id: a monitor that stands by is not told apart from none.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn leader(&self) -> Result<Option<String>, BusError> {
        let mut get = ::redis::cmd("GET");
        get.arg(&self.names.monitor);
        self.commands.ask(&Request::Command(&get)).await
    }

    async fn publish(&self, channel: &str, message: &str) -> Result<(), BusError> {
        let mut publish = ::redis::cmd("PUBLISH");
        publish.arg(channel).arg(message);
        self.commands.ask(&Request::Command(&publish)).await
    }

    async fn state(&self, script: &ScriptInvocation<'_>) -> Result<Option<WakeState>, BusError> {
        let answer: Option<String> = self.commands.ask(&Request::Script(script)).await?;
        answer.as_deref().map(parse).transpose()
    }
}

#[async_trait]
impl Bus for RedisBus {
    async fn lower(&self, at: UnixMs, now: UnixMs) -> Result<WakeState, BusError> {
        let mut script = self.scripts.lower.key(&self.names.wake);
        script.arg(storable(at)).arg(storable(now)).arg(fresh_nonce());
        self.state(&script).await?.ok_or_else(no_state)
    }

    async fn mark(&self, token: &str, epoch: i64) -> Result<WakeState, BusError> {
        let mut script = self.scripts.mark.key(&self.names.wake);
        script.arg(token).arg(epoch).arg(fresh_nonce());
        self.state(&script).await?.ok_or_else(no_state)
    }

    async fn set(&self, token: &str, nonce: u64, next: Option<UnixMs>) -> Result<Option<WakeState>, BusError> {
        let mut script = self.scripts.set.key(&self.names.wake);
        script.arg(token).arg(nonce).arg(next.map_or(NEVER, storable));
        self.state(&script).await
    }

    async fn nudge(&self) -> Result<Option<WakeState>, BusError> {
        self.state(&self.scripts.nudge.key(&self.names.wake)).await
    }

    async fn beat(&self, beat: &Beat) -> Result<Option<WakeState>, BusError> {
        let mut script = self.scripts.beat.key(&self.names.wake);
        script.key(&self.names.monitor).arg(&beat.id).arg(millis(beat.ttl)).arg(beat.epoch);
        script.arg(storable(beat.db_ms)).arg(beat.seen_nonce).arg(beat.seen_seq).arg(fresh_nonce());
        self.state(&script).await
    }

    async fn elect(&self, id: &str, ttl: Duration) -> Result<bool, BusError> {
        let mut script = self.scripts.elect.key(&self.names.wake);
        script.key(&self.names.monitor).arg(id).arg(millis(ttl));
        self.commands.ask(&Request::Script(&script)).await
    }

    async fn resign(&self, id: &str) -> Result<(), BusError> {
        let mut script = self.scripts.resign.key(&self.names.wake);
        script.key(&self.names.monitor).arg(id);
        self.commands.ask(&Request::Script(&script)).await
    }

    async fn read(&self) -> Result<Option<WakeState>, BusError> {
        self.commands.read(&self.names).await
    }

    async fn backlog_tell(&self, told: &ToldBacklog, ttl: Duration) -> Result<(), BusError> {
        let text = serde_json::to_string(told).map_err(|error| BusError::Unreadable(error.to_string()))?;
        let mut set = ::redis::cmd("SET");
        set.arg(&self.names.backlog).arg(text).arg("PX").arg(millis(ttl));
        self.commands.ask(&Request::Command(&set)).await
    }

    async fn backlog_read(&self) -> Result<Option<ToldBacklog>, BusError> {
        let mut get = ::redis::cmd("GET");
        get.arg(&self.names.backlog);
        let text: Option<String> = self.commands.ask(&Request::Command(&get)).await?;
        let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
        parsed.map_err(|error| BusError::Unreadable(error.to_string()))
    }

    async fn worker_tell(&self, worker: &WorkerPresence) -> Result<(), BusError> {
        let text = serde_json::to_string(worker).map_err(|error| BusError::Unreadable(error.to_string()))?;
        let mut script = self.scripts.workers_tell.key(&self.names.workers);
        script.arg(&worker.id).arg(text).arg(millis(presence::LASTS));
        self.commands.ask(&Request::Script(&script)).await
    }

    async fn worker_gone(&self, id: &str) -> Result<(), BusError> {
        let mut delete = ::redis::cmd("HDEL");
        delete.arg(&self.names.workers).arg(id);
        self.commands.ask(&Request::Command(&delete)).await
    }

    async fn workers_read(&self) -> Result<Vec<WorkerPresence>, BusError> {
        let script = self.scripts.workers_read.key(&self.names.workers);
        let texts: Vec<String> = self.commands.ask(&Request::Script(&script)).await?;
        let mut workers: Vec<WorkerPresence> =
            texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
        workers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(workers)
    }

    async fn backlog_want(&self) -> Result<(), BusError> {
        self.publish(&self.names.wake, BACKLOG_WANTED).await
    }

    async fn stages_want(&self) -> Result<(), BusError> {
        self.publish(&self.names.wake, STAGES_WANTED).await
    }

    async fn stages_tell(&self, stages: &[RunStage]) -> Result<(), BusError> {
        let text = serde_json::to_string(stages).map_err(|error| BusError::Unreadable(error.to_string()))?;
        self.publish(&self.names.stages, &text).await
    }

    fn stages_watch(&self) -> StageWatch {
        let stop = self.lifecycle.closing().child_token();
        let feed = stage::feed();
        let watch = stage::watch(&feed, Some(stop.clone().drop_guard()));
        let ear = StageEar::new(self.names.stages.clone(), feed);
        let listener = Listener { servers: self.servers.clone(), clock: self.clock.clone(), ear };
        self.lifecycle.spawn_attendant("stage subscription", listener.run(stop));
        watch
    }

    fn subscribe(&self) -> Subscription {
        let stop = self.lifecycle.closing().child_token();
        let (feed, subscription) = channel(Some(stop.clone().drop_guard()));
        let ear = WakeEar { commands: self.commands.clone(), names: self.names.clone(), feed };
        let listener = Listener { servers: self.servers.clone(), clock: self.clock.clone(), ear };
        self.lifecycle.spawn_attendant("bus subscription", listener.run(stop));
        subscription
    }
}

impl Commands {
    async fn read(&self, names: &Names) -> Result<Option<WakeState>, BusError> {
        let mut get = ::redis::cmd("GET");
        get.arg(&names.wake);
        let text: Option<String> = self.ask(&Request::Command(&get)).await?;
        text.as_deref().map(parse).transpose()
    }
}

fn parse(text: &str) -> Result<WakeState, BusError> {
    serde_json::from_str(text).map_err(|error| BusError::Unreadable(error.to_string()))
}

fn no_state() -> BusError {
    BusError::Unreadable("the script answered nothing".to_owned())
}

/// At least 1: Redis refuses a time to live of 0.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
