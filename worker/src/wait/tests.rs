//! The rules of waiting, each with the clock set to the moment that shows it.

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
    worker.wait.hint(DB_START + 700);
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
fn what_is_soon_is_claimed_beside_what_is_armed() {
    let mut worker = Worker::idle();
    worker.hears(&BusEvent::Wake(state(2, DB_START + 500)));
    worker.hears(&BusEvent::Soon(DB_START + 700));
    worker.sleeps_until(ms(501));
    worker.hears(&BusEvent::Soon(0));
    worker.claims(Reason::Due); // whatever its own clock shows
    worker.hears(&BusEvent::Soon(0));
    worker.is_answered(Answered { next_at: Some(DB_START + 500), taken: 1, more: false });
    worker.claims(Reason::Due); // the claim before may have missed it
    worker.is_answered(Answered { next_at: Some(DB_START + 500), taken: 0, more: false });
    worker.sleeps_until(ms(501));
}

#[test]
fn what_is_soon_waits_for_no_pause_but_that_of_a_store_that_fails() {
    let mut worker = Worker::idle();
    worker.hears(&BusEvent::Soon(0));
    worker.claims(Reason::Due);
    worker.is_answered(Answered { next_at: None, taken: 0, more: true });
    assert!(worker.sleep() > ms(0), "others hold what is due");
    worker.hears(&BusEvent::Soon(0));
    worker.claims(Reason::Retry);
    assert!(worker.wait.claim_failed(worker.now));
    worker.hears(&BusEvent::Soon(0));
    assert!(worker.sleep() > ms(0));
}

#[test]
fn a_nudge_is_a_reason_to_claim_whatever_is_armed() {
    let mut worker = Worker::idle();
    worker.hears(&BusEvent::Nudge(state(2, DB_START + 5_000)));
    worker.claims(Reason::Nudge);
    worker.is_answered(Answered { next_at: Some(DB_START + 5_000), taken: 0, more: false });
    worker.sleeps_until(ms(5_001));
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
