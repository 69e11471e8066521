//! Circuit breakers: what cannot be connected to is left alone for a while, and then asked by one call alone.
//! So a target that is away costs its own runs time, but no retries, and other targets' runs no slots.
//!
//! ```text
//!            5 calls in a row find no connection
//!   closed ──────────────────────────────────────▶ open for 1, 2, 4 … 30 s ◀───┐
//!     ▲                                                │ the time is over and    │ no connection:
//!     │                                                ▼ a call comes            │ twice as long
//!     └────────────── a call reaches it ────────── half open: this call probes ──┘
//! ```
//!
//! Lives in this process alone and makes nothing wrong when it is lost. Never calls, waits or reads a clock.
//! Invariant: half open, one call is on its way, whatever becomes of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use reveille_shared::model::run::OutcomeCode;

use crate::call::CONNECT_LIMIT;
use crate::destination::Peer;

/// Calls in a row without a connection that open a breaker.
const FAILURES: u32 = 5;

/// How long a breaker opens first.
const FIRST: Duration = Duration::from_secs(1);

/// How long a breaker opens at most.
const LONGEST: Duration = Duration::from_secs(30);

/// What nobody was told about for this long is forgotten.
const IDLE: Duration = Duration::from_secs(300);

/// Endpoints remembered at most. Beyond them the one that was heard of longest ago is forgotten.
const KEPT: usize = 1024;

/// What a call says about the way to its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contact {
    /// The endpoint was there, whatever it answered.
    Made,
    /// There was no connection.
    None,
    /// The call ended before anybody could tell.
    Unknown,
}

impl Contact {
    /// What the outcome of a call says that had `deadline` to end.
    pub(crate) fn of(code: OutcomeCode, deadline: Duration) -> Self {
        match code {
            OutcomeCode::Connect => Self::None,
            // Who had no connection by then would have said so.
            OutcomeCode::Timeout if deadline > CONNECT_LIMIT => Self::Made,
            OutcomeCode::Timeout | OutcomeCode::Refused => Self::Unknown,
            _ => Self::Made,
        }
    }
}

/// What a call led to, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Opened,
    Closed,
}

/// The breaker of one endpoint. Instants are monotonic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breaker {
    Closed { failures: u32 },
    Open { until: Duration, period: Duration },
    HalfOpen { period: Duration },
}

/// What a call is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Pass,
    /// Pass, and tell for all.
    Probe,
    Wait(Duration),
}

impl Breaker {
    fn admit(&mut self, now: Duration) -> Admission {
        match *self {
            Self::Closed { .. } => Admission::Pass,
            Self::Open { until, .. } if now < until => Admission::Wait(until - now),
            Self::Open { period, .. } => {
                *self = Self::HalfOpen { period };
                Admission::Probe
            }
            Self::HalfOpen { .. } => Admission::Wait(FIRST),
        }
    }

    /// The end of a call. Those that began before it opened say nothing new, unless they got through.
    fn tell(&mut self, was_probe: bool, contact: Contact, now: Duration) -> Option<Turn> {
        match (*self, contact) {
            (Self::Closed { .. }, Contact::Made) => *self = Self::Closed { failures: 0 },
            (_, Contact::Made) => {
                *self = Self::Closed { failures: 0 };
                return Some(Turn::Closed);
            }
            (Self::Closed { failures }, Contact::None) if failures + 1 < FAILURES => {
                *self = Self::Closed { failures: failures + 1 };
            }
            (Self::Closed { .. }, Contact::None) => {
                *self = Self::Open { until: now + FIRST, period: FIRST };
                return Some(Turn::Opened);
            }
            (Self::HalfOpen { period }, Contact::None) if was_probe => {
                let period = (period * 2).min(LONGEST);
                *self = Self::Open { until: now + period, period };
            }
            // The next call probes in its place.
            (Self::HalfOpen { period }, Contact::Unknown) if was_probe => *self = Self::Open { until: now, period },
            _ => {}
        }
        None
    }
}

/// The breakers of a worker: of the endpoints that were not there lately.
pub(crate) struct Breakers {
    known: Mutex<HashMap<Peer, Known>>,
    /// How many are not closed.
    open: Gauge,
}

struct Known {
    breaker: Breaker,
    told_at: Duration,
}

impl Breakers {
    pub(crate) fn new(open: Gauge) -> Self {
        Self { known: Mutex::new(HashMap::new()), open }
    }

