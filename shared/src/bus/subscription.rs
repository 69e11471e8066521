//! The receiving end of a bus: a mailbox that merges what was not received yet, so that a slow or stuck
//! role costs neither memory nor the newest state. (A bounded queue would drop exactly that one.)
//!
//! Invariant: at most one event of each kind waits, and what waits leads a receiver to the same place
//! as the whole sequence would have.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::DropGuard;

use super::BusEvent;
use super::wake::merge;

/// The receiving end of [`super::Bus::subscribe`]. Dropping it ends the subscription.
pub struct Subscription {
    mailbox: Arc<Mailbox>,
    _guard: Option<DropGuard>,
}

impl Subscription {
    /// The next event; `None` when the bus is gone for good (the process ends). Cancel safe.
    pub async fn recv(&mut self) -> Option<BusEvent> {
        loop {
            {
                let mut waiting = self.mailbox.lock();
                if let Some(event) = waiting.events.pop_front() {
                    return Some(event);
                }
                if waiting.closed {
                    return None;
                }
            }
            // Only this receiver waits, and a notification without a waiter is kept for the next one:
            // an event put between the look and the wait is not slept over.
            self.mailbox.changed.notified().await;
        }
    }

    /// The next event if one is waiting.
    pub fn try_recv(&mut self) -> Option<BusEvent> {
        self.mailbox.lock().events.pop_front()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.mailbox.lock().closed = true;
    }
}

/// The sending end. Dropping it ends the subscription once the rest was received.
pub(super) struct Feed {
    mailbox: Arc<Mailbox>,
}

impl Feed {
    /// Puts an event; false when nobody will receive it.
    pub(super) fn put(&self, event: BusEvent) -> bool {
        let mut waiting = self.mailbox.lock();
        if waiting.closed {
            return false;
        }
        waiting.put(event);
        drop(waiting);
        self.mailbox.changed.notify_one();
        true
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.mailbox.lock().closed = true;
        self.mailbox.changed.notify_one();
    }
}

/// Both ends of a subscription. `guard` is dropped with the receiving end.
pub(super) fn channel(guard: Option<DropGuard>) -> (Feed, Subscription) {
    let mailbox = Arc::new(Mailbox::default());
    (Feed { mailbox: mailbox.clone() }, Subscription { mailbox, _guard: guard })
}

#[derive(Default)]
struct Mailbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<BusEvent>,
    closed: bool,
}

impl Waiting {
    /// An event takes the place of the waiting one of its kind and goes to the end.
    fn put(&mut self, event: BusEvent) {
        let event = match event {
            BusEvent::Wake(state) => match self.take(|waiting| matches!(waiting, BusEvent::Wake(_))) {
                Some(BusEvent::Wake(earlier)) => BusEvent::Wake(merge(&earlier, state)),
                _ => BusEvent::Wake(state),
            },
            BusEvent::Nudge(state) => match self.take(|waiting| matches!(waiting, BusEvent::Nudge(_))) {
                Some(BusEvent::Nudge(earlier)) => BusEvent::Nudge(merge(&earlier, state)),
                _ => BusEvent::Nudge(state),
            },
            BusEvent::Soon(at) => match self.take(|waiting| matches!(waiting, BusEvent::Soon(_))) {
                Some(BusEvent::Soon(earlier)) => BusEvent::Soon(at.min(earlier)),
                _ => BusEvent::Soon(at),
            },
            BusEvent::Heartbeat(state) => match self.take(|waiting| matches!(waiting, BusEvent::Heartbeat(_))) {
                Some(BusEvent::Heartbeat(earlier)) => BusEvent::Heartbeat(merge(&earlier, state)),
                _ => BusEvent::Heartbeat(state),
            },
            BusEvent::Connected(state) => {
                self.take(|waiting| matches!(waiting, BusEvent::Connected(_)));
                BusEvent::Connected(state)
            }
            BusEvent::Disconnected => {
                // A connection that came and went unseen was none; the next one says `Connected` again.
                self.take(|waiting| matches!(waiting, BusEvent::Connected(_)));
                self.take(|waiting| matches!(waiting, BusEvent::Disconnected));
                BusEvent::Disconnected
            }
            BusEvent::Resigned => {
                self.take(|waiting| matches!(waiting, BusEvent::Resigned));
                BusEvent::Resigned
            }
            BusEvent::StagesWanted => {
                self.take(|waiting| matches!(waiting, BusEvent::StagesWanted));
                BusEvent::StagesWanted
            }
            BusEvent::BacklogWanted => {
                self.take(|waiting| matches!(waiting, BusEvent::BacklogWanted));
                BusEvent::BacklogWanted
            }
        };
        self.events.push_back(event);
    }

    fn take(&mut self, kind: impl Fn(&BusEvent) -> bool) -> Option<BusEvent> {
        let at = self.events.iter().position(kind)?;
        self.events.remove(at)
    }
}
