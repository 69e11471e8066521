//! The same random operations on SQLite and on PostgreSQL: the same answers, the same tables, and the
//! invariant after every commit.

use reveille_testkit::Postgres;

use crate::store_world::{Kind, Op, Way, World};

const SEEDS: [u64; 4] = [1, 2, 3, 20_261_121];
const STEPS: usize = 150;
const KINDS: [Kind; 4] = [Kind::Cron, Kind::DelayRecur, Kind::Now, Kind::Cron];

#[tokio::test]
async fn random_operations_mean_the_same_on_both_databases() {
    for seed in SEEDS {
        let folder = tempfile::tempdir().unwrap();
        let sqlite_url = format!("sqlite:{}", folder.path().join("parity.db").display());
        let mut sqlite = World::open(&sqlite_url, &KINDS, 100).await;
        let mut postgres = World::open(&Postgres::shared().await.fresh_database().await, &KINDS, 100).await;
        let mut random = fastrand::Rng::with_seed(seed);
        for step in 0..STEPS {
            let op = random_op(&mut random);
            let told = (sqlite.step(op).await, postgres.step(op).await);
            assert_eq!(told.0, told.1, "seed {seed} step {step} {op:?}");
            let tables = (sqlite.abstraction(true).await, postgres.abstraction(true).await);
            assert_eq!(tables.0, tables.1, "seed {seed} step {step} {op:?}");
        }
        sqlite.store.close().await;
        postgres.store.close().await;
    }
}

fn random_op(random: &mut fastrand::Rng) -> Op {
    let schedule = random.usize(..KINDS.len());
    let worker = random.u8(..2);
    match random.u8(..21) {
        0..3 => Op::RegisterSame(schedule),
        3..5 => Op::RegisterChanged(schedule),
        5 => Op::Pause(schedule),
        6 => Op::Resume(schedule),
        7 => Op::Delete(schedule),
        8 => Op::Trigger(schedule),
        9..12 => Op::Claim(worker),
        12 => Op::Crash(worker),
        13..15 => Op::Settle(worker, Way::Success),
        15 => Op::Settle(worker, Way::Failure),
        16 => Op::Settle(worker, Way::HandBack),
        17..19 => Op::Tick,
        19 => Op::Settle(worker, Way::Gone),
        _ => Op::Expire,
    }
}
