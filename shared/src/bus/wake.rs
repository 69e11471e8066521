//! The wake state and its transitions, as pure functions: what the in-process bus executes, what the
//! Redis scripts must equal, and what the exhaustive model checks.
//!
//! ```text
//! LOWER(n, now) by registrars, retries, settles, after commit: since = min(since, n);
//!               n < next or no key: next = n, seq + 1, publish;
//!               else next <= now and n is soon: publish n beside the state, which stays as it is
//! MARK(token)   by the monitor before it reads the database: mark = token, since = +inf
//! SET(token, m) after it: refused if nonce or mark differ; next = min(m, since); changed: seq + 1, publish
//! NUDGE         by the monitor while due runs stay unclaimed: seq + 1, publish as a nudge: claim now
//! BEAT          by the monitor every 2 s: the same state again, with a fresh db_ms
//! ```
//!
//! Invariant: anyone may pull `next` earlier, only a SET pushes it later, and a SET can do so only when
//! everything lowered since its monitor began to read the database is in `since`.
//!
//! # When a LOWER may be silent
//! While `next` lies ahead and is not after `n`: every worker is armed by `next`, sends its claim then, hence
//! after the commit of `n`, and the answer tells of it. Once `next` has passed, its claim may have been sent
//! before that commit, and nothing but the monitor's look, 100 ms later, would tell of `n`. So from then on
//! `n` is published, unless it lies so far ahead ([`SOON_MS`]) that the look comes first.
//!
//! It is published as an instant of its own, [`BusEvent::Soon`](super::BusEvent::Soon): whoever hears it claims at
//! `n` *as well*. As the new `next` it would push the wake later for a worker that did not claim the passed
//! instant yet. It has no seq and needs none: it may be heard twice, late or after anything else, at the cost
//! of a claim; and when it is lost, the look finds `n` in `since` or in the database.
//!
//! For an `n` that is due there is no silence at all. That a worker is about to claim for another one says
//! nothing: its claim may have been sent before this commit. What is spared is spared where no commit can
//! fall between: a [`super::hint::Hinter`] sends one LOWER at a time for all hints given meanwhile, a mailbox
//! keeps one instant, and a worker has one claim in flight, after which it sends one more for all it heard.
//!
//! `now` is a moment that the caller knows the database's clock has shown, 0 when it knows none. Nothing but
//! lateness and a publish too many hangs on it: behind, it makes a LOWER silent until the monitor looks;
//! ahead, it tells of instants that every worker is armed for.
//!
//! Never draws a nonce or reads a clock: the caller supplies both. (Not the server either: Redis seeds
//! Lua's random alike after every restart, which is exactly when a nonce has to differ.)

use serde::{Deserialize, Serialize};

use super::Beat;
use crate::model::UnixMs;

/// "Nothing is scheduled", in `next_ms` and `since_ms`: 2^53 - 1, the largest integer that Lua and
/// JSON keep exact.
pub const NEVER: UnixMs = 9_007_199_254_740_991;

/// How far after the caller's now an instant is told beside a `next` that has passed. The monitor looks 100 ms
/// after every instant that passes; what lies further ahead than that and its read take is told by its SET.
pub const SOON_MS: i64 = 250;

/// An instant that has passed whatever the clock shows.
pub(crate) const AT_ONCE: UnixMs = 0;

/// Nonces are 1 … this, so that Lua and JSON keep them exact; 0 is the nonce of no key.
const NONCE_MAX: u64 = NEVER as u64;

/// The whole state, published every time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WakeState {
    /// Random identity of this life of the key; order by seq holds within one nonce.
    pub nonce: u64,
    /// The monitor's term.
    pub epoch: i64,
    /// Grows with every publish of something new.
    pub seq: u64,
    /// The next due instant as far as anyone told; [`NEVER`] when nothing is scheduled.
    pub next_ms: UnixMs,
    /// Token of the monitor that is reading the database, empty when none is.
    pub mark: String,
    /// The least instant lowered since that mark.
    pub since_ms: UnixMs,
    /// The database's clock when the monitor last beat; 0 before the first beat.
    pub db_ms: UnixMs,
}

impl WakeState {
    /// The next due instant, `None` when nothing is scheduled.
    pub fn next(&self) -> Option<UnixMs> {
        (self.next_ms < NEVER).then_some(self.next_ms)
    }

    fn created(nonce: u64, epoch: i64, seq: u64) -> Self {
        Self { nonce, epoch, seq, next_ms: NEVER, mark: String::new(), since_ms: NEVER, db_ms: 0 }
    }
}

/// What a transition leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state of the key after it.
    pub state: WakeState,
    /// What is published.
    pub publish: Publish,
}

/// What a transition says to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// Nothing.
    Nothing,
    /// The state after it, as a wake.
    State,
    /// This instant, beside the state; one that has passed already as [0](AT_ONCE), so that no clock has to
    /// agree that it has.
    Soon(UnixMs),
}

