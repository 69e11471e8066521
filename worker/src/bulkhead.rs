//! The bulkhead: how many of a worker's slots one target may have, so that one which hangs does not take them all.
//!
//! ```text
//!            it answers                   no answer for 100 ms, or a timeout
//!   flowing: up to 4 × the free slots ──────────────────────────────────────▶ quiet: a quarter of the free slots
//!            ▲                                                                       │
//!            └──────────────────────── the next answer ──────────────────────────────┘
//! ```
//!
//! A share of what is *free* and not of all (the dynamic threshold by which Choudhury and Hahne share the buffer of a
//! switch, 1998): one target alone gets nearly everything, twenty that hang get little each, and something always stays
//! free for whoever comes next. There is nothing to set.
//!
//! Not how long its calls take makes a target quiet but that none of them ends: a slow one with many calls answers
//! all the time. What is not known yet counts as quiet until its first answer. A run beyond the share waits here for a
//! moment, then it goes back unattempted and comes again, the later the longer its target has been silent.
//!
//! Lives in this process alone and makes nothing wrong when it is lost. Never calls and never reads a clock.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use reveille_shared::model::run::OutcomeCode;
use tokio::sync::oneshot;

use crate::destination::Peer;

/// A target with calls in flight that answered none of them for this long is quiet; a run waits for as long at most.
pub(crate) const QUIET: Duration = Duration::from_millis(100);

/// How long a run stays away at most that went back because of its target.
const LONGEST: Duration = Duration::from_secs(5);

/// Free slots that quiet targets leave to others, as a part of all.
const RESERVED: usize = 8;

/// Free slots that are left to those that answer, as a part of all: the first call to a new one may have the others.
const RESERVED_FOR_KNOWN: usize = 32;

/// What nobody called for this long is forgotten.
const IDLE: Duration = Duration::from_secs(300);

/// Endpoints remembered at most. Beyond them those without a call are forgotten.
const KEPT: usize = 1024;

/// How a call ended, for the bulkhead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The target said something.
    Answered,
    /// It said nothing in time.
    Silent,
    /// The call ended for another reason.
    Unknown,
}

impl Flow {
    /// What the outcome of a call says.
    pub(crate) fn of(code: OutcomeCode) -> Self {
        match code {
            OutcomeCode::Timeout | OutcomeCode::Connect => Self::Silent,
            OutcomeCode::Refused => Self::Unknown,
            _ => Self::Answered,
        }
    }
}

/// The slots of a worker, by endpoint.
pub(crate) struct Bulkhead {
    slots: usize,
    state: Mutex<State>,
    /// How many endpoints runs were turned away from since they answered last.
    congested: Gauge,
}

#[derive(Default)]
struct State {
    in_flight: usize,
    endpoints: HashMap<Peer, Target>,
}

struct Target {
    in_flight: usize,
    known: Known,
    /// Its last answer, or since when it has calls in flight.
    heard_at: Duration,
    has_turned_away: bool,
    waiting: VecDeque<oneshot::Sender<()>>,
}

/// What is known of a target by how its last call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    Answers,
    Silent,
}

impl Target {
    fn new(now: Duration) -> Self {
        Self { in_flight: 0, known: Known::Nothing, heard_at: now, has_turned_away: false, waiting: VecDeque::new() }
    }

    fn is_flowing(&self, now: Duration) -> bool {
        self.known == Known::Answers && (self.in_flight == 0 || now.saturating_sub(self.heard_at) <= QUIET)
    }

    /// How many calls it may have while so many of all slots are free.
    fn share(&self, free: usize, slots: usize, now: Duration) -> usize {
        if self.is_flowing(now) {
            return 4 * free;
        }
        let quiet = free.saturating_sub(slots / RESERVED).div_ceil(4);
        let is_new = self.known == Known::Nothing && free > slots / RESERVED_FOR_KNOWN;
        quiet.max(usize::from(is_new))
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty()
    }
}

/// What a run is to do that wants to call an endpoint.
pub(crate) enum Entry {
    /// Call it.
    Pass(Slot),
    /// Wait for a place, for [`QUIET`] at most, then try once more.
    Wait(oneshot::Receiver<()>),
    /// Go back for this long.
    Away(Duration),
}

impl Bulkhead {
    pub(crate) fn new(slots: usize, congested: Gauge) -> Arc<Self> {
        Arc::new(Self { slots: slots.max(1), state: Mutex::default(), congested })
    }

