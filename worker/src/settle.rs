//! Settles in batches: one task, one statement at a time, in the order the attempts ended. A single
//! settlement goes at once; under load they are gathered, so that a statement serves hundreds of runs.
//!
//! Invariant: commit, then hint; and a hint goes to this worker's own waiting before it goes to the bus.
//! While settlements fail the worker claims nothing, see [`Unsettled`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reveille_shared::model::UnixMs;
use reveille_shared::model::run::{RunState, Settlement};
use reveille_shared::runtime::Context;
use reveille_shared::runtime::trace::Span;
use reveille_shared::store::{SettleResult, Settled, StoreError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics::WorkerMetrics;
use crate::stages::{Stages, Told};
use reveille_shared::runtime::backoff::Backoff;

/// Settlements sent by one statement, at most.
const BATCH_LIMIT: usize = 500;

/// How long settlements are gathered after a statement: within this time the worker is not idle.
const GATHER: Duration = Duration::from_millis(5);

/// How long a batch is tried while the database is away: longer than a failover takes. The end of the
/// lease is no reason to give up, the token fences off who took the run over meanwhile; and while the
/// database is away nobody does, so giving up would turn an outage into calls made twice.
const PATIENCE: Duration = Duration::from_secs(300);

/// A settlement on its way: the span that ends when it is settled, and who is to be told when it took effect.
pub(crate) struct Queued {
    pub(crate) settlement: Settlement,
    pub(crate) span: Span,
    pub(crate) told: Option<Told>,
}

/// Whether outcomes cannot be recorded at the moment. Who claimed then would take over its own runs, whose
/// leases end meanwhile, and make calls again that it knows to be done; and would hold what others can do.
#[derive(Clone, Default)]
pub(crate) struct Unsettled(Arc<AtomicBool>);

impl Unsettled {
    pub(crate) fn is_failing(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Answers whether it was set.
    fn clear(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// The settling task of a worker.
pub(crate) struct Settler {
    pub(crate) context: Context,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) stages: Arc<Stages>,
    pub(crate) queue: mpsc::Receiver<Queued>,
    /// Tells the worker's own waiting what became due.
    pub(crate) armed: mpsc::UnboundedSender<UnixMs>,
    pub(crate) unsettled: Unsettled,
}

impl Settler {
    /// Settles until the queue is closed and empty, or `ended`.
    pub(crate) async fn run(mut self, ended: CancellationToken) {
        tokio::select! {
            () = ended.cancelled() => {
                tracing::warn!("settlements were given up at shutdown, their runs come back by their leases");
            }
            () = self.settle_all() => {}
        }
    }

    async fn settle_all(&mut self) {
        let mut idle_at = Duration::ZERO;
        while let Some(first) = self.queue.recv().await {
            let gathered = self.gather(first, idle_at).await;
            let mut batch = Vec::with_capacity(gathered.len());
            let (mut spans, mut told) = (Vec::with_capacity(gathered.len()), Vec::with_capacity(gathered.len()));
            for queued in gathered {
                batch.push(queued.settlement);
                spans.push(queued.span);
                told.push(queued.told);
            }
            self.settle(&batch, &told).await;
            drop(spans);
            // Not before: what ended meanwhile waits in the queue, and its leases may be over as well.
            if self.queue.is_empty() {
                self.claim_again();
            }
            idle_at = self.now() + GATHER;
        }
    }

    fn now(&self) -> Duration {
        self.context.clock.clock().monotonic()
    }

    async fn gather(&mut self, first: Queued, idle_at: Duration) -> Vec<Queued> {
        let mut batch = vec![first];
        let idle = self.context.clock.clock().sleep_until(idle_at);
        tokio::pin!(idle);
        while batch.len() < BATCH_LIMIT {
            tokio::select! {
                biased;
                next = self.queue.recv() => match next {
                    Some(queued) => batch.push(queued),
                    None => break,
                },
                () = &mut idle => break,
            }
        }
        batch
    }

    /// `told` has an entry per settlement.
    async fn settle(&self, batch: &[Settlement], told: &[Option<Told>]) {
        self.context.faults.pass("worker.settling").await;
        if self.settle_patiently(batch, told).await.is_ok() {
            return;
        }
        // Refused for good: one of them is at fault, and must not take the others with it.
        for (settlement, told) in batch.iter().zip(told) {
            let alone = self.settle_patiently(std::slice::from_ref(settlement), std::slice::from_ref(told));
            if let Err(error) = alone.await {
                let error: &dyn std::error::Error = &error;
                tracing::error!(run.id = %settlement.run_id, error, "settlement was refused, the run comes back by its lease");
                self.metrics.count_settles("refused", 1);
            }
        }
    }

    /// Lets the worker claim again if settlements failed. It looks at once: what a commit in doubt armed was told
    /// to nobody.
    fn claim_again(&self) {
        if self.unsettled.clear() {
            // The worker may have ended its waiting by now.
            let _ = self.armed.send(self.context.clock.now_ms());
        }
    }

    /// Sends the batch until the database took it. A commit in doubt is sent again as well: the store
    /// recognises its own token.
    ///
    /// # Errors
    /// What the database refused for good.
    async fn settle_patiently(&self, batch: &[Settlement], told: &[Option<Told>]) -> Result<(), StoreError> {
        let give_up_at = self.now() + PATIENCE;
        let mut backoff = Backoff::new();
        let mut failing = false;
        loop {
            let sent_at = self.now();
            match self.context.store.run_settle(batch).await {
                Ok(settled) => {
                    if failing {
                        tracing::info!("runs are settled again");
                    }
                    self.settled(batch, told, &settled, sent_at).await;
                    return Ok(());
                }
                Err(error @ StoreError::Unavailable(_)) => {
                    if self.now() >= give_up_at {
                        tracing::error!(
                            runs = batch.len(),
                            "settlements are given up, their runs come back by their leases"
                        );
                        self.metrics.count_settles("dropped", batch.len());
                        return Ok(());
                    }
                    if !failing {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(error, runs = batch.len(), "runs cannot be settled, trying again");
                    }
                    failing = true;
                    self.unsettled.set();
                    self.context.clock.clock().sleep(backoff.pause()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn settled(&self, batch: &[Settlement], told: &[Option<Told>], settled: &Settled, sent_at: Duration) {
        self.context.faults.pass("worker.settled").await;
        self.context.clock.learn(settled.now, sent_at);
        if let Some(armed) = settled.armed_min {
            // The worker may have ended its waiting by now; then nobody needs to know.
            let _ = self.armed.send(armed);
            self.context.hints.hint(armed, settled.now);
        }
        let mut done = 0;
        for ((settlement, told), result) in batch.iter().zip(told).zip(&settled.results) {
            match result {
                SettleResult::Done(state) => {
                    done += 1;
                    self.stages.settled(told.as_ref(), &settlement.exit, *state);
                    if *state == RunState::Dead {
                        self.metrics.dead_letters.inc();
                        tracing::warn!(run.id = %settlement.run_id, "run is kept as a dead letter");
                    }
                }
                SettleResult::Stale => {
                    tracing::info!(run.id = %settlement.run_id, "settlement is void, another worker has the run");
                }
            }
        }
        self.metrics.count_settles("done", done);
        self.metrics.count_settles("stale", batch.len() - done);
    }
}
