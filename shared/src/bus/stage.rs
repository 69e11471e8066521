//! Stages of runs on their way, for whoever watches: hints like everything on the bus, never the truth. They
//! may be lost, repeated or late; what became of a run stands in the store.
//!
//! ```text
//!   watcher ──▶ Bus::stages_want, every few seconds ──▶ workers: somebody watches for the next 15 s
//!   watcher ◀── Bus::stages_watch ◀── Bus::stages_tell ◀── workers, only while somebody watches
//! ```
//!
//! Nobody watching costs nothing: no message, no subscription. Stages carry no payload, no host and no header.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio_util::sync::DropGuard;

use crate::model::run::RunState;
use crate::model::{RunId, ScheduleId, UnixMs};

/// How long a worker tells stages after it last heard that somebody watches.
pub const INTEREST: Duration = Duration::from_secs(15);
/// How often whoever watches says so: three times within [`INTEREST`], so that one may be lost.
pub const INTEREST_EVERY: Duration = Duration::from_secs(5);

/// Batches a watcher may be behind before it loses the oldest.
const BEHIND_MAX: usize = 256;

/// A stage that a run reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStage {
    /// The run.
    pub run_id: RunId,
    /// Its schedule.
    pub schedule_id: ScheduleId,
    /// The application that registered it: who is limited to one sees no other's.
    pub application: String,
    /// Its group.
    pub group: String,
    /// The attempt this belongs to, 1 for the first.
    pub attempt: i32,
    /// What happened.
    pub stage: Stage,
    /// The run's state after it.
    pub state: RunState,
    /// Word of the outcome, where there is one.
    pub outcome: Option<String>,
    /// When, by the worker's estimate of the database's clock.
    pub at: UnixMs,
}

/// What happened to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A worker holds it.
    Claimed,
    /// Its target is being called.
    Dispatched,
    /// It failed and waits for another attempt.
    RetryArmed,
    /// It was given back to be claimed again.
    HandedBack,
    /// Trust in its lease ran out, it comes back.
    LeaseLost,
    /// It ended.
    Settled,
}

/// What a watcher hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageNews {
    /// Stages, in the order one worker reached them.
    Told(Arc<[RunStage]>),
    /// Some were lost: the bus was away, or this watcher too slow.
    Gap,
}

/// The receiving end of [`super::Bus::stages_watch`]. Dropping the last of those that came from one ends it.
pub struct StageWatch {
    receiver: broadcast::Receiver<StageNews>,
    guard: Option<Arc<DropGuard>>,
}

impl StageWatch {
    /// What comes next; `None` when the bus is gone for good. Cancel safe.
    pub async fn recv(&mut self) -> Option<StageNews> {
        match self.receiver.recv().await {
            Ok(news) => Some(news),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(StageNews::Gap),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// Another watcher on the same subscription, which hears what comes from now on.
    pub fn another(&self) -> Self {
        Self { receiver: self.receiver.resubscribe(), guard: self.guard.clone() }
    }
}

/// The sending end.
pub(super) type StageFeed = broadcast::Sender<StageNews>;

/// A sending end that nobody listens to yet.
pub(super) fn feed() -> StageFeed {
    broadcast::Sender::new(BEHIND_MAX)
}

/// A receiving end. `guard` is dropped with the last of those that came from it.
pub(super) fn watch(feed: &StageFeed, guard: Option<DropGuard>) -> StageWatch {
    StageWatch { receiver: feed.subscribe(), guard: guard.map(Arc::new) }
}
