//! The planner of the sweeps.

use std::time::Duration;

use reveille_monitor::sweep::{BATCH, Sweep};
use reveille_monitor::watch::Moment;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn read(sweep: &mut Sweep, now: u64, next_prune: Option<i64>) {
    let db_ms = i64::try_from(now).unwrap();
    sweep.on_reading(Moment { at: ms(now), db_ms }, next_prune);
}

#[test]
fn sweeps_when_the_time_has_come() {
    let cases = [(None, None), (Some(500), Some(ms(1_000))), (Some(5_000), Some(ms(5_000)))];
    for (next_prune, deadline) in cases {
        let mut sweep = Sweep::new();
        read(&mut sweep, 1_000, next_prune);
        assert_eq!(sweep.deadline(), deadline, "{next_prune:?}");
        assert_eq!(sweep.is_due(ms(1_000)), deadline == Some(ms(1_000)));
    }
}

#[test]
fn a_sweep_pauses_between_batches_and_rests_after_the_last() {
    let full = BATCH.unsigned_abs();
    let mut sweep = Sweep::new();
    read(&mut sweep, 1_000, Some(0));
    sweep.on_batch(ms(1_010), ms(10), full);
    assert_eq!(sweep.deadline(), Some(ms(1_110)), "a short batch: 100 ms");
    sweep.on_batch(ms(1_210), ms(100), full);
    assert_eq!(sweep.deadline(), Some(ms(1_610)), "a long one: four times as long");
    // A look meanwhile must not shorten the pause.
    read(&mut sweep, 1_300, Some(0));
    assert_eq!(sweep.deadline(), Some(ms(1_610)));
    sweep.on_batch(ms(1_620), ms(10), 3);
    assert_eq!(sweep.deadline(), None);
    // More has become old: not before a minute is over.
    read(&mut sweep, 2_000, Some(1_900));
    assert_eq!(sweep.deadline(), Some(ms(61_620)));
}
