//! When to claim next, and why: the worker's state of waiting, without I/O, so that every rule of it is
//! tested by setting a clock. What the bus and the claims say about due instants is the [`Waiter`]'s;
//! this adds slots, pauses and the degraded mode.
//!
//! ```text
//!            no heartbeat for degraded_after
//!   healthy ────────────────────────────────▶ degraded: one claim per degraded_check ± 20 %
//!      ▲                                          │
//!      └──────────────── heartbeat ───────────────┘
//! ```
//!
//! Level-triggered: nothing is done at the moment of an event, every event only changes what
//! [`Wait::next`] answers. So a wake that finds no free slot, an unanswered claim or a pause is not lost.
//! Never claims without a reason: a healthy worker with nothing due sends no statement at all.

use std::time::Duration;

use reveille_shared::bus::BusEvent;
use reveille_shared::bus::waiter::Waiter;
use reveille_shared::model::UnixMs;

use crate::Settings;
use crate::backoff::Backoff;

/// Longest sleep without looking at the clocks again: a suspended machine's monotonic clock stands still.
const REARM: Duration = Duration::from_secs(60);

/// How long a start waits for the bus before it claims without it.
const BUS_GRACE: Duration = Duration::from_secs(1);

/// How long freed slots are gathered while most are busy. Attempts end one by one; a claim for each of
/// them would be a statement per run.
const GATHER: Duration = Duration::from_millis(5);

/// Why a claim is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The process started: what was published before is unknown.
    Start,
    /// The bus was away: what was published meanwhile is unknown.
    Reconnect,
    /// The armed instant has come.
    Due,
    /// The last claim left due runs behind.
    More,
    /// The last claim failed, or could not take what is due.
    Retry,
    /// No heartbeat: the worker looks by itself.
    Degraded,
}

impl Reason {
    /// The reason's word in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reconnect => "reconnect",
            Self::Due => "due",
            Self::More => "more",
            Self::Retry => "retry",
            Self::Degraded => "degraded",
        }
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Claim.
    Claim(Reason),
    /// Sleep until this monotonic instant, or until something happens.
    Sleep(Duration),
}

/// The answer to a claim, as far as waiting goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) next_at: Option<UnixMs>,
    pub(crate) taken: usize,
    pub(crate) more: bool,
}

/// The worker's state of waiting. Instants called `now` are monotonic.
pub(crate) struct Wait {
    waiter: Waiter,
    slots: usize,
    degraded_after: Duration,
    degraded_check: Duration,
    /// Until the bus connects for the first time: when to claim without it.
    bus_grace: Option<Duration>,
    heartbeat_at: Duration,
    /// In degraded mode: when to look next.
    check_at: Option<Duration>,
    /// Why a claim is owed whatever instant is armed.
    owed: Option<Reason>,
    /// No claim before this; see `failing`.
    paused_until: Duration,
    /// Whether the pause is for a store that fails, which no news can shorten.
    failing: bool,
    backoff: Backoff,
    /// Whether something new was heard since the last claim was sent.
    has_news: bool,
    /// The first slot freed since the last claim is gathered with others until then.
    gather_until: Option<Duration>,
}

impl Wait {
    /// The state at the start of a worker.
    pub(crate) fn new(settings: &Settings, now: Duration) -> Self {
        Self {
            waiter: Waiter::new(),
            slots: settings.concurrency,
            degraded_after: settings.degraded_after,
            degraded_check: settings.degraded_check,
            bus_grace: Some(now + BUS_GRACE),
            heartbeat_at: now,
            check_at: None,
            owed: Some(Reason::Start),
            paused_until: Duration::ZERO,
            failing: false,
            backoff: Backoff::new(),
            has_news: false,
            gather_until: None,
        }
    }

    /// What to do at `now`, when the database's clock shows `db_now` and `free` slots are free.
    pub(crate) fn next(&self, now: Duration, db_now: UnixMs, free: usize) -> Next {
        let look_again = now + REARM;
        let degrades_at = if self.check_at.is_none() { self.heartbeat_at + self.degraded_after } else { look_again };
        let nothing_to_do_before = look_again.min(degrades_at);
        if self.waiter.is_claiming() || free == 0 {
            return Next::Sleep(nothing_to_do_before);
        }
        match self.next_claim(now, db_now) {
            Some((at, reason)) => {
                let at = at.max(self.paused_until).max(self.gathered_at(free));
                if at <= now { Next::Claim(reason) } else { Next::Sleep(at.min(nothing_to_do_before)) }
            }
            None => Next::Sleep(nothing_to_do_before),
        }
    }

