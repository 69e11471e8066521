//! The waiter's rules one by one. That together they lose no wake is the model's business.

use std::time::Duration;

use reveille_shared::bus::Beat;
use reveille_shared::bus::waiter::Waiter;
use reveille_shared::bus::wake::{self, NEVER, Publish, SOON_MS, WakeState};
use reveille_shared::model::UnixMs;

/// Nonce, seq, next.
type Heard = (u64, u64, UnixMs);

fn state(nonce: u64, seq: u64, next_ms: UnixMs) -> WakeState {
    WakeState { nonce, epoch: 1, seq, next_ms, mark: String::new(), since_ms: NEVER, db_ms: 0 }
}

fn heard(states: &[Heard]) -> Waiter {
    let mut waiter = Waiter::new();
    for (nonce, seq, next_ms) in states {
        waiter.heard(&state(*nonce, *seq, *next_ms));
    }
    waiter
}

#[test]
fn states_in_order() {
    let cases: &[(&str, &[Heard], Option<UnixMs>)] = &[
        ("nothing heard", &[], None),
        ("nothing scheduled", &[(7, 1, NEVER)], None),
        ("first state", &[(7, 1, 500)], Some(500)),
        ("newer and later replaces", &[(7, 1, 500), (7, 2, 900)], Some(900)),
        ("newer and earlier replaces", &[(7, 1, 500), (7, 2, 100)], Some(100)),
        ("a repetition is ignored", &[(7, 2, 500), (7, 2, 100)], Some(500)),
        ("an older one is ignored", &[(7, 2, 500), (7, 1, 100)], Some(500)),
        ("a new life that knows less keeps the earlier", &[(7, 9, 500), (8, 1, 900)], Some(500)),
        ("a new life that knows more", &[(7, 9, 500), (8, 1, 100)], Some(100)),
        ("a new life is believed from its second state on", &[(7, 9, 500), (8, 1, 900), (8, 2, 900)], Some(900)),
    ];
    for (name, states, armed) in cases {
        assert_eq!(heard(states).armed(), *armed, "{name}");
    }
}

#[test]
fn a_claim_replaces_what_was_told_before_it() {
    let mut waiter = heard(&[(7, 1, 500)]);
    waiter.claim_sent();
    waiter.claim_done(Some(800));
    assert_eq!(waiter.armed(), Some(800));
    waiter.heard(&state(7, 1, 500)); // the heartbeat repeats it
    assert_eq!(waiter.armed(), Some(800));
}

#[test]
fn hints_since_a_claim_was_sent_outlive_its_answer() {
    let mut waiter = heard(&[(7, 1, 500)]);
    waiter.claim_sent();
    waiter.heard(&state(7, 1, 500)); // seen by the claim
    waiter.heard(&state(7, 2, 600)); // not seen
    waiter.heard(&state(7, 3, 700));
    waiter.claim_done(Some(800));
    assert_eq!(waiter.armed(), Some(600));
}

#[test]
fn a_failed_claim_is_still_due() {
    let mut waiter = heard(&[(7, 1, 500)]);
    waiter.claim_sent();
    waiter.heard(&state(7, 2, 900));
    waiter.claim_failed();
    assert_eq!(waiter.armed(), Some(500));
    assert!(waiter.is_due(500) && !waiter.is_due(499) && !waiter.is_claiming());
}

#[test]
fn an_own_hint_holds_until_a_claim_is_sent() {
    let mut waiter = heard(&[(7, 1, 500)]);
    waiter.hint(400);
    waiter.heard(&state(7, 2, 900)); // published before the LOWER of our 400
    assert_eq!(waiter.armed(), Some(400));
    waiter.claim_sent();
    waiter.claim_done(None);
    assert_eq!(waiter.armed(), None);
}

#[test]
fn an_own_hint_during_a_claim_holds_for_the_next() {
    let mut waiter = heard(&[(7, 1, 500)]);
    waiter.claim_sent();
    waiter.hint(600);
    waiter.claim_done(Some(900));
    waiter.heard(&state(7, 2, 900));
    assert_eq!(waiter.armed(), Some(600));
}

#[test]
fn every_connection_owes_a_claim() {
    let mut waiter = heard(&[(7, 1, 500)]);
    waiter.connected(Some(&state(7, 2, 900)));
    assert!(waiter.is_due(0));
    waiter.heard(&state(7, 3, 950));
    assert!(waiter.is_due(0), "a state took the owed claim away");
    waiter.claim_sent();
    waiter.claim_done(Some(900));
    assert_eq!(waiter.armed(), Some(900));
}

