//! Commit, then hint: every write that arms a run goes through here.
//!
//! Invariant: what may have been committed is hinted, also when the caller hung up in the middle, the request
//! ran out of time, or the database's answer was lost. A hint too many costs a worker one look into the store;
//! a hint too few would make the run late by up to the monitor's recheck. Beside the instant it tells what the
//! answer says of the database's clock, and remembers it: a process that only serves the API has no better word of it.

use std::future::Future;

use reveille_shared::Context;
use reveille_shared::bus::hint::Hinter;
use reveille_shared::model::UnixMs;
use reveille_shared::model::timing::ArmAt;
use reveille_shared::runtime::clock::DbClock;
use reveille_shared::store::{StoreError, Triggered, Upserted};

/// What an answer says of the runs it armed.
pub(crate) struct Armed {
    /// The least instant that one of them is due at.
    at: Option<UnixMs>,
    /// The database's now when it armed them.
    now: Option<UnixMs>,
}

impl Armed {
    pub(crate) fn by_registration(upserted: &Upserted) -> Self {
        Self { at: upserted.armed_min, now: upserted.now }
    }

    pub(crate) fn by_trigger(triggered: &Triggered) -> Self {
        Self { at: Some(triggered.due_at), now: Some(triggered.due_at) }
    }

    /// By a resume that meant to arm at `intended`.
    pub(crate) fn by_resume(intended: ArmAt, due_at: Option<UnixMs>) -> Self {
        Self { at: due_at, now: due_at.and_then(|due_at| now_told_by(intended, due_at)) }
    }
}

/// The database's now that an armed instant was reckoned from; `None` when it was not.
fn now_told_by(intended: ArmAt, due_at: UnixMs) -> Option<UnixMs> {
    match intended {
        ArmAt::AfterMs(after_ms) => Some(due_at.saturating_sub(after_ms)),
        // What has passed is due now.
        ArmAt::At(at) => (due_at > at).then_some(due_at),
    }
}

/// When what is armed like this is due, as far as this process knows the database's clock.
pub(crate) fn estimated(clock: &DbClock, arm_at: ArmAt) -> UnixMs {
    match arm_at {
        ArmAt::At(at) => at,
        ArmAt::AfterMs(after_ms) => clock.now_ms().saturating_add(after_ms),
    }
}

/// Performs `write`, which means to arm something at `intended`, and hints the instant that `armed` finds in its answer.
pub(crate) async fn commit<T>(
    context: &Context,
    intended: UnixMs,
    write: impl Future<Output = Result<T, StoreError>>,
    armed: impl FnOnce(&T) -> Armed,
) -> Result<T, StoreError> {
    let known_now = if context.clock.is_known() { context.clock.now_ms() } else { 0 };
    let mut hint = HintOnDrop { hints: &context.hints, at: Some(intended), now: known_now };
    let sent_at = context.clock.clock().monotonic();
    let outcome = write.await;
    match &outcome {
        Ok(done) => {
            let armed = armed(done);
            hint.at = armed.at;
            if let Some(now) = armed.now {
                hint.now = now;
                context.clock.learn(now, sent_at);
            }
            context.faults.pass("api.committed").await;
        }
        Err(StoreError::Unavailable(_)) => {} // in doubt
        Err(_) => hint.at = None,
    }
    outcome
}

/// Futures are dropped where they wait: this is what then still happens.
struct HintOnDrop<'a> {
    hints: &'a Hinter,
    at: Option<UnixMs>,
    now: UnixMs,
}

impl Drop for HintOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            self.hints.hint(at, self.now);
        }
    }
}