    /// Asks for a place; `may_wait` is false for who has waited.
    pub(crate) fn enter(self: &Arc<Self>, peer: &Peer, may_wait: bool, now: Duration) -> Entry {
        let mut state = self.lock();
        let free = self.slots.saturating_sub(state.in_flight);
        if state.endpoints.len() >= KEPT && !state.endpoints.contains_key(peer) {
            state.endpoints.retain(|_, target| !target.is_idle());
        }
        let target = state.endpoints.entry(peer.clone()).or_insert_with(|| Target::new(now));
        if target.in_flight < target.share(free, self.slots, now) {
            if target.in_flight == 0 {
                target.heard_at = now;
            }
            target.in_flight += 1;
            state.in_flight += 1;
            return Entry::Pass(Slot { bulkhead: self.clone(), peer: peer.clone(), ended: None });
        }
        let silent_for = now.saturating_sub(target.heard_at);
        if may_wait && silent_for <= QUIET {
            let (place, turn) = oneshot::channel();
            target.waiting.push_back(place);
            return Entry::Wait(turn);
        }
        if !std::mem::replace(&mut target.has_turned_away, true) {
            self.congested.inc();
        }
        Entry::Away((silent_for / 2).clamp(QUIET, LONGEST))
    }

    /// Calls on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// Whom runs were turned away from since they answered last, `limit` at most.
    pub(crate) fn congested(&self, limit: usize) -> Vec<Peer> {
        let state = self.lock();
        let congested = state.endpoints.iter().filter(|(_, target)| target.has_turned_away);
        congested.map(|(peer, _)| peer.clone()).take(limit).collect()
    }

    /// Forgets endpoints that nobody called for a while.
    pub(crate) fn forget_idle(&self, now: Duration) {
        let mut state = self.lock();
        state.endpoints.retain(|_, target| !target.is_idle() || now.saturating_sub(target.heard_at) < IDLE);
        let congested = state.endpoints.values().filter(|target| target.has_turned_away).count();
        self.congested.set(i64::try_from(congested).unwrap_or(i64::MAX));
    }

