//! The bus inside one process: `reveille serve` without Redis. The same transitions as the Redis
//! scripts, executed under a lock instead of by the server.
//!
//! Never fails and never disconnects. Leadership has no time limit here: who shares this bus dies with it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::presence::WorkerPresence;
use super::stage::{self, RunStage, StageFeed, StageNews, StageWatch};
use super::subscription::{Feed, Subscription, channel};
use super::wake::{self, Publish, WakeState, fresh_nonce};
use super::{Beat, Bus, BusError, BusEvent, ToldBacklog};
use crate::model::UnixMs;

/// The wake state of one process.
pub struct LocalBus {
    inner: Mutex<Inner>,
    stages: StageFeed,
}

impl Default for LocalBus {
    fn default() -> Self {
        Self { inner: Mutex::default(), stages: stage::feed() }
    }
}

#[derive(Default)]
struct Inner {
    key: Option<WakeState>,
    leader: Option<String>,
    feeds: Vec<Feed>,
    backlog: Option<ToldBacklog>,
    /// Those of this process: they end with it.
    workers: BTreeMap<String, WorkerPresence>,
}

impl LocalBus {
    /// A bus without a state, a leader or a subscriber.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn lower(&self, at: UnixMs, now: UnixMs) -> Result<WakeState, BusError> {
        let mut inner = self.lock();
        let lowered = wake::lower(inner.key.as_ref(), at, now, fresh_nonce());
        Ok(inner.apply(lowered))
    }

    async fn mark(&self, token: &str, epoch: i64) -> Result<WakeState, BusError> {
        let mut inner = self.lock();
        let state = wake::mark(inner.key.as_ref(), token, epoch, fresh_nonce());
        inner.key = Some(state.clone());
        Ok(state)
    }

    async fn set(&self, token: &str, nonce: u64, next: Option<UnixMs>) -> Result<Option<WakeState>, BusError> {
        let mut inner = self.lock();
        let outcome = wake::set(inner.key.as_ref(), token, nonce, next);
        Ok(outcome.map(|set| inner.apply(set)))
    }

    async fn nudge(&self) -> Result<Option<WakeState>, BusError> {
        let mut inner = self.lock();
        let Some(state) = wake::nudge(inner.key.as_ref()) else { return Ok(None) };
        inner.key = Some(state.clone());
        inner.publish(&BusEvent::Nudge(state.clone()));
        Ok(Some(state))
    }

    async fn beat(&self, beat: &Beat) -> Result<Option<WakeState>, BusError> {
        let mut inner = self.lock();
        if inner.leader.as_deref() != Some(&beat.id) {
            return Ok(None);
        }
        let state = wake::beat(inner.key.as_ref(), beat, fresh_nonce());
        inner.key = Some(state.clone());
        inner.publish(&BusEvent::Heartbeat(state.clone()));
        Ok(Some(state))
    }

    async fn elect(&self, id: &str, _ttl: Duration) -> Result<bool, BusError> {
        let mut inner = self.lock();
        Ok(inner.leader.get_or_insert_with(|| id.to_owned()) == id)
    }

    async fn resign(&self, id: &str) -> Result<(), BusError> {
        let mut inner = self.lock();
        if inner.leader.as_deref() == Some(id) {
            inner.leader = None;
            inner.publish(&BusEvent::Resigned);
        }
        Ok(())
    }

    async fn read(&self) -> Result<Option<WakeState>, BusError> {
        Ok(self.lock().key.clone())
    }

    async fn backlog_tell(&self, told: &ToldBacklog, _ttl: Duration) -> Result<(), BusError> {
        self.lock().backlog = Some(*told);
        Ok(())
    }

    async fn backlog_read(&self) -> Result<Option<ToldBacklog>, BusError> {
        Ok(self.lock().backlog)
    }

    async fn worker_tell(&self, worker: &WorkerPresence) -> Result<(), BusError> {
        self.lock().workers.insert(worker.id.clone(), worker.clone());
        Ok(())
    }

    async fn worker_gone(&self, id: &str) -> Result<(), BusError> {
        self.lock().workers.remove(id);
        Ok(())
    }

    async fn workers_read(&self) -> Result<Vec<WorkerPresence>, BusError> {
        Ok(self.lock().workers.values().cloned().collect())
    }

    async fn backlog_want(&self) -> Result<(), BusError> {
        self.lock().publish(&BusEvent::BacklogWanted);
        Ok(())
    }

    async fn stages_want(&self) -> Result<(), BusError> {
        self.lock().publish(&BusEvent::StagesWanted);
        Ok(())
    }

    async fn stages_tell(&self, stages: &[RunStage]) -> Result<(), BusError> {
        // An error says that nobody watches.
        let _ = self.stages.send(StageNews::Told(stages.into()));
        Ok(())
    }

    fn stages_watch(&self) -> StageWatch {
        stage::watch(&self.stages, None)
    }

    fn subscribe(&self) -> Subscription {
        let (feed, subscription) = channel(None);
        let mut inner = self.lock();
        // Under the lock nothing is published between the read and the first event.
        feed.put(BusEvent::Connected(inner.key.clone()));
        inner.feeds.push(feed);
        subscription
    }
}

impl Inner {
    fn apply(&mut self, transition: wake::Transition) -> WakeState {
        let wake::Transition { state, publish } = transition;
        self.key = Some(state.clone());
        match publish {
            Publish::Nothing => {}
            Publish::State => self.publish(&BusEvent::Wake(state.clone())),
            Publish::Soon(at) => self.publish(&BusEvent::Soon(at)),
        }
        state
    }

    fn publish(&mut self, event: &BusEvent) {
        self.feeds.retain(|feed| feed.put(event.clone()));
    }
}
