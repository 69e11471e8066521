//! Settles in batches: one task, one statement at a time, in the order the attempts ended. A single
//! settlement goes at once; under load they are gathered, so that a statement serves hundreds of runs.
//!
//! Invariant: commit, then hint; and a hint goes to this worker's own waiting before it goes to the bus.
//! While settlements fail the worker claims nothing, see [`Unsettled`]. What cannot be settled because somebody holds a
//! row of it waits for its turn by itself, under its lease, and the others do not wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reveille_shared::Context;
use reveille_shared::model::UnixMs;
use reveille_shared::model::run::{RunState, Settlement};
use reveille_shared::runtime::telemetry::Pulse;
use reveille_shared::runtime::trace::Span;
use reveille_shared::store::{SettleResult, Settled, StoreError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::TURNS_EVERY;
use crate::metrics::WorkerMetrics;
use crate::renew::{Claimed, LeaseGuard, Leases};
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

/// First and longest pause until what others hold is tried again.
const HELD_FIRST: Duration = Duration::from_millis(10);
const HELD_LONGEST: Duration = Duration::from_millis(320);

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
    pub(crate) leases: Arc<Leases>,
    /// Settlements whose run or schedule somebody else holds.
    pub(crate) held: Held,
    /// That this task still turns.
    pub(crate) pulse: Pulse,
}

