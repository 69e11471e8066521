//! Tells whoever watches what becomes of this worker's runs: nothing is built, parsed or sent unless
//! somebody said within the last seconds that he watches.
//!
//! Never holds up a dispatch or a settle: a stage goes into a bounded queue, the oldest is dropped when it is
//! full, and one task sends what is there. What is lost is counted, not sent again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use reveille_shared::Context;
use reveille_shared::bus::stage::{INTEREST, RunStage, Stage};
use reveille_shared::model::run::{ClaimedRun, Exit, Outcome, OutcomeCode, RunState};
use reveille_shared::model::schedule::ClientKey;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Stages that wait to be sent, at most.
const QUEUE_MAX: usize = 4096;
/// Stages sent by one message, at most.
const BATCH_MAX: usize = 200;
/// How long the end of the process may be held up for stages that were not sent.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);

/// What a worker tells of its runs.
pub(crate) struct Stages {
    context: Context,
    /// Until when somebody watches, in milliseconds of the monotonic clock.
    wanted_until: AtomicU64,
    queue: Mutex<VecDeque<RunStage>>,
    filled: Notify,
    dropped: Counter,
}

/// The stages of one run, while somebody watches.
pub(crate) struct Told {
    stage: RunStage,
}

impl Stages {
    pub(crate) fn new(context: &Context, dropped: Counter) -> Self {
        Self {
            context: context.clone(),
            wanted_until: AtomicU64::new(0),
            queue: Mutex::default(),
            filled: Notify::new(),
            dropped,
        }
    }

    /// Somebody watches.
    pub(crate) fn wanted(&self) {
        self.wanted_until.store(self.now().saturating_add(millis(INTEREST)), Ordering::Relaxed);
    }

    /// A run was claimed; the handle tells the stages that follow. `None` while nobody watches.
    pub(crate) fn claimed(&self, run: &ClaimedRun) -> Option<Told> {
        let told = self.watched(run)?;
        self.put(told.stage.clone());
        Some(told)
    }

    /// The handle of a run that was claimed before anybody watched it.
    pub(crate) fn watched(&self, run: &ClaimedRun) -> Option<Told> {
        if !self.is_wanted() {
            return None;
        }
        let client = client_of(run);
        let stage = RunStage {
            run_id: run.id,
            schedule_id: run.schedule_id,
            application: client.application,
            group: client.group,
            attempt: run.attempt,
            stage: Stage::Claimed,
            state: RunState::Running,
            outcome: None,
            at: self.context.clock.now_ms(),
        };
        Some(Told { stage })
    }

    /// Its target is being called.
    pub(crate) fn dispatched(&self, told: Option<&Told>) {
        self.tell(told, Stage::Dispatched, RunState::Running, None);
    }

    /// Trust in its lease ran out.
    pub(crate) fn lease_lost(&self, told: Option<&Told>) {
        self.tell(told, Stage::LeaseLost, RunState::Running, Some(OutcomeCode::LeaseLost));
    }

    /// Its settlement took effect.
    pub(crate) fn settled(&self, told: Option<&Told>, exit: &Exit, state: RunState) {
        let stage = match exit {
            _ if state.is_terminal() => Stage::Settled,
            Exit::HandBack { .. } | Exit::Postpone { .. } => Stage::HandedBack,
            Exit::Retry { .. } | Exit::Finish { .. } => Stage::RetryArmed,
        };
        self.tell(told, stage, state, exit.outcome().map(|outcome: &Outcome| outcome.code));
    }

    fn tell(&self, told: Option<&Told>, stage: Stage, state: RunState, outcome: Option<OutcomeCode>) {
        if let Some(told) = told {
            let outcome = outcome.map(|code| code.as_str().to_owned());
            self.put(RunStage { stage, state, outcome, at: self.context.clock.now_ms(), ..told.stage.clone() });
        }
    }

    fn put(&self, stage: RunStage) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= QUEUE_MAX {
            queue.pop_front();
            self.dropped.inc();
        }
        queue.push_back(stage);
        drop(queue);
        self.filled.notify_one();
    }

    fn take(&self) -> Vec<RunStage> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = queue.len().min(BATCH_MAX);
        queue.drain(..count).collect()
    }

    fn now(&self) -> u64 {
        millis(self.context.clock.clock().monotonic())
    }

    fn is_wanted(&self) -> bool {
        let until = self.wanted_until.load(Ordering::Relaxed);
        until > 0 && self.now() < until
    }

    /// Sends what is told, until the process closes.
    pub(crate) async fn send(&self, closing: CancellationToken) {
        while !closing.is_cancelled() {
            tokio::select! {
                () = closing.cancelled() => {}
                () = self.filled.notified() => self.send_all().await,
            }
        }
        // Not sent in time is lost, as anything here may be.
        let _ = tokio::time::timeout(FLUSH_LIMIT, self.send_all()).await;
    }

    async fn send_all(&self) {
        loop {
            let batch = self.take();
            if batch.is_empty() {
                return;
            }
            if self.context.bus.stages_tell(&batch).await.is_err() {
                self.dropped.inc_by(batch.len().try_into().unwrap_or(u64::MAX));
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Who registered the run's schedule; nobody when that cannot be read.
fn client_of(run: &ClaimedRun) -> ClientKey {
    #[derive(Default, Deserialize)]
    struct Document {
        client: ClientKey,
    }
    let document = run.schedule.as_ref().and_then(|schedule| serde_json::from_str(&schedule.payload).ok());
    document.map(|Document { client }| client).unwrap_or_default()
}