/// `LOWER`: something is due at `at`, told when the database's clock showed `now` (0 when unknown). `key` is the
/// state before it, `None` when the key is missing; `fresh_nonce` becomes the nonce of a key created here.
pub fn lower(key: Option<&WakeState>, at: UnixMs, now: UnixMs, fresh_nonce: u64) -> Transition {
    let (at, now) = (storable(at), storable(now));
    let mut state = key.cloned().unwrap_or_else(|| WakeState::created(fresh_nonce, 0, 0));
    // Kept even when `next` is earlier anyway: a monitor that read the database before this commit
    // is about to SET a later instant, and would erase this one.
    state.since_ms = state.since_ms.min(at);
    let is_earlier = key.is_none() || at < state.next_ms;
    let next_has_passed = state.next_ms <= now;
    let publish = if is_earlier {
        state.next_ms = at;
        state.seq += 1;
        Publish::State
    } else if next_has_passed && at <= now {
        Publish::Soon(AT_ONCE)
    } else if next_has_passed && at <= now + SOON_MS {
        Publish::Soon(at)
    } else {
        Publish::Nothing
    };
    Transition { state, publish }
}

/// `MARK`: the monitor `token` of term `epoch` is about to read the database. From here on `since`
/// collects what that reading may miss. Nothing to publish: nothing is known yet.
pub fn mark(key: Option<&WakeState>, token: &str, epoch: i64, fresh_nonce: u64) -> WakeState {
    let mut state = key.cloned().unwrap_or_else(|| WakeState::created(fresh_nonce, epoch, 1));
    state.epoch = state.epoch.max(epoch);
    state.mark = token.to_owned();
    state.since_ms = NEVER;
    state
}

/// `SET`: the monitor `token` marked the key of `nonce` and then read `next`. `None` when refused:
/// another monitor marked since, so `since` lacks what was lowered before that; or the key lived anew,
/// so it lacks what was lowered to the old one. Mark and read again then.
pub fn set(key: Option<&WakeState>, token: &str, nonce: u64, next: Option<UnixMs>) -> Option<Transition> {
    let key = key.filter(|key| key.nonce == nonce && key.mark == token)?;
    let next_ms = next.map_or(NEVER, storable).min(key.since_ms);
    let changed = next_ms != key.next_ms;
    let seq = key.seq + u64::from(changed);
    // The mark is used up: what is lowered from here on is not in anybody's `since`.
    let state = WakeState { next_ms, seq, mark: String::new(), since_ms: NEVER, ..key.clone() };
    let publish = if changed { Publish::State } else { Publish::Nothing };
    Some(Transition { state, publish })
}

/// `NUDGE`: due runs stay unclaimed. Always published, as a nudge: who hears it claims, whatever `next` is.
/// `None` when the key is missing.
pub fn nudge(key: Option<&WakeState>) -> Option<WakeState> {
    let mut state = key?.clone();
    state.seq += 1;
    Some(state)
}

/// `BEAT`, the part that concerns the state; always published, as a heartbeat. Keeps the seq, so whoever
/// heard it already ignores it. A key that is missing, or that lost writes (its seq is below the highest
/// the monitor saw under this nonce: a failover), gets a new nonce: under the old one workers would ignore
/// every seq they had before. The monitor sees the nonce change and recomputes.
pub fn beat(key: Option<&WakeState>, beat: &Beat, fresh_nonce: u64) -> WakeState {
    let mut state =
        key.cloned().unwrap_or_else(|| WakeState::created(fresh_nonce, beat.epoch, beat.seen_seq.saturating_add(1)));
    if state.nonce == beat.seen_nonce && state.seq < beat.seen_seq {
        state.nonce = fresh_nonce;
        state.seq = beat.seen_seq + 1;
    }
    state.epoch = state.epoch.max(beat.epoch);
    state.db_ms = storable(beat.db_ms);
    state
}

/// Two states nobody looked at yet, as one that says the same to a [`super::waiter::Waiter`]: the newer
/// of one nonce; across nonces the later with the lesser instant, for neither knows what the other was told.
pub fn merge(earlier: &WakeState, later: WakeState) -> WakeState {
    if earlier.nonce != later.nonce {
        return WakeState { next_ms: later.next_ms.min(earlier.next_ms), ..later };
    }
    if earlier.seq > later.seq { earlier.clone() } else { later }
}

/// A nonce for a key that may have to be created.
pub(crate) fn fresh_nonce() -> u64 {
    fastrand::u64(1..=NONCE_MAX)
}

/// An instant as the key can hold it: a negative one is as due as 1970, and beyond [`NEVER`] is never.
pub(crate) fn storable(at: UnixMs) -> UnixMs {
    at.clamp(0, NEVER)
}
