//! Leases of the calls in flight: how long each may be trusted, and their renewal in batches.
//!
//! Trust is counted on the monotonic clock from the moment the claim or renewal was *sent*, so it ends
//! before the lease does whatever the database or the network took; see [`Leases::trusted_from`].
//! Ordinary calls end before a third of the lease and cost nothing here; with no call in flight there is
//! no timer and no statement.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reveille_shared::Context;
use reveille_shared::model::RunId;
use reveille_shared::model::run::ClaimedRun;
use reveille_shared::runtime::clock::Clock;
use reveille_shared::store::{Renewal, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use reveille_shared::runtime::backoff::Backoff;

/// How long before the end of a lease its holder stops trusting it; for a lease of a few seconds, a fifth.
const TRUST_MARGIN: Duration = Duration::from_secs(2);

/// Leases renewed by one statement, at most.
const RENEWAL_LIMIT: usize = 500;

/// A claim of a run: the token tells two claims of the same run apart.
pub(crate) type Claimed = (RunId, i64);

/// The leases of the calls in flight.
pub(crate) struct Leases {
    lease: Duration,
    table: Mutex<Table>,
    /// A call came while no renewal was ahead.
    filled: Notify,
}

#[derive(Default)]
struct Table {
    held: HashMap<Claimed, Held>,
    /// Whether the renewal sleeps without a timer, and has to be told of the next call.
    is_parked: bool,
}

struct Held {
    trust: Arc<Trust>,
    /// When the claim, or the last renewal that worked, was sent.
    sent_at: Duration,
    /// When the attempt has ended for certain. One that is stuck must not keep its run for ever.
    wanted_until: Duration,
}

/// How long one lease may be trusted.
#[derive(Default)]
pub(crate) struct Trust {
    /// Monotonic, in milliseconds.
    until_ms: AtomicU64,
    revoked: Notify,
}

impl Trust {
    fn until(&self) -> Duration {
        Duration::from_millis(self.until_ms.load(Ordering::Acquire))
    }

    fn extend(&self, until: Duration) {
        self.until_ms.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn revoke(&self) {
        self.until_ms.store(0, Ordering::Release);
        self.revoked.notify_one();
    }

    /// Whether the lease may be trusted at this moment.
    pub(crate) fn holds(&self, now: Duration) -> bool {
        now < self.until()
    }

    /// Ends when the lease may no longer be trusted.
    pub(crate) async fn lost(&self, clock: &dyn Clock) {
        while self.holds(clock.monotonic()) {
            tokio::select! {
                () = clock.sleep_until(self.until()) => {}
                () = self.revoked.notified() => {}
            }
        }
    }
}

/// A lease in use; dropping it, also by a panic, ends its renewal.
pub(crate) struct LeaseGuard {
    leases: Arc<Leases>,
    claimed: Claimed,
    /// How long the lease may be trusted.
    pub(crate) trust: Arc<Trust>,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.leases.lock().held.remove(&self.claimed);
    }
}

impl Leases {
    pub(crate) fn new(lease: Duration) -> Arc<Self> {
        Arc::new(Self { lease, table: Mutex::default(), filled: Notify::new() })
    }

    /// Until when a lease may be trusted whose claim or renewal was sent at `sent_at`.
    pub(crate) fn trusted_from(&self, sent_at: Duration) -> Duration {
        sent_at + self.lease - TRUST_MARGIN.min(self.lease / 5)
    }

    /// Begins to look after the lease of a run that was claimed by a statement sent at `sent_at`; renews it
    /// until `wanted_until` at most.
    pub(crate) fn hold(self: &Arc<Self>, run: &ClaimedRun, sent_at: Duration, wanted_until: Duration) -> LeaseGuard {
        self.insert((run.id, run.lease_token), sent_at, wanted_until)
    }

    fn insert(self: &Arc<Self>, claimed: Claimed, sent_at: Duration, wanted_until: Duration) -> LeaseGuard {
        let trust = Arc::new(Trust::default());
        trust.extend(self.trusted_from(sent_at));
        let mut table = self.lock();
        table.held.insert(claimed, Held { trust: trust.clone(), sent_at, wanted_until });
        if std::mem::take(&mut table.is_parked) {
            self.filled.notify_one();
        }
        drop(table);
        LeaseGuard { leases: self.clone(), claimed, trust }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When this lease is to be renewed next, if it still is.
    fn renewal_of(&self, held: &Held) -> Option<Duration> {
        let at = held.sent_at + self.lease / 3;
        (at < held.wanted_until).then_some(at)
    }

    /// When a lease is to be renewed next; `None` when none is: wait for `filled` then.
    fn next_renewal(&self) -> Option<Duration> {
        let mut table = self.lock();
        let next = table.held.values().filter_map(|held| self.renewal_of(held)).min();
        table.is_parked = next.is_none();
        next
    }

    /// Up to a statement's worth of leases that are due for renewal at `now`.
    fn due(&self, now: Duration) -> Vec<Claimed> {
        let table = self.lock();
        let due = table.held.iter().filter(|(_, held)| self.renewal_of(held).is_some_and(|at| at <= now));
        due.map(|(claimed, _)| *claimed).take(RENEWAL_LIMIT).collect()
    }

    /// Begins to look after the lease of a run that was called, and whose settlement has to wait, until `wanted_until`
    /// at most. When it was renewed last is not known any more, so that is done at once.
    pub(crate) fn hold_called(self: &Arc<Self>, claimed: Claimed, now: Duration, wanted_until: Duration) -> LeaseGuard {
        self.insert(claimed, now.saturating_sub(self.lease / 3), wanted_until)
    }

    /// Takes over the answers to a renewal sent at `sent_at`; answers how many leases were lost.
    fn renewed(&self, asked: &[Claimed], renewals: &[Renewal], sent_at: Duration) -> usize {
        let trusted_until = self.trusted_from(sent_at);
        let mut lost = 0;
        let mut table = self.lock();
        for (claimed, renewal) in asked.iter().zip(renewals) {
            // A call that ended meanwhile is settled by now, which ends its lease as well.
            let Some(entry) = table.held.get_mut(claimed) else { continue };
            match renewal {
                Renewal::Done => {
                    entry.sent_at = sent_at;
                    entry.trust.extend(trusted_until);
                }
                Renewal::Lost => {
                    entry.sent_at = sent_at;
                    entry.trust.revoke();
                    lost += 1;
                }
                // It is trusted no longer than before, and asked for again.
                Renewal::Held => {}
            }
        }
        lost
    }
}

/// Renews what is held until `ended`.
pub(crate) async fn renew_leases(context: Context, leases: Arc<Leases>, ended: CancellationToken) {
    let mut renewer = Renewer { context, leases, backoff: Backoff::new(), not_before: Duration::ZERO, failing: false };
    tokio::select! {
        () = ended.cancelled() => {}
        () = renewer.run() => {}
    }
}

struct Renewer {
    context: Context,
    leases: Arc<Leases>,
    backoff: Backoff,
    not_before: Duration,
    failing: bool,
}

impl Renewer {
    async fn run(&mut self) {
        loop {
            match self.leases.next_renewal() {
                None => self.leases.filled.notified().await,
                Some(at) => {
                    self.context.clock.clock().sleep_until(at.max(self.not_before)).await;
                    self.renew().await;
                }
            }
        }
    }

    async fn renew(&mut self) {
        loop {
            let sent_at = self.context.clock.clock().monotonic();
            let due = self.leases.due(sent_at);
            if due.is_empty() {
                return;
            }
            match self.context.store.run_renew(&due, self.leases.lease).await {
                Ok(renewals) => {
                    self.succeeded(&due, &renewals, sent_at);
                    if renewals.contains(&Renewal::Held) {
                        return; // or they would be due for ever
                    }
                }
                Err(error) => return self.failed(&error),
            }
        }
    }

    fn succeeded(&mut self, due: &[Claimed], renewals: &[Renewal], sent_at: Duration) {
        let lost = self.leases.renewed(due, renewals, sent_at);
        if lost > 0 {
            tracing::warn!(runs = lost, "leases were lost, their calls are cancelled");
        }
        if self.failing {
            tracing::info!("leases are renewed again");
        }
        self.failing = false;
        self.backoff.reset();
        // Calls begin one after another. Without a pause each would be renewed by a statement of its own;
        // with it the last moment is at half the lease, well within trust.
        self.not_before = sent_at + self.leases.lease / 6;
    }

    fn failed(&mut self, error: &StoreError) {
        if !self.failing {
            let error: &dyn std::error::Error = error;
            tracing::warn!(error, "leases cannot be renewed, trying again while they may be trusted");
        }
        self.failing = true;
        self.not_before = self.context.clock.clock().monotonic() + self.backoff.pause();
    }
}
