//! What a store knows of the rules by which its runs were armed, on both databases.

use reveille_shared::model::history::HistoryKind;
use reveille_shared::model::run::{RunState, Successor};
use reveille_shared::model::zone::rules;
use reveille_shared::store::{HistoryFilter, HistoryPage, Registration, ZoneMove, ZonePage, ZoneStanding};
use uuid::Uuid;

use crate::store_conformance::{Fixture, START, cron, finish, now, on_both, registration};

on_both! {
    what_is_armed_says_by_which_rules,
    a_run_is_moved_once_and_fenced,
    what_older_processes_arm_is_unsure,
}

fn mine() -> i32 {
    rules::armed_by().number()
}

async fn examined(f: &Fixture, rules: i32) -> Vec<Uuid> {
    let ZonePage { zoned, last } = f.store.zone_examine(rules, None, 100).await.unwrap();
    if let Some(last) = last {
        assert_eq!(f.store.zone_examine(rules, Some(last), 100).await.unwrap(), ZonePage::default());
    }
    zoned.into_iter().map(|zoned| zoned.id).collect()
}

async fn standing(f: &Fixture) -> (i32, i32, bool) {
    let ZoneStanding { version, examined, unsure } = f.store.wake_forecast().await.unwrap().1.zones;
    (version, examined, unsure)
}

async fn what_is_armed_says_by_which_rules(f: Fixture) {
    assert_eq!(standing(&f).await, (0, 0, false));
    let calendar = f.register(registration("calendar", "1", cron(START + 10))).await;
    f.register(registration("now", "1", now())).await;
    let paused = f.register(registration("paused", "1", cron(START + 10))).await;
    f.store.schedule_pause(paused).await.unwrap();
    assert!(examined(&f, mine()).await.is_empty(), "by these rules");
    assert_eq!(examined(&f, mine() + 1).await, [calendar], "by older ones; what is armed by no zone is not among them");
    f.store.zone_begin(mine()).await.unwrap();
    f.store.zone_begin(mine() - 1).await.unwrap();
    f.store.zone_end(mine()).await.unwrap();
    assert_eq!(standing(&f).await, (mine(), mine(), false), "the newest wins");
    let page = f.store.zone_examine(mine() + 1, None, 2).await.unwrap();
    let rest = f.store.zone_examine(mine() + 1, page.last, 2).await.unwrap();
    assert_eq!((page.zoned.len() + rest.zoned.len(), rest.last.is_some()), (1, true), "in parts");
}

async fn a_run_is_moved_once_and_fenced(f: Fixture) {
    let told = Registration { history_check: true, ..registration("a", "1", cron(START + 3_600_000)) };
    let id = f.register(told).await;
    let zoned = f.store.zone_examine(mine() + 1, None, 10).await.unwrap().zoned.remove(0);
    assert_eq!(
        (zoned.id, zoned.revision, zoned.nominal_at, zoned.attempt, zoned.taken),
        (id, 1, START + 3_600_000, 0, None)
    );
    let change = ZoneMove {
        id,
        revision: 1,
        run_id: zoned.run_id,
        from: zoned.nominal_at,
        to: START + 5_000,
        rules: mine() + 1,
    };
    for stale in [
        ZoneMove { revision: 2, ..change.clone() },
        ZoneMove { run_id: Uuid::now_v7(), ..change.clone() },
        ZoneMove { id: Uuid::now_v7(), ..change.clone() },
    ] {
        assert_eq!(f.store.zone_move(&stale).await.unwrap(), None);
    }
    assert_eq!(f.store.zone_move(&change).await.unwrap(), Some(START + 5_000));
    assert_eq!(f.armed(id).await, Some(START + 5_000));
    assert!(examined(&f, mine() + 1).await.is_empty());
    let filter = HistoryFilter { schedule_id: Some(id), kind: Some(HistoryKind::Rearmed), ..HistoryFilter::default() };
    let history =
        f.store.history_list(&filter, &HistoryPage { after: None, ascending: false, limit: 9 }).await.unwrap();
    assert_eq!(history.len(), 1);
    let detail = history[0].detail.as_deref().unwrap();
    assert!(detail.starts_with("moved from 2027-01-15T09:00:00Z to 2027-01-15T08:00:05Z"), "{detail}");
    // It fires once, at the new instant, and is not moved to where a run has been.
    f.now.set(START + 5_000);
    let run = f.claim(9).await.runs.remove(0);
    assert_eq!((run.id, run.nominal_at), (zoned.run_id, START + 5_000));
    assert_eq!(f.store.zone_move(&change).await.unwrap(), None, "it is running");
    f.settle(&run, finish(RunState::Succeeded, Some(Successor::At(START + 90_000_000)))).await;
    let next = f.store.zone_examine(mine() + 1, None, 10).await.unwrap().zoned.remove(0);
    assert_eq!(next.taken, Some(START + 5_000));
    let back = ZoneMove { run_id: next.run_id, from: next.nominal_at, ..change };
    assert_eq!(f.store.zone_move(&back).await.unwrap(), None, "that instant has been");
    // One that was due already is due at once.
    let late = ZoneMove { to: START + 4_000, ..back };
    assert_eq!(f.store.zone_move(&late).await.unwrap(), Some(START + 5_000));
}

async fn what_older_processes_arm_is_unsure(f: Fixture) {
    f.store.zone_begin(mine() + 1).await.unwrap();
    let id = f.register(registration("a", "1", cron(START + 10))).await;
    f.register(registration("b", "1", now())).await;
    assert_eq!(standing(&f).await, (mine() + 1, 0, true));
    let unsure = f.store.zone_unsure(10).await.unwrap();
    assert_eq!(unsure.iter().map(|zoned| zoned.id).collect::<Vec<_>>(), [id]);
    f.store.zone_sure(&[unsure[0].run_id], mine() + 1).await.unwrap();
    assert_eq!(standing(&f).await, (mine() + 1, 0, false));
    // So is what they settle.
    f.now.set(START + 10);
    for run in f.claim(9).await.runs {
        let next = (run.schedule_id == id).then_some(Successor::At(START + 20));
        f.settle(&run, finish(RunState::Succeeded, next)).await;
    }
    assert_eq!(f.store.zone_unsure(10).await.unwrap().len(), 1);
}