    /// The next claim to come, slots and pauses left aside.
    fn next_claim(&self, now: Duration, db_now: UnixMs) -> Option<(Duration, Reason)> {
        // The statement compares whole milliseconds: one more, and the armed run is due for certain.
        let wait_ms = self.waiter.armed().map(|armed| armed.saturating_add(1).saturating_sub(db_now));
        let wait = wait_ms.map(|wait_ms| Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)));
        let armed = wait.map(|wait| (now + wait, self.owed.unwrap_or(Reason::Due)));
        let alone = self.bus_grace.map(|at| (at, Reason::Start));
        let check = self.check_at.map(|at| (at, Reason::Degraded));
        [armed, alone, check].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn gathered_at(&self, free: usize) -> Duration {
        let most_are_free = free * 2 >= self.slots;
        if most_are_free { Duration::ZERO } else { self.gather_until.unwrap_or(Duration::ZERO) }
    }

    /// The bus said something. Answers whether this left the degraded mode.
    pub(crate) fn heard(&mut self, event: &BusEvent, now: Duration) -> bool {
        match event {
            BusEvent::Connected(state) => {
                self.waiter.connected(state.as_ref());
                self.owed.get_or_insert(Reason::Reconnect);
                self.bus_grace = None;
                self.news();
            }
            BusEvent::Wake(state) => {
                self.waiter.heard(state);
                self.news();
            }
            BusEvent::Heartbeat(state) => {
                self.waiter.heard(state);
                self.heartbeat_at = now;
                return self.check_at.take().is_some();
            }
            BusEvent::Disconnected => self.bus_grace = self.bus_grace.map(|_| now),
            BusEvent::Resigned => {}
        }
        false
    }

    /// This worker's own settles made something due at `at`.
    pub(crate) fn local_hint(&mut self, at: UnixMs) {
        self.waiter.local_hint(at);
        self.news();
    }

    /// Enters the degraded mode when its time has come, and answers whether it did.
    pub(crate) fn degrade(&mut self, now: Duration) -> bool {
        if self.check_at.is_some() || now < self.heartbeat_at + self.degraded_after {
            return false;
        }
        // Everybody misses the heartbeat in the same moment: spread over a whole period.
        self.check_at = Some(now + self.degraded_check.mul_f64(fastrand::f64()));
        true
    }

    /// A slot came free.
    pub(crate) fn slot_freed(&mut self, now: Duration) {
        self.gather_until.get_or_insert(now + GATHER);
    }

    /// A claim is being sent. Call before the statement.
    pub(crate) fn claim_sent(&mut self, now: Duration) {
        self.waiter.claim_sent();
        self.owed = None;
        self.bus_grace = None;
        self.has_news = false;
        self.gather_until = None;
        if self.check_at.is_some() {
            // Whatever it was sent for, this claim looks.
            self.check_at = Some(now + self.degraded_check.mul_f64(0.8 + 0.4 * fastrand::f64()));
        }
    }

    /// The claim was answered. `db_now` is the database's clock as it is known by now.
    pub(crate) fn claim_done(&mut self, answered: Answered, now: Duration, db_now: UnixMs) {
        self.waiter.claim_done(answered.next_at);
        self.failing = false;
        self.paused_until = Duration::ZERO;
        if answered.more {
            self.waiter.owe_claim();
            self.owed = Some(Reason::More);
        }
        // News may be of what was committed after the claim looked: that is claimed without a pause.
        let others_hold_what_is_due = answered.taken == 0 && self.waiter.is_due(db_now) && !self.has_news;
        if others_hold_what_is_due {
            self.owed = Some(Reason::Retry);
            self.paused_until = now + self.backoff.pause();
        } else {
            self.backoff.reset();
        }
    }

    /// The claim failed, or its answer was lost. Answers whether the store worked until now.
    pub(crate) fn claim_failed(&mut self, now: Duration) -> bool {
        self.waiter.claim_failed();
        // It may have been sent for no armed instant at all: at start, or in degraded mode.
        self.waiter.owe_claim();
        self.owed = Some(Reason::Retry);
        self.paused_until = now + self.backoff.pause();
        !std::mem::replace(&mut self.failing, true)
    }

    /// Whether the last claim failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing
    }

    /// Something new may be claimable even if what was due is still held by others.
    fn news(&mut self) {
        self.has_news = true;
        if !self.failing {
            self.paused_until = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use reveille_shared::bus::wake::{NEVER, WakeState};

    use super::*;

    /// A worker whose monotonic clock shows `now` and whose database's clock shows `DB_START + now`.
    struct Worker {
        wait: Wait,
        now: Duration,
        free: usize,
    }

    const DB_START: UnixMs = 1_000_000;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn state(seq: u64, next_ms: UnixMs) -> WakeState {
        WakeState { nonce: 7, epoch: 1, seq, next_ms, mark: String::new(), since_ms: NEVER, db_ms: 0 }
    }

    const NOTHING: Answered = Answered { next_at: None, taken: 0, more: false };

    impl Worker {
        /// One with ten slots that has started, connected and found nothing.
        fn idle() -> Self {
            let settings = Settings { concurrency: 10, ..Settings::default() };
            let mut worker = Self { wait: Wait::new(&settings, Duration::ZERO), now: Duration::ZERO, free: 10 };
            worker.hears(&BusEvent::Connected(Some(state(1, NEVER))));
            worker.claims(Reason::Start);
            worker.is_answered(NOTHING);
            worker
        }

        fn db_now(&self) -> UnixMs {
            DB_START + i64::try_from(self.now.as_millis()).unwrap()
        }

        fn next(&self) -> Next {
            self.wait.next(self.now, self.db_now(), self.free)
        }

        fn hears(&mut self, event: &BusEvent) -> bool {
            self.wait.heard(event, self.now)
        }

        fn beats(&mut self) -> bool {
            self.hears(&BusEvent::Heartbeat(state(1, NEVER)))
        }

        #[track_caller]
        fn claims(&mut self, reason: Reason) {
            assert_eq!(self.next(), Next::Claim(reason));
            self.wait.claim_sent(self.now);
        }

        fn is_answered(&mut self, answered: Answered) {
            self.wait.claim_done(answered, self.now, self.db_now());
        }

        #[track_caller]
        fn sleeps_until(&self, at: Duration) {
            assert_eq!(self.next(), Next::Sleep(at));
        }

        /// How long it sleeps if nothing happens.
        #[track_caller]
        fn sleep(&self) -> Duration {
            match self.next() {
                Next::Sleep(until) => until - self.now,
                Next::Claim(reason) => panic!("claims: {reason:?}"),
            }
        }
    }

    #[test]
    fn it_claims_once_connected_and_not_before() {
        let mut worker = Worker { wait: Wait::new(&Settings::default(), ms(0)), now: ms(0), free: 1 };
        worker.sleeps_until(BUS_GRACE);
        worker.now = ms(10);
        worker.hears(&BusEvent::Connected(None));
        worker.claims(Reason::Start);
        worker.is_answered(NOTHING);
        worker.sleeps_until(ms(10_000));
        worker.hears(&BusEvent::Disconnected);
        worker.sleeps_until(ms(10_000));
        worker.hears(&BusEvent::Connected(None));
        worker.claims(Reason::Reconnect);
    }

    #[test]
    fn it_starts_without_a_bus_after_a_grace_or_at_its_refusal() {
        let mut worker = Worker { wait: Wait::new(&Settings::default(), ms(0)), now: ms(0), free: 1 };
        worker.now = BUS_GRACE;
        worker.claims(Reason::Start);
        let mut worker = Worker { wait: Wait::new(&Settings::default(), ms(0)), now: ms(0), free: 1 };
        worker.hears(&BusEvent::Disconnected);
        worker.claims(Reason::Start);
        worker.is_answered(NOTHING);
        assert!(worker.sleep() > BUS_GRACE, "once");
    }

    #[test]
    fn it_sleeps_until_the_millisecond_after_the_armed_instant() {
        let mut worker = Worker::idle();
        worker.hears(&BusEvent::Wake(state(2, DB_START + 500)));
        worker.sleeps_until(ms(501));
        worker.now = ms(501);
        worker.claims(Reason::Due);
        worker.is_answered(Answered { next_at: Some(DB_START + 2500), taken: 1, more: false });
        worker.sleeps_until(ms(2501));
        worker.wait.local_hint(DB_START + 700);
        worker.sleeps_until(ms(701));
    }

    #[test]
    fn it_looks_at_the_clock_every_minute_and_does_nothing_else() {
        let mut worker = Worker::idle();
        for _ in 0..1000 {
            worker.beats();
            assert_eq!(worker.sleep(), ms(10_000), "the next is when heartbeats would be missed");
            worker.now += ms(9_999);
        }
        worker.wait.degraded_after = ms(1_000_000_000);
        assert_eq!(worker.sleep(), REARM);
    }

    #[test]
    fn a_wake_is_kept_while_no_slot_is_free_or_a_claim_is_out() {
        let mut worker = Worker::idle();
        worker.free = 0;
        worker.hears(&BusEvent::Wake(state(2, DB_START)));
        worker.sleeps_until(ms(10_000));
        worker.free = 10;
        worker.now = ms(1);
        worker.claims(Reason::Due);
        worker.hears(&BusEvent::Wake(state(3, DB_START)));
        worker.sleeps_until(ms(10_000));
        worker.is_answered(NOTHING);
        worker.claims(Reason::Due);
        worker.is_answered(Answered { next_at: None, taken: 1, more: false });
        worker.sleeps_until(ms(10_000));
    }

    #[test]
    fn runs_left_behind_are_claimed_at_once_by_enough_slots() {
        let mut worker = Worker::idle();
        worker.hears(&BusEvent::Wake(state(2, DB_START - 1)));
        worker.claims(Reason::Due);
        worker.free = 0;
        worker.is_answered(Answered { next_at: None, taken: 10, more: true });
        worker.now = ms(100);
        worker.free = 1;
        worker.wait.slot_freed(worker.now);
        worker.sleeps_until(ms(105));
        worker.free = 5;
        worker.claims(Reason::More);

        worker.is_answered(Answered { next_at: None, taken: 5, more: true });
        worker.free = 1;
        worker.wait.slot_freed(worker.now);
        worker.now = ms(102);
        worker.wait.slot_freed(worker.now);
        worker.now = ms(105);
        worker.claims(Reason::More);
    }

    #[test]
    fn what_others_hold_is_tried_again_with_growing_pauses() {
        let mut worker = Worker::idle();
        worker.hears(&BusEvent::Wake(state(2, DB_START - 1)));
        worker.claims(Reason::Due);
        worker.is_answered(Answered { next_at: None, taken: 0, more: true });
        for longest in [50, 100, 200, 400, 800, 1000, 1000] {
            let pause = worker.sleep();
            assert!(pause >= ms(longest / 2) && pause <= ms(longest), "{pause:?} of {longest} ms");
            worker.now += pause;
            worker.claims(Reason::Retry);
            worker.is_answered(Answered { next_at: None, taken: 0, more: true });
        }
        // News need not wait for that.
        worker.hears(&BusEvent::Wake(state(3, DB_START - 1)));
        worker.claims(Reason::Retry);
        worker.is_answered(Answered { next_at: None, taken: 3, more: false });
        worker.hears(&BusEvent::Wake(state(4, DB_START - 1)));
        worker.claims(Reason::Due);
    }

    #[test]
    fn a_failed_claim_is_tried_again_with_growing_pauses_whatever_is_heard() {
        let mut worker = Worker::idle();
        worker.hears(&BusEvent::Wake(state(2, DB_START - 1)));
        worker.claims(Reason::Due);
        assert!(worker.wait.claim_failed(worker.now), "said once");
        for longest in [50, 100, 200, 400, 800, 1000, 1000] {
            worker.hears(&BusEvent::Wake(state(3, DB_START - 1)));
            let pause = worker.sleep();
            assert!(pause >= ms(longest / 2) && pause <= ms(longest), "{pause:?} of {longest} ms");
            worker.now += pause;
            worker.claims(Reason::Retry);
            assert!(!worker.wait.claim_failed(worker.now), "not again");
        }
        worker.now += ms(1000);
        worker.claims(Reason::Retry);
        worker.is_answered(NOTHING);
        assert!(!worker.wait.is_failing());
        assert!(worker.sleep() > ms(1000), "the store works and nothing is due");
    }

    #[test]
    fn degraded_mode_looks_at_intervals_until_a_heartbeat() {
        let mut worker = Worker::idle();
        worker.now = ms(9_999);
        assert!(!worker.wait.degrade(worker.now));
        worker.now = ms(10_000);
        assert!(worker.wait.degrade(worker.now));
        assert!(!worker.wait.degrade(worker.now), "entered once");
        assert!(worker.next() == Next::Claim(Reason::Degraded) || worker.sleep() <= ms(30_000));
        worker.now += ms(30_000);
        for _ in 0..100 {
            worker.claims(Reason::Degraded);
            worker.is_answered(NOTHING);
            let pause = worker.sleep();
            assert!(pause >= ms(24_000) && pause <= ms(36_000), "{pause:?}");
            worker.now += pause;
        }
        assert!(worker.beats(), "left");
        assert!(!worker.beats(), "left once");
        worker.sleeps_until(worker.now + ms(10_000));
    }
}
