//! The bus: hints about when to look into the store, never the truth. One wake state per namespace,
//! published whole every time; see [`wake`] for its rules, [`waiter`] for the side that listens, [`redis`]
//! and [`local`] for the two carriers, [`hint`] for telling them after a commit, [`stage`] for watching runs,
//! [`presence`] for who is there.
//!
//! Everything here may be lost, repeated or late at the cost of lateness only.

pub mod hint;
pub mod local;
pub mod presence;
pub mod redis;
pub mod stage;
mod subscription;
pub mod waiter;
pub mod wake;

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use self::presence::WorkerPresence;
use self::stage::{RunStage, StageWatch};
pub use self::subscription::Subscription;
use self::wake::WakeState;
use crate::model::UnixMs;
use crate::store::Backlog;

/// The carrier of the wake state.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// `LOWER`: something is due at `at`. Called after the commit that made it so. Creates a missing
    /// key with a fresh nonce. Publishes only when the next instant became earlier, or has passed and `at` is
    /// soon; `now` is a moment that the database's clock has shown, 0 when the caller knows none.
    async fn lower(&self, at: UnixMs, now: UnixMs) -> Result<WakeState, BusError>;

    /// `MARK`: the monitor `token` is about to read the database; remembers it and forgets what was
    /// lowered before. Creates a missing key. Answers the state after it.
    async fn mark(&self, token: &str, epoch: i64) -> Result<WakeState, BusError>;

    /// `SET`: the monitor `token` read `next` (the least due instant, `None` when nothing is
    /// scheduled). Refused (`Ok(None)`) when the key, its nonce or its mark are not those of `nonce` and
    /// `token`: mark and read again. Publishes only a change.
    async fn set(&self, token: &str, nonce: u64, next: Option<UnixMs>) -> Result<Option<WakeState>, BusError>;

    /// Asks every worker to claim now, because due runs stay unclaimed. `next` stays what it is: were it kept
    /// in the past for a run that nobody takes (a queue without a worker, workers without a free slot), every
    /// LOWER of a run that somebody would take had to be published beside it, or would be silent.
    async fn nudge(&self) -> Result<Option<WakeState>, BusError>;

    /// `BEAT`: renews the leadership of `id` if it still holds it, and repeats the state as a heartbeat
    /// without a new seq, with `db_ms` as the database's clock of this moment. `None`: lost it.
    /// A key that went missing or back is recreated with a new nonce and above `seen_seq`.
    async fn beat(&self, beat: &Beat) -> Result<Option<WakeState>, BusError>;

    /// Stands for monitor: true when `id` leads now.
    async fn elect(&self, id: &str, ttl: Duration) -> Result<bool, BusError>;

    /// Gives leadership up and says so, if `id` holds it.
    async fn resign(&self, id: &str) -> Result<(), BusError>;

    /// The state, `None` when there is none.
    async fn read(&self) -> Result<Option<WakeState>, BusError>;

    /// Tells everybody how much is waiting and coming, for as long as `ttl`: the leading monitor knows, whoever
    /// is asked answers.
    async fn backlog_tell(&self, told: &ToldBacklog, ttl: Duration) -> Result<(), BusError>;

    /// What was told last; `None` when that is too long ago.
    async fn backlog_read(&self) -> Result<Option<ToldBacklog>, BusError>;

    /// Asks the leading monitor to tell it again: counted anew where it may be another by now.
    async fn backlog_want(&self) -> Result<(), BusError>;

    /// Tells that a worker is there, good for [`presence::LASTS`].
    async fn worker_tell(&self, worker: &WorkerPresence) -> Result<(), BusError>;

    /// Tells that a worker went.
    async fn worker_gone(&self, id: &str) -> Result<(), BusError>;

    /// The workers that are there, by name. What another version told and this one cannot read is left out.
    async fn workers_read(&self) -> Result<Vec<WorkerPresence>, BusError>;

    /// Tells every worker that somebody watches stages; good for [`stage::INTEREST`].
    async fn stages_want(&self) -> Result<(), BusError>;

    /// Tells whoever watches of stages. Nobody watching is no error.
    async fn stages_tell(&self, stages: &[RunStage]) -> Result<(), BusError>;

    /// Watches stages for as long as the watch lives. Reconnects for ever by itself.
    fn stages_watch(&self) -> StageWatch;

    /// Listens for as long as the subscription lives. Reconnects for ever by itself.
    fn subscribe(&self) -> Subscription;
}

/// The backlog, as the leading monitor told it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldBacklog {
    /// The counts.
    #[serde(flatten)]
    pub backlog: Backlog,
    /// Another one with each telling: who asked knows the answer by it. 0 from versions that do not answer.
    #[serde(default)]
    pub number: u64,
    /// How long ago it was known to hold, when it was told.
    #[serde(default)]
    pub age_ms: u64,
}

/// A monitor's heartbeat.
#[derive(Clone, Debug)]
pub struct Beat {
    /// The monitor's process id (random, not the operating system's).
    pub id: String,
    /// Its term.
    pub epoch: i64,
    /// How long leadership lasts without a further beat.
    pub ttl: Duration,
    /// The database's clock at this moment, as the monitor estimates it.
    pub db_ms: UnixMs,
    /// The nonce the monitor knows.
    pub seen_nonce: u64,
    /// The highest seq it has seen under that nonce.
    pub seen_seq: u64,
}

/// What a subscriber hears.
#[derive(Clone, Debug, PartialEq)]
pub enum BusEvent {
    /// The subscription is acknowledged, at start and after every reconnect; then the key was read.
    /// What was published before is unknown: look into the store once.
    Connected(Option<WakeState>),
    /// A state was published because it changed.
    Wake(WakeState),
    /// The monitor sees due runs that nobody claims: claim now, whatever instant the state names.
    Nudge(WakeState),
    /// Something is due at this instant, beside what the state names, which has passed: claim at it as well.
    Soon(UnixMs),
    /// The monitor repeated the state; carries a fresh `db_ms`.
    Heartbeat(WakeState),
    /// The monitor gave up leadership: stand at once.
    Resigned,
    /// Somebody watches stages. Says nothing about what is due.
    StagesWanted,
    /// Somebody asks how much is waiting and coming: the leading monitor answers.
    BacklogWanted,
    /// The connection is gone; `Connected` follows when it is back.
    Disconnected,
}

/// The bus did not do it. Nothing is lost by that but time.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Redis cannot be reached or refused.
    #[error("redis unavailable")]
    Unavailable(#[source] ::redis::RedisError),
    /// The configured address is not one of a Redis server.
    #[error("not a redis url")]
    BadUrl(#[source] ::redis::RedisError),
    /// Redis answered something that is not a wake state.
    #[error("unreadable wake state: {0}")]
    Unreadable(String),
}