    /// Lets a call to this endpoint pass.
    ///
    /// # Errors
    /// How long the endpoint is to be left alone.
    pub(crate) fn enter(self: &Arc<Self>, peer: Peer, now: Duration) -> Result<Passage, Duration> {
        let admission = self.lock().get_mut(&peer).map_or(Admission::Pass, |known| known.breaker.admit(now));
        match admission {
            Admission::Wait(wait) => Err(wait),
            Admission::Pass | Admission::Probe => {
                let is_probe = admission == Admission::Probe;
                Ok(Passage { breakers: self.clone(), peer, is_probe, entered_at: now })
            }
        }
    }

    /// Who is left alone at the moment, `limit` at most.
    pub(crate) fn away(&self, limit: usize) -> Vec<Peer> {
        let known = self.lock();
        let away = known.iter().filter(|(_, known)| !matches!(known.breaker, Breaker::Closed { .. }));
        away.map(|(peer, _)| peer.clone()).take(limit).collect()
    }

    /// Forgets endpoints that nobody called for a while.
    pub(crate) fn forget_idle(&self, now: Duration) {
        let mut known = self.lock();
        known.retain(|_, known| now.saturating_sub(known.told_at) < IDLE);
        self.count(&known);
    }

    fn tell(&self, peer: &Peer, was_probe: bool, contact: Contact, now: Duration) -> Option<Turn> {
        let mut known = self.lock();
        let mut breaker = match known.get(peer) {
            Some(known) => known.breaker,
            None if contact == Contact::None => Breaker::Closed { failures: 0 },
            None => return None,
        };
        let turn = breaker.tell(was_probe, contact, now);
        if breaker == (Breaker::Closed { failures: 0 }) {
            known.remove(peer);
        } else {
            known.insert(peer.clone(), Known { breaker, told_at: now });
        }
        if known.len() > KEPT {
            let oldest = known.iter().min_by_key(|(_, known)| known.told_at).map(|(peer, _)| peer.clone());
            oldest.map(|oldest| known.remove(&oldest));
        }
        self.count(&known);
        turn
    }