    fn leave(&self, peer: &Peer, ended: Option<(Flow, Duration)>) {
        let mut state = self.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        let in_flight = state.in_flight;
        let Some(target) = state.endpoints.get_mut(peer) else { return };
        target.in_flight = target.in_flight.saturating_sub(1);
        let Some((flow, now)) = ended else { return };
        match flow {
            Flow::Answered => {
                (target.known, target.heard_at) = (Known::Answers, now);
                if std::mem::take(&mut target.has_turned_away) {
                    self.congested.dec();
                }
            }
            Flow::Silent => target.known = Known::Silent,
            Flow::Unknown => {}
        }
        // Those who wait ask again; so many may that the answer can be yes.
        let room = target.share(self.slots.saturating_sub(in_flight), self.slots, now).saturating_sub(target.in_flight);
        let mut called = 0;
        while called < room
            && let Some(place) = target.waiting.pop_front()
        {
            called += usize::from(place.send(()).is_ok());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place for one call. Dropped without a word it says nothing of the target.
pub(crate) struct Slot {
    bulkhead: Arc<Bulkhead>,
    peer: Peer,
    ended: Option<(Flow, Duration)>,
}

impl Slot {
    /// Ends the call.
    pub(crate) fn end(mut self, flow: Flow, now: Duration) {
        self.ended = Some((flow, now));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.bulkhead.leave(&self.peer, self.ended.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn bulkhead(slots: usize) -> Arc<Bulkhead> {
        Bulkhead::new(slots, Gauge::default())
    }

    /// Calls `host` as often as it lets pass, `times` at most.
    fn fill(bulkhead: &Arc<Bulkhead>, host: &str, times: usize, now: Duration) -> Vec<Slot> {
        let peer = Peer::at(host);
        let mut slots = Vec::new();
        while slots.len() < times
            && let Entry::Pass(slot) = bulkhead.enter(&peer, false, now)
        {
            slots.push(slot);
        }
        slots
    }

    fn answer(slots: Vec<Slot>, now: Duration) {
        slots.into_iter().for_each(|slot| slot.end(Flow::Answered, now));
    }

    #[test]
    fn what_answers_gets_nearly_everything_and_what_is_not_known_a_fifth() {
        let bulkhead = bulkhead(256);
        let first = fill(&bulkhead, "a", 256, ms(0));
        assert_eq!(first.len(), 45);
        answer(first, ms(5));
        let flowing = fill(&bulkhead, "a", 256, ms(6));
        assert_eq!(flowing.len(), 205);
        assert!(!fill(&bulkhead, "b", 256, ms(6)).is_empty(), "there is room for another");
    }

    #[test]
    fn many_that_hang_leave_room_for_one_that_answers() {
        let bulkhead = bulkhead(256);
        answer(fill(&bulkhead, "good", 1, ms(0)), ms(1));
        let mut hung = Vec::new();
        for number in 0..20 {
            hung.extend(fill(&bulkhead, &format!("hung{number}"), 50, ms(2)));
        }
        assert!(hung.len() > 200, "they are attempted: {}", hung.len());
        let new = fill(&bulkhead, "new", 256, ms(3));
        assert_eq!(new.len(), 1, "one call tells what it is like");
        answer(new, ms(4));
        for number in 20..300 {
            hung.extend(fill(&bulkhead, &format!("hung{number}"), 50, ms(5)));
        }
        assert_eq!(fill(&bulkhead, "good", 8, ms(6)).len() + fill(&bulkhead, "new", 8, ms(6)).len(), 8);
    }

    #[test]
    fn a_target_that_falls_silent_gets_no_more_and_all_again_with_its_next_answer() {
        let bulkhead = bulkhead(100);
        answer(fill(&bulkhead, "a", 1, ms(0)), ms(1));
        let mut calls = fill(&bulkhead, "a", 40, ms(2));
        let peer = Peer::at("a");
        assert!(matches!(bulkhead.enter(&peer, false, ms(103)), Entry::Away(wait) if wait == ms(100)));
        assert!(matches!(bulkhead.enter(&peer, true, ms(2002)), Entry::Away(wait) if wait == ms(1000)));
        assert!(matches!(bulkhead.enter(&peer, true, ms(60_000)), Entry::Away(wait) if wait == LONGEST));
        assert_eq!(bulkhead.congested.get(), 1);
        calls.pop().unwrap().end(Flow::Answered, ms(60_001));
        assert_eq!(bulkhead.congested.get(), 0);
        assert_eq!(fill(&bulkhead, "a", 100, ms(60_002)).len(), 41);
    }

    #[test]
    fn who_timed_out_is_not_trusted_with_many_calls() {
        let bulkhead = bulkhead(100);
        answer(fill(&bulkhead, "a", 1, ms(0)), ms(1));
        fill(&bulkhead, "a", 80, ms(2)).into_iter().for_each(|slot| slot.end(Flow::Silent, ms(20_002)));
        assert_eq!(fill(&bulkhead, "a", 100, ms(20_003)).len(), 18);
    }

    #[test]
    fn those_beyond_the_share_wait_a_moment_in_the_order_they_came() {
        let bulkhead = bulkhead(20);
        let peer = Peer::at("a");
        answer(fill(&bulkhead, "b", 1, ms(0)), ms(0));
        let others = fill(&bulkhead, "b", 14, ms(0));
        let mut calls = fill(&bulkhead, "a", 20, ms(0));
        assert_eq!((others.len(), calls.len()), (14, 1));
        let mut turns = Vec::new();
        for _ in 0..30 {
            let Entry::Wait(turn) = bulkhead.enter(&peer, true, ms(1)) else { panic!("it may wait") };
            turns.push(turn);
        }
        calls.pop().unwrap().end(Flow::Answered, ms(2));
        let called: Vec<bool> = turns.iter_mut().map(|turn| turn.try_recv().is_ok()).collect();
        assert_eq!(called, [[true; 24].as_slice(), &[false; 6]].concat(), "four times the six free slots");
    }

    #[test]
    fn one_slot_serves_everybody_in_turn() {
        let bulkhead = bulkhead(1);
        for host in ["a", "b", "a"] {
            let calls = fill(&bulkhead, host, 5, ms(0));
            assert_eq!(calls.len(), 1);
            assert!(fill(&bulkhead, "c", 1, ms(0)).is_empty());
        }
    }

    #[test]
    fn what_is_idle_is_forgotten_and_what_waits_is_not() {
        let bulkhead = bulkhead(10);
        let calls = fill(&bulkhead, "busy", 1, ms(0));
        answer(fill(&bulkhead, "idle", 1, ms(0)), ms(1));
        bulkhead.forget_idle(ms(1) + IDLE);
        assert_eq!(bulkhead.lock().endpoints.len(), 1);
        drop(calls);
        for number in 0..=KEPT {
            fill(&bulkhead, &number.to_string(), 1, ms(2));
        }
        assert!(bulkhead.lock().endpoints.len() <= KEPT);
    }
}
