//! Commit, then hint: every write that arms a run goes through here.
//!
//! Invariant: what may have been committed is hinted, also when the caller hung up in the middle, the request
//! ran out of time, or the database's answer was lost. A hint too many costs a worker one look into the store;
//! a hint too few would make the run late by up to the monitor's recheck. Beside the instant it tells what the
//! answer says of the database's clock: a process that only serves the API has no better word of it.

use std::future::Future;

use reveille_shared::bus::hint::Hinter;
use reveille_shared::model::UnixMs;
use reveille_shared::model::timing::ArmAt;
use reveille_shared::runtime::Context;
use reveille_shared::store::StoreError;

/// Performs `write`, which means to arm a run at `intended`, and hints the instant that `armed` finds in its answer.
pub(crate) async fn commit<T>(
    context: &Context,
    intended: ArmAt,
    write: impl Future<Output = Result<T, StoreError>>,
    armed: impl FnOnce(&T) -> Option<UnixMs>,
) -> Result<T, StoreError> {
    let at = match intended {
        ArmAt::At(at) => at,
        ArmAt::AfterMs(after_ms) => context.clock.now_ms().saturating_add(after_ms),
    };
    let known_now = if context.clock.is_known() { context.clock.now_ms() } else { 0 };
    let mut hint = HintOnDrop { hints: &context.hints, at: Some(at), now: known_now };
    let outcome = write.await;
    hint.at = match &outcome {
        Ok(done) => armed(done),
        Err(StoreError::Unavailable(_)) => hint.at, // in doubt
        Err(_) => None,
    };
    if let (Ok(_), Some(due_at)) = (&outcome, hint.at) {
        hint.now = now_told_by(intended, due_at).unwrap_or(known_now);
    }
    if outcome.is_ok() {
        context.faults.pass("api.committed").await;
    }
    outcome
}

/// The database's now that an armed instant was reckoned from; `None` when it was not.
fn now_told_by(intended: ArmAt, due_at: UnixMs) -> Option<UnixMs> {
    match intended {
        ArmAt::AfterMs(after_ms) => Some(due_at.saturating_sub(after_ms)),
        // What has passed is due now.
        ArmAt::At(at) => (due_at > at).then_some(due_at),
    }
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
