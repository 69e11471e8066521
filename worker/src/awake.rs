//! What the claimer remembers of how it came to a claim: since when it is awake, and what held it up. From this
//! a late run's cause is told.
//!
//! Never decides anything: a worker that forgot all of it would claim just the same. Instants are monotonic.

use std::time::Duration;

use reveille_shared::model::UnixMs;
use reveille_shared::model::lateness::Wakeup;
use reveille_shared::runtime::clock::DbClock;

/// Since when the worker is awake. It falls asleep when a claim has taken all there was.
pub(crate) struct Awake {
    started: Duration,
    since: Option<Duration>,
    /// Whether all slots are taken.
    is_full: bool,
    busy_until: Option<Duration>,
    failed_until: Option<Duration>,
}

impl Awake {
    /// A worker that starts.
    pub(crate) fn new(now: Duration) -> Self {
        Self { started: now, since: None, is_full: false, busy_until: None, failed_until: None }
    }

    /// So many slots are free.
    pub(crate) fn slots(&mut self, free: usize, now: Duration) {
        if self.is_full && free > 0 {
            self.busy_until = Some(now);
        }
        self.is_full = free == 0;
    }

    pub(crate) fn claim_sent(&mut self, now: Duration) {
        self.since.get_or_insert(now);
    }

    pub(crate) fn claim_failed(&mut self, now: Duration) {
        self.failed_until = Some(now);
    }

    /// A claim was committed at `claimed_at`; `more`: it left some behind.
    pub(crate) fn claimed(&mut self, clock: &DbClock, claimed_at: UnixMs, more: bool) -> Wakeup {
        let (now, db_now) = (clock.clock().monotonic(), clock.now_ms());
        let told = |at: Duration| {
            let ago = i64::try_from(now.saturating_sub(at).as_millis()).unwrap_or(i64::MAX);
            db_now.saturating_sub(ago).min(claimed_at)
        };
        let wakeup = Wakeup {
            started_at: told(self.started),
            busy_until: self.busy_until.map(told),
            woken_at: told(self.since.unwrap_or(now)),
            failed_until: self.failed_until.map(told),
            claimed_at,
        };
        if !more {
            (self.since, self.failed_until) = (None, None);
        }
        wakeup
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reveille_shared::runtime::clock::TestClock;

    use super::*;

    #[test]
    fn a_worker_is_awake_from_its_first_claim_until_one_leaves_nothing_behind() {
        let test_clock = TestClock::new();
        let clock = DbClock::new(Arc::new(test_clock.clone()));
        clock.observe(100_000);
        let now = || clock.clock().monotonic();
        let pass = |ms| test_clock.advance(Duration::from_millis(ms));
        let mut awake = Awake::new(now());
        pass(10);
        awake.claim_sent(now());
        pass(10);
        awake.claim_failed(now());
        pass(10);
        awake.claim_sent(now());
        let first = Wakeup {
            started_at: 100_000,
            busy_until: None,
            woken_at: 100_010,
            failed_until: Some(100_020),
            claimed_at: 100_030,
        };
        assert_eq!(awake.claimed(&clock, 100_030, true), first);
        awake.slots(0, now());
        pass(10);
        awake.slots(1, now());
        awake.claim_sent(now());
        let second = Wakeup { busy_until: Some(100_040), claimed_at: 100_040, ..first };
        assert_eq!(awake.claimed(&clock, 100_040, false), second);
        pass(10);
        awake.claim_sent(now());
        let third = Wakeup { woken_at: 100_050, failed_until: None, claimed_at: 100_050, ..second };
        assert_eq!(awake.claimed(&clock, 100_050, false), third);
    }
}
