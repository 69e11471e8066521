//! The planner of a standby.

use std::time::Duration;

use reveille_monitor::election::{Candidacy, HOLD_OFF};
use reveille_shared::bus::BusEvent;
use reveille_shared::bus::wake::{NEVER, WakeState};

const TTL: Duration = Duration::from_secs(6);
const NOW: Duration = Duration::from_secs(100);

fn heartbeat() -> BusEvent {
    let state =
        WakeState { nonce: 1, epoch: 1, seq: 1, next_ms: NEVER, mark: String::new(), since_ms: NEVER, db_ms: 0 };
    BusEvent::Heartbeat(state)
}

/// The plan after `act` lies within the window, whatever the dice say.
#[track_caller]
fn check(name: &str, act: impl Fn(&mut Candidacy), window: Option<(u64, u64)>) {
    for seed in 0..200 {
        let mut candidacy = Candidacy::new(TTL, fastrand::Rng::with_seed(seed));
        act(&mut candidacy);
        let Some((from, to)) = window else {
            assert_eq!(candidacy.stand_at(), None, "{name}");
            continue;
        };
        let after = candidacy.stand_at().unwrap().saturating_sub(NOW);
        let expected = Duration::from_millis(from)..=Duration::from_millis(to);
        assert!(expected.contains(&after), "{name}: {after:?} is not in {expected:?}");
    }
}

#[test]
fn stands_when_nobody_seems_to_lead() {
    let connected = |candidacy: &mut Candidacy| candidacy.on_event(NOW, &BusEvent::Connected(None));
    check("before the bus is there", |_| {}, None);
    check("connected", connected, Some((0, 500)));
    check("a heartbeat", |candidacy| candidacy.on_event(NOW, &heartbeat()), Some((6_000, 6_500)));
    check("another leads", |candidacy| candidacy.on_led(NOW), Some((6_000, 6_500)));
    check("resigned", |candidacy| candidacy.on_event(NOW, &BusEvent::Resigned), Some((0, 50)));
    check("its own term was lost", |candidacy| candidacy.on_lost(NOW), Some((0, 50)));
    check("the bus failed", |candidacy| candidacy.on_failed(NOW), Some((500, 1_000)));
    check(
        "disconnected",
        |candidacy| {
            connected(candidacy);
            candidacy.on_event(NOW, &BusEvent::Disconnected);
        },
        None,
    );
}

#[test]
fn standbys_do_not_all_stand_at_once() {
    let stand_at = |seed| {
        let mut candidacy = Candidacy::new(TTL, fastrand::Rng::with_seed(seed));
        candidacy.on_event(NOW, &heartbeat());
        candidacy.stand_at().unwrap()
    };
    assert_ne!(stand_at(1), stand_at(2));
}

#[test]
fn a_monitor_without_a_database_leaves_the_field_for_a_while() {
    let hold_off = u64::try_from(HOLD_OFF.as_millis()).unwrap();
    let gave_up = |candidacy: &mut Candidacy| candidacy.on_gave_up(NOW);
    check("gave up", gave_up, Some((hold_off, hold_off)));
    // It hears its own resignation.
    check(
        "resigned after it gave up",
        |candidacy| {
            gave_up(candidacy);
            candidacy.on_event(NOW, &BusEvent::Resigned);
        },
        Some((hold_off, hold_off)),
    );
}