#[test]
fn a_lower_after_a_failover_is_heard_once_the_monitor_beat() {
    let mut waiter = heard(&[(7, 10, 900)]);
    let went_back = state(7, 8, 900);
    let lowered = wake::lower(Some(&went_back), 400, 0, 1).state;
    waiter.heard(&lowered);
    assert_eq!(waiter.armed(), Some(900), "its seq is one the worker has had");
    let monitor = Beat { id: "m".to_owned(), epoch: 3, ttl: Duration::ZERO, db_ms: 5, seen_nonce: 7, seen_seq: 10 };
    let beat = wake::beat(Some(&lowered), &monitor, 99);
    assert_eq!((beat.nonce, beat.seq, beat.epoch, beat.db_ms), (99, 11, 3, 5));
    waiter.heard(&beat);
    assert_eq!(waiter.armed(), Some(400));
}

#[test]
fn merged_states_say_what_both_said() {
    for (first, second) in [((7, 1, 500), (7, 2, 900)), ((7, 1, 500), (8, 1, 900)), ((7, 1, 900), (8, 1, 500))] {
        let [earlier, later] = [first, second].map(|(nonce, seq, next_ms)| state(nonce, seq, next_ms));
        let mut merged = heard(&[(7, 0, 950)]);
        merged.heard(&wake::merge(&earlier, later));
        assert_eq!(merged, heard(&[(7, 0, 950), first, second]));
    }
}

#[test]
fn a_set_needs_its_own_mark_on_the_same_life_of_the_key() {
    let marked = wake::mark(Some(&state(7, 1, 500)), "one", 1, 99);
    let lowered = wake::lower(Some(&marked), 600, 0, 99).state;
    for (token, nonce, next) in [("one", 7, Some(600)), ("one", 8, None), ("two", 7, None), ("", 7, None)] {
        let set = wake::set(Some(&lowered), token, nonce, Some(900));
        assert_eq!(set.map(|set| set.state.next_ms), next, "{token} {nonce}");
    }
    assert_eq!(wake::set(None, "one", 7, None), None);
}

#[test]
fn what_is_soon_is_claimed_beside_what_is_told() {
    let mut waiter = heard(&[(7, 1, 500)]);
    waiter.hint(600);
    assert_eq!(waiter.armed(), Some(500), "the passed instant may not be claimed yet");
    waiter.heard(&state(7, 2, 900));
    assert_eq!(waiter.armed(), Some(600));
}

#[test]
fn a_lower_is_silent_while_the_next_instant_lies_ahead_or_it_lies_further_ahead_itself() {
    const NOW: UnixMs = 10_000;
    let cases = [
        ("earlier than one ahead", NOW + 50, NOW + 40, NOW, Publish::State),
        ("later than one ahead", NOW + 50, NOW + 60, NOW, Publish::Nothing),
        ("the same as one ahead", NOW + 1, NOW + 1, NOW, Publish::Nothing),
        ("earlier than one that has passed", NOW - 50, NOW - 60, NOW, Publish::State),
        ("due, and one has passed", NOW - 50, NOW - 40, NOW, Publish::Soon(0)),
        ("due at the very instant that has passed", NOW - 50, NOW - 50, NOW, Publish::Soon(0)),
        ("due now, as the other", NOW, NOW, NOW, Publish::Soon(0)),
        ("in a moment", NOW - 50, NOW + 1, NOW, Publish::Soon(NOW + 1)),
        ("as far ahead as is told", NOW, NOW + SOON_MS, NOW, Publish::Soon(NOW + SOON_MS)),
        ("further ahead", NOW, NOW + SOON_MS + 1, NOW, Publish::Nothing),
        ("nothing is ahead and nobody knows the clock", NOW - 50, NOW, 0, Publish::Nothing),
        ("nothing is scheduled", NEVER, NOW, NOW, Publish::State),
    ];
    for (name, next_ms, at, now, publish) in cases {
        let before = state(7, 3, next_ms);
        let lowered = wake::lower(Some(&before), at, now, 1);
        assert_eq!(lowered.publish, publish, "{name}");
        let expected = match publish {
            Publish::State => WakeState { seq: 4, next_ms: at, since_ms: at, ..before },
            // Beside the state, which keeps it only for the monitor that may be reading.
            Publish::Soon(_) | Publish::Nothing => WakeState { since_ms: at, ..before },
        };
        assert_eq!(lowered.state, expected, "{name}");
    }
}

#[test]
fn instants_out_of_range_are_kept_in_range() {
    assert_eq!(wake::lower(None, -5, 0, 1).state.next_ms, 0);
    assert_eq!(wake::lower(None, i64::MAX, 0, 1).state.next(), None);
}