/// What is held by others, to be settled later.
#[derive(Default)]
pub(crate) struct Held {
    settlements: Vec<Queued>,
    /// Their leases, and since when they wait.
    leases: HashMap<Claimed, (Duration, LeaseGuard)>,
    /// When they are tried again.
    again_at: Duration,
    pause: Duration,
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
        let mut is_open = true;
        while is_open || !self.held.settlements.is_empty() {
            self.pulse.beat(self.now());
            let again = self.context.clock.clock().sleep_until(self.held.again_at);
            tokio::select! {
                biased;
                first = self.queue.recv(), if is_open => match first {
                    Some(first) => {
                        let gathered = self.gather(first, idle_at).await;
                        self.settle(gathered).await;
                        // Not before: what ended meanwhile waits in the queue, and its leases may be over as well.
                        if self.queue.is_empty() {
                            self.claim_again();
                        }
                        idle_at = self.now() + GATHER;
                    }
                    None => is_open = false,
                },
                () = again, if !self.held.settlements.is_empty() => {
                    let held = std::mem::take(&mut self.held.settlements);
                    self.settle(held).await;
                }
                () = self.context.clock.clock().sleep(TURNS_EVERY) => {}
            }
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

    async fn settle(&mut self, gathered: Vec<Queued>) {
        self.context.faults.pass("worker.settling").await;
        let (batch, rest): (Vec<Settlement>, Vec<(Span, Option<Told>)>) =
            gathered.into_iter().map(|queued| (queued.settlement, (queued.span, queued.told))).unzip();
        let told: Vec<Option<&Told>> = rest.iter().map(|(_, told)| told.as_ref()).collect();
        let results = match self.settle_patiently(&batch, &told).await {
            Ok(results) => results,
            // Refused for good: one of them is at fault, and must not take the others with it.
            Err(_) => self.settle_each(&batch, &told).await,
        };
        let (mut was_held, mut are_held) = (false, false);
        for ((settlement, (span, told)), result) in batch.into_iter().zip(rest).zip(results) {
            if result == SettleResult::Held && self.keep_lease(&settlement) {
                self.held.settlements.push(Queued { settlement, span, told });
                are_held = true;
            } else {
                was_held |= self.held.leases.remove(&(settlement.run_id, settlement.lease_token)).is_some();
            }
        }
        if are_held {
            self.held.pause = if was_held { HELD_FIRST } else { (self.held.pause * 2).clamp(HELD_FIRST, HELD_LONGEST) };
            self.held.again_at = self.now() + self.held.pause;
        }
    }

    /// Keeps the lease of a call that was made and cannot be settled yet, so that nobody makes it again. Answers whether
    /// it is worth it any longer.
    fn keep_lease(&mut self, settlement: &Settlement) -> bool {
        let (now, claimed) = (self.now(), (settlement.run_id, settlement.lease_token));
        let leases = &self.leases;
        let (since, _) = self.held.leases.entry(claimed).or_insert_with(|| {
            tracing::info!(run.id = %settlement.run_id, "somebody holds the run or its schedule locked, its settlement waits");
            (now, leases.hold_called(claimed, now, now + PATIENCE))
        });
        let is_worth_it = now < *since + PATIENCE;
        if !is_worth_it {
            tracing::error!(run.id = %settlement.run_id, "a settlement is given up, its run comes back by its lease");
            self.metrics.count_settles("dropped", 1);
        }
        is_worth_it
    }

    async fn settle_each(&self, batch: &[Settlement], told: &[Option<&Told>]) -> Vec<SettleResult> {
        let mut results = Vec::with_capacity(batch.len());
        for (settlement, told) in batch.iter().zip(told) {
            let alone = self.settle_patiently(std::slice::from_ref(settlement), std::slice::from_ref(told));
            results.extend(alone.await.unwrap_or_else(|error| {
                let error: &dyn std::error::Error = &error;
                tracing::error!(run.id = %settlement.run_id, error, "settlement was refused, the run comes back by its lease");
                self.metrics.count_settles("refused", 1);
                vec![SettleResult::Stale]
            }));
        }
        results
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
    /// recognises its own token. `told` has an entry per settlement.
    ///
    /// # Errors
    /// What the database refused for good.
    async fn settle_patiently(
        &self,
        batch: &[Settlement],
        told: &[Option<&Told>],
    ) -> Result<Vec<SettleResult>, StoreError> {
        let give_up_at = self.now() + PATIENCE;
        let mut backoff = Backoff::new();
        let mut failing = false;
        loop {
            let sent_at = self.now();
            self.pulse.beat(sent_at);
            match self.context.store.run_settle(batch).await {
                Ok(settled) => {
                    if failing {
                        tracing::info!("runs are settled again");
                    }
                    self.settled(batch, told, &settled, sent_at).await;
                    return Ok(settled.results);
                }
                Err(error @ StoreError::Unavailable(_)) => {
                    if self.now() >= give_up_at {
                        tracing::error!(
                            runs = batch.len(),
                            "settlements are given up, their runs come back by their leases"
                        );
                        self.metrics.count_settles("dropped", batch.len());
                        return Ok(vec![SettleResult::Stale; batch.len()]);
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

    async fn settled(&self, batch: &[Settlement], told: &[Option<&Told>], settled: &Settled, sent_at: Duration) {
        self.context.faults.pass("worker.settled").await;
        self.context.clock.learn(settled.now, sent_at);
        if let Some(armed) = settled.armed_min {
            // The worker may have ended its waiting by now; then nobody needs to know.
            let _ = self.armed.send(armed);
            self.context.hints.hint(armed, settled.now);
        }
        let (mut done, mut stale) = (0, 0);
        for ((settlement, told), result) in batch.iter().zip(told).zip(&settled.results) {
            match result {
                SettleResult::Done(state) => {
                    done += 1;
                    self.stages.settled(*told, &settlement.exit, *state);
                    if *state == RunState::Dead {
                        self.metrics.dead_letters.inc();
                        tracing::warn!(run.id = %settlement.run_id, "run is kept as a dead letter");
                    }
                }
                SettleResult::Held => {}
                SettleResult::Stale => {
                    stale += 1;
                    tracing::info!(run.id = %settlement.run_id, "settlement is void, another worker has the run");
                }
            }
        }
        self.metrics.count_settles("done", done);
        self.metrics.count_settles("stale", stale);
        self.metrics.count_settles("held", batch.len() - done - stale);
    }
}