    fn count(&self, known: &HashMap<Peer, Known>) {
        let open = known.values().filter(|known| !matches!(known.breaker, Breaker::Closed { .. })).count();
        self.open.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Peer, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call on its way to an endpoint. Dropped without a word it says nothing: whoever comes next may probe.
pub(crate) struct Passage {
    breakers: Arc<Breakers>,
    peer: Peer,
    is_probe: bool,
    entered_at: Duration,
}

impl Passage {
    /// Ends the call; answers what it led to, and for whom.
    pub(crate) fn tell(mut self, contact: Contact, now: Duration) -> Option<(Turn, Peer)> {
        let is_probe = std::mem::take(&mut self.is_probe);
        let turn = self.breakers.tell(&self.peer, is_probe, contact, now)?;
        Some((turn, self.peer.clone()))
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if self.is_probe {
            self.breakers.tell(&self.peer, true, Contact::Unknown, self.entered_at);
        }
    }
}

/// The wait of a run that met an open breaker, in milliseconds: up to a quarter longer at random, `random` being
/// drawn from `[0, 1)`, so that those who wait do not all come in the moment it is over.
pub(crate) fn spread_ms(wait: Duration, random: f64) -> i64 {
    let spread = wait.mul_f64(1.0 + 0.25 * random);
    i64::try_from(spread.as_millis()).unwrap_or(i64::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: Breaker = Breaker::Closed { failures: 0 };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn open(until: u64, period: u64) -> Breaker {
        Breaker::Open { until: s(until), period: s(period) }
    }

    /// Told so by a call that was no probe.
    fn told(breaker: &mut Breaker, contacts: &[Contact], now: u64) -> Option<Turn> {
        contacts.iter().filter_map(|contact| breaker.tell(false, *contact, s(now))).last()
    }

    #[test]
    fn five_in_a_row_open_it() {
        let mut breaker = CLOSED;
        assert_eq!(told(&mut breaker, &[Contact::None; 4], 0), None);
        assert_eq!(breaker.admit(s(0)), Admission::Pass);
        assert_eq!(told(&mut breaker, &[Contact::Made], 0), None);
        assert_eq!(told(&mut breaker, &[Contact::None; 4], 7), None);
        assert_eq!(told(&mut breaker, &[Contact::Unknown], 7), None);
        assert_eq!(told(&mut breaker, &[Contact::None], 7), Some(Turn::Opened));
        assert_eq!(breaker, open(8, 1));
        assert_eq!(breaker.admit(s(7)), Admission::Wait(s(1)));
    }

    #[test]
    fn it_opens_twice_as_long_after_every_probe_and_half_a_minute_at_most() {
        let (mut breaker, mut now) = (open(1, 1), 1);
        for period in [2, 4, 8, 16, 30, 30] {
            assert_eq!(breaker.admit(s(now)), Admission::Probe);
            assert_eq!(breaker.tell(true, Contact::None, s(now)), None);
            assert_eq!(breaker, open(now + period, period));
            now += period;
        }
    }

    #[test]
    fn one_call_probes_and_closes_it_for_all() {
        let mut breaker = open(1, 16);
        assert_eq!(breaker.admit(s(1)), Admission::Probe);
        assert_eq!(breaker.admit(s(1)), Admission::Wait(FIRST));
        assert_eq!(breaker.admit(s(100)), Admission::Wait(FIRST));
        assert_eq!(breaker.tell(true, Contact::Made, s(101)), Some(Turn::Closed));
        assert_eq!(breaker, CLOSED, "and it opens for a second only");
    }

    #[test]
    fn a_probe_that_cannot_tell_leaves_it_to_the_next_one() {
        let mut breaker = open(1, 16);
        assert_eq!(breaker.admit(s(1)), Admission::Probe);
        breaker.tell(true, Contact::Unknown, s(2));
        assert_eq!(breaker.admit(s(2)), Admission::Probe);
        assert_eq!(breaker, Breaker::HalfOpen { period: s(16) });
    }

    #[test]
    fn calls_that_began_before_it_opened_change_it_only_if_they_got_through() {
        for before in [open(9, 4), Breaker::HalfOpen { period: s(4) }] {
            let mut breaker = before;
            assert_eq!(told(&mut breaker, &[Contact::None, Contact::Unknown], 1), None);
            assert_eq!(breaker, before);
            assert_eq!(told(&mut breaker, &[Contact::Made], 1), Some(Turn::Closed));
            assert_eq!(breaker, CLOSED);
        }
    }

    #[test]
    fn only_a_missing_connection_counts_as_one() {
        let check = |code, deadline, expected| assert_eq!(Contact::of(code, s(deadline)), expected, "{code:?}");
        check(OutcomeCode::Ok, 1, Contact::Made);
        check(OutcomeCode::HttpStatus, 1, Contact::Made);
        check(OutcomeCode::Rejected, 1, Contact::Made);
        check(OutcomeCode::Transport, 1, Contact::Made);
        check(OutcomeCode::Connect, 30, Contact::None);
        check(OutcomeCode::Timeout, 5, Contact::Unknown);
        check(OutcomeCode::Timeout, 30, Contact::Made);
        check(OutcomeCode::Refused, 30, Contact::Unknown);
    }

    fn fail(breakers: &Arc<Breakers>, host: &str, times: u32, now: Duration) {
        let passages: Vec<_> = (0..times).map(|_| breakers.enter(Peer::at(host), now).ok().unwrap()).collect();
        passages.into_iter().for_each(|passage| _ = passage.tell(Contact::None, now));
    }

    #[test]
    fn endpoints_have_breakers_of_their_own() {
        let breakers = Arc::new(Breakers::new(Gauge::default()));
        fail(&breakers, "a", FAILURES, s(1));
        assert_eq!(breakers.enter(Peer::at("a"), s(1)).err(), Some(FIRST));
        assert!(breakers.enter(Peer::at("b"), s(1)).is_ok());
        assert_eq!(breakers.open.get(), 1);
    }

    #[test]
    fn a_dropped_probe_does_not_keep_others_from_probing() {
        let breakers = Arc::new(Breakers::new(Gauge::default()));
        fail(&breakers, "a", FAILURES, s(1));
        let probe = breakers.enter(Peer::at("a"), s(2)).ok().unwrap();
        assert!(breakers.enter(Peer::at("a"), s(2)).is_err());
        drop(probe);
        let probe = breakers.enter(Peer::at("a"), s(2)).ok().unwrap();
        assert!(matches!(probe.tell(Contact::Made, s(2)), Some((Turn::Closed, endpoint)) if endpoint == Peer::at("a")));
        assert_eq!((breakers.lock().len(), breakers.open.get()), (0, 0), "nothing is kept of what is well");
    }

    #[test]
    fn what_is_forgotten_is_closed_and_few_are_remembered() {
        let breakers = Arc::new(Breakers::new(Gauge::default()));
        fail(&breakers, "a", FAILURES, s(1));
        breakers.forget_idle(s(1) + IDLE);
        assert_eq!((breakers.lock().len(), breakers.open.get()), (0, 0));
        for number in 0..=KEPT {
            fail(&breakers, &number.to_string(), 1, s(number as u64));
        }
        assert_eq!(breakers.lock().len(), KEPT);
        assert!(!breakers.lock().contains_key(&Peer::at("0")));
    }

    #[test]
    fn waits_are_spread_and_not_shortened() {
        assert_eq!((spread_ms(s(4), 0.0), spread_ms(s(4), 0.999), spread_ms(s(0), 0.5)), (4001, 5000, 1));
    }
}
