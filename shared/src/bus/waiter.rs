//! When to claim next: the receiving side of the wake protocol, as a pure state machine. Every worker
//! (and every long poll) owns one [`Waiter`], tells it what it hears and does, and sleeps until
//! [`Waiter::armed`].
//!
//! ```text
//!            heard, hint, owe_claim                       heard, hint, owe_claim
//!              ┌───┐                                          ┌───┐
//!              ▼   │            claim_sent                    ▼   │
//!            waiting ────────────────────────────────────▶ in flight
//!               ▲         claim_done: armed = min(next_at, hints since it was sent)
//!               ├─────────────────────────────────────────────┤
//!               └─────── claim_failed: armed as before, or earlier by those hints
//! ```
//!
//! Each rule stands with what goes wrong without it. `tests/it/wake_model.rs` runs this very code through
//! every interleaving and takes the rules whose absence loses a wake away one by one. Never reads a clock
//! and never decides that a run is due: that is the database's word, an early claim just takes nothing.
//!
//! Invariant: whenever a run is committed and its hint has been heard, `armed` is not after it.

use super::wake::{AT_ONCE, NEVER, WakeState, storable};
use crate::model::UnixMs;

/// When this process claims next, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waiter {
    /// What the published states and the last claim say.
    told: UnixMs,
    /// The least instant that was hinted beside the states, until a claim is sent that will see it.
    hinted: UnixMs,
    /// The newest state adopted.
    held: Position,
    in_flight: Option<InFlight>,
}

/// A place in the order of states: seq counts within one nonce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Position {
    nonce: u64,
    seq: u64,
}

/// The claim that was sent and not answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct InFlight {
    /// What was held when it was sent. Its hint came after its commit, so the claim sees all of it.
    served: Position,
    /// What was armed when it was sent.
    armed: UnixMs,
    /// The least instant heard since it was sent.
    hints: UnixMs,
}

impl Waiter {
    /// Knows of nothing. A role owes itself a claim once it is connected.
    pub fn new() -> Self {
        Self { told: NEVER, hinted: NEVER, held: Position::default(), in_flight: None }
    }

    /// A state was heard, by a wake, a heartbeat or a read.
    ///
    /// - Of the held nonce and not above the held seq: a repetition, ignored. Without that, the heartbeat
    ///   that repeats an instant already claimed would wake every worker every 2 s.
    /// - Of the held nonce and above: replaces what was told, also by a later instant. That is how an
    ///   instant somebody else claimed goes away, and it is safe because the monitor pushes later only
    ///   what no LOWER contradicts.
    /// - Of another nonce: the key was lost and created anew, and knows nothing of what was lowered to
    ///   the old one. The lesser of both counts; taking the new one alone sleeps over the old one's instants
    ///   until a monitor has recomputed.
    pub fn heard(&mut self, state: &WakeState) {
        let position = Position { nonce: state.nonce, seq: state.seq };
        if let Some(claim) = &mut self.in_flight {
            if claim.served.covers(position) {
                return;
            }
            // The claim may have read the database before the commit this state tells of. Its answer
            // would then overwrite the only word of that run.
            claim.hints = claim.hints.min(state.next_ms);
        }
        if self.held.covers(position) {
            return;
        }
        let same_life = position.nonce == self.held.nonce;
        self.told = if same_life { state.next_ms } else { self.told.min(state.next_ms) };
        self.held = position;
    }

    /// Something is committed that is due at `at`: this process did it (its own settles), or the bus says so
    /// beside a state whose instant has passed. Holds until a claim is sent, whatever is heard: a state
    /// published between our commit and our LOWER may be later, and with Redis gone in that moment nothing
    /// would correct it; and a passed instant that is not claimed yet stays told.
    pub fn hint(&mut self, at: UnixMs) {
        let at = storable(at);
        self.hinted = self.hinted.min(at);
        if let Some(claim) = &mut self.in_flight {
            claim.hints = claim.hints.min(at);
        }
    }

    /// A claim has to be sent as soon as possible, whatever is heard: the last one left due runs behind,
    /// or there was no free slot for them.
    pub fn owe_claim(&mut self) {
        self.hint(AT_ONCE);
    }

    /// The subscription is acknowledged and the key was read *after* that; the other order loses what is
    /// lowered in between. Owes a claim: what was published before is unknown, and so is whether the key
    /// knows all of it.
    pub fn connected(&mut self, state: Option<&WakeState>) {
        if let Some(state) = state {
            self.heard(state);
        }
        self.owe_claim();
    }

    /// A claim is being sent. Call before the statement, never after: what is heard between would count
    /// as seen by it.
    pub fn claim_sent(&mut self) {
        self.in_flight = Some(InFlight { served: self.held, armed: self.armed_ms(), hints: NEVER });
        self.hinted = NEVER;
    }

    /// The claim was answered: `next_at` is the least instant after the database's now. Call
    /// [`Waiter::owe_claim`] as well when it left due runs behind.
    pub fn claim_done(&mut self, next_at: Option<UnixMs>) {
        let hints = self.in_flight.take().map_or(NEVER, |claim| claim.hints);
        self.told = next_at.map_or(NEVER, storable).min(hints);
    }

    /// The claim failed, or its answer was lost: what it was sent for is still to be claimed.
    pub fn claim_failed(&mut self) {
        if let Some(claim) = self.in_flight.take() {
            self.told = claim.armed.min(claim.hints);
        }
    }

    /// Whether a claim is in flight. There is one at a time.
    pub fn is_claiming(&self) -> bool {
        self.in_flight.is_some()
    }

    /// When to claim next on the database's clock; `None` when nothing is known to come.
    pub fn armed(&self) -> Option<UnixMs> {
        let armed = self.armed_ms();
        (armed < NEVER).then_some(armed)
    }

    /// Whether it is time to claim when the database's clock shows `now`.
    pub fn is_due(&self, now: UnixMs) -> bool {
        self.armed().is_some_and(|armed| armed <= now)
    }

    fn armed_ms(&self) -> UnixMs {
        self.told.min(self.hinted)
    }
}

impl Default for Waiter {
    fn default() -> Self {
        Self::new()
    }
}

impl Position {
    /// Whether who holds this has heard `other`.
    fn covers(self, other: Self) -> bool {
        self.nonce == other.nonce && other.seq <= self.seq
    }
}
