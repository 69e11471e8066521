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
use reveille_shared::runtime::backoff::Backoff;

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
    /// The monitor sees due runs that nobody claims.
    Nudge,
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
            Self::Nudge => "nudge",
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
            BusEvent::Nudge(state) => {
                self.waiter.heard(state);
                self.waiter.owe_claim();
                self.owed.get_or_insert(Reason::Nudge);
                self.news();
            }
            BusEvent::Soon(at) => self.hint(*at),
            BusEvent::Heartbeat(state) => {
                self.waiter.heard(state);
                self.heartbeat_at = now;
                return self.check_at.take().is_some();
            }
            BusEvent::Disconnected => self.bus_grace = self.bus_grace.map(|_| now),
            BusEvent::Resigned | BusEvent::StagesWanted | BusEvent::BacklogWanted => {}
        }
        false
    }

    /// Something is due at `at`: this worker's own settles made it so, or the bus says it beside the state.
    pub(crate) fn hint(&mut self, at: UnixMs) {
        self.waiter.hint(at);
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
mod tests;
