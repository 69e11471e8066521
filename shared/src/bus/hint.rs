//! Hints after commit: a caller says "something is due at …" and goes on; a task tells the bus.
//!
//! Never holds up the caller and never gives up: while the bus is away the least instant waits here.
//!
//! Invariant: an instant hinted is sent by a LOWER that *begins* after the hint, hence after its commit.
//! A LOWER under way does not count, even of an earlier instant: Redis may have executed it before the
//! monitor's mark, and the monitor read the database before the commit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::wake::{NEVER, storable};
use super::{Bus, BusError};
use crate::model::UnixMs;
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::Clock;
use crate::runtime::lifecycle::Lifecycle;

/// How long the end of the process may be held up for hints that were not taken.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Sends hints to the bus in the background until the bus took them. Cloning shares the sender.
#[derive(Clone)]
pub struct Hinter {
    pending: Arc<Pending>,
}

impl Hinter {
    /// Starts the sender. It ends when the lifecycle closes, after everything that hints has ended.
    pub fn spawn(bus: Arc<dyn Bus>, clock: Arc<dyn Clock>, lifecycle: &Lifecycle) -> Self {
        let pending = Arc::new(Pending::default());
        let sender = Sender { bus, clock, pending: pending.clone(), failing: false };
        lifecycle.spawn_attendant("hints", sender.run(lifecycle.closing().clone()));
        Self { pending }
    }

    /// Says that something is due at `at`. `now` is a moment that the database's clock has shown, as the commit
    /// told, or 0. Never blocks, never fails; call it after the commit.
    pub fn hint(&self, at: UnixMs, now: UnixMs) {
        let mut hints = self.pending.lock();
        hints.unsent = hints.unsent.and(Hint { at: storable(at), now });
        drop(hints);
        self.pending.changed.notify_one();
    }

    /// The least instant the bus has not taken yet; `None` when it took all.
    pub fn pending(&self) -> Option<UnixMs> {
        let hints = self.pending.lock();
        let least = hints.unsent.and(hints.sending).at;
        (least < NEVER).then_some(least)
    }
}

#[derive(Default)]
struct Pending {
    hints: Mutex<Hints>,
    changed: Notify,
}

#[derive(Default)]
struct Hints {
    /// Hinted since the last LOWER was sent.
    unsent: Hint,
    /// Sent, and not acknowledged.
    sending: Hint,
}

/// What one LOWER tells; [`NEVER`] when there is nothing to tell.
#[derive(Clone, Copy)]
struct Hint {
    at: UnixMs,
    now: UnixMs,
}

impl Default for Hint {
    fn default() -> Self {
        Self { at: NEVER, now: 0 }
    }
}

impl Hint {
    /// Both in one: the least instant, and the later moment, for what the clock has shown to one it has shown.
    fn and(self, other: Self) -> Self {
        Self { at: self.at.min(other.at), now: self.now.max(other.now) }
    }
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Hints> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to send now: what is new, and what was not acknowledged.
    fn take(&self) -> Option<Hint> {
        let mut hints = self.lock();
        hints.sending = hints.sending.and(hints.unsent);
        hints.unsent = Hint::default();
        (hints.sending.at < NEVER).then_some(hints.sending)
    }

    fn acknowledge(&self) {
        self.lock().sending = Hint::default();
    }
}

struct Sender {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    pending: Arc<Pending>,
    failing: bool,
}

impl Sender {
    async fn run(mut self, closing: CancellationToken) {
        while !closing.is_cancelled() {
            // Given up in the middle of a LOWER, its instant stays in `sending` and is flushed below.
            tokio::select! {
                () = closing.cancelled() => {}
                () = self.send_next() => {}
            }
        }
        if tokio::time::timeout(FLUSH_LIMIT, self.send_all()).await.is_err() {
            tracing::warn!("hints not sent at shutdown, the monitor's recheck finds what they told");
        }
    }

    async fn send_next(&mut self) {
        self.pending.changed.notified().await;
        self.send_all().await;
    }

    async fn send_all(&mut self) {
        let mut backoff = Backoff::new();
        while let Some(hint) = self.pending.take() {
            let outcome = self.bus.lower(hint.at, hint.now).await;
            let sent = outcome.is_ok();
            self.log_change(outcome.err());
            if sent {
                self.pending.acknowledge();
                backoff.reset();
            } else {
                self.clock.sleep(backoff.pause()).await;
            }
        }
    }

    /// Says once that hints do not get through, and once that they do again.
    fn log_change(&mut self, error: Option<BusError>) {
        match error {
            Some(error) if !self.failing => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "hints cannot be sent, keeping the earliest");
                self.failing = true;
            }
            None if self.failing => {
                tracing::info!("hints are sent again");
                self.failing = false;
            }
            _ => {}
        }
    }
}
