//! History, timeline and retention, on both databases.

use reveille_shared::model::history::HistoryKind;
use reveille_shared::model::lateness::LateCause;
use reveille_shared::model::run::{AttemptRecord, ClaimedRun, Exit, OutcomeCode, RunState, Settlement, Successor};
use reveille_shared::model::schedule::ClientKey;
use reveille_shared::store::{HistoryFilter, HistoryPage, HistoryRow, Registration, Selection};
use uuid::Uuid;

use crate::store_conformance::{Fixture, RETAIN_DEAD, RETAIN_HISTORY, START, cron, finish, registration, retry};

/// Makes each of these bodies a test on both databases.
macro_rules! on_both {
    ($($body:ident),* $(,)?) => {
        mod sqlite { $(#[tokio::test] async fn $body() { super::$body(super::Fixture::sqlite().await).await; })* }
        mod postgres { $(#[tokio::test] async fn $body() { super::$body(super::Fixture::postgres().await).await; })* }
    };
}

on_both! {
    tells_the_story_of_a_schedule_that_asks_for_it,
    tells_nothing_of_one_that_does_not,
    tells_of_runs_that_were_not_dispatched,
    a_copy_of_a_settlement_tells_nothing_again,
    selects_by_each_filter,
    pages_in_both_orders,
    prunes_each_kind_after_its_own_time,
    a_settle_writes_the_timeline,
    a_pause_by_a_target_that_is_gone_is_told,
}

fn asking(key: &str, fingerprint: &str, at: i64) -> Registration {
    Registration { history_check: true, ..registration(key, fingerprint, cron(at)) }
}

fn all() -> HistoryPage {
    HistoryPage { after: None, ascending: true, limit: 1000 }
}

async fn history(f: &Fixture, filter: HistoryFilter) -> Vec<HistoryRow> {
    f.store.history_list(&filter, &all()).await.unwrap()
}

fn record(run: &ClaimedRun, late_cause: Option<LateCause>) -> AttemptRecord {
    AttemptRecord {
        attempt: run.attempt,
        started_at: run.due_at + 70,
        ended_at: run.due_at + 95,
        worker: "w1".to_owned(),
        woken_at: Some(run.due_at + 10),
        first_byte_at: Some(run.due_at + 90),
        late_cause,
    }
}

async fn settle(f: &Fixture, run: &ClaimedRun, exit: Exit, attempt: Option<AttemptRecord>) {
    let settlement = Settlement { run_id: run.id, lease_token: run.lease_token, exit, attempt };
    f.store.run_settle(&[settlement]).await.unwrap();
}

async fn tells_the_story_of_a_schedule_that_asks_for_it(f: Fixture) {
    use HistoryKind::*;
    let id = f.register(asking("a", "1", START + 10)).await;
    f.register(asking("a", "1", START + 10)).await; // unchanged
    f.now.set(START + 20);
    let first = f.claim(1).await.runs.remove(0);
    settle(&f, &first, retry(30), Some(record(&first, Some(LateCause::SlotsBusy)))).await;
    f.now.set(START + 60);
    let again = f.claim(1).await.runs.remove(0);
    let ended = finish(RunState::Succeeded, Some(Successor::At(START + 1000)));
    settle(&f, &again, ended, Some(record(&again, None))).await;
    f.now.set(START + 70);
    let renamed = Registration { name: "other".to_owned(), ..asking("a", "2", START + 2000) };
    f.register(renamed.clone()).await;
    f.store
        .schedule_update(&Registration { id, fingerprint: "3".to_owned(), run_id: Uuid::now_v7(), ..renamed })
        .await
        .unwrap();
    f.store.schedule_pause(id).await.unwrap();
    f.store.schedule_pause(id).await.unwrap(); // already
    let paused = f.store.schedule_get(id).await.unwrap().unwrap();
    f.store.schedule_resume(id, paused.revision, &cron(START + 3000)).await.unwrap();
    let triggered = f.store.schedule_trigger(id).await.unwrap();
    f.now.set(START + 80);
    f.store.schedule_delete(&Selection::Id(id)).await.unwrap();

    let told = history(&f, HistoryFilter { schedule_id: Some(id), ..HistoryFilter::default() }).await;
    let kinds: Vec<HistoryKind> = told.iter().map(|row| row.kind).collect();
    assert_eq!(kinds, [Registered, Executed, Reexecuted, Updated, Updated, Paused, Resumed, Triggered, Deleted]);
    let revisions: Vec<i64> = told.iter().map(|row| row.revision).collect();
    assert_eq!(revisions, [1, 1, 1, 2, 3, 4, 5, 5, 6]);
    assert!(told.windows(2).all(|pair| (pair[0].at, pair[0].id) < (pair[1].at, pair[1].id)));
    let client = ClientKey { key: "a".to_owned(), application: "app".to_owned(), ..ClientKey::default() };
    assert!(told.iter().all(|row| row.client == client && row.schedule_id == id));
    assert_eq!(told[0].run_id, Some(first.id));
    assert_eq!(
        told[1],
        HistoryRow {
            id: told[1].id,
            at: START + 20,
            kind: Executed,
            schedule_id: id,
            run_id: Some(first.id),
            client,
            name: "näme ' \" \\ 🎺".to_owned(),
            revision: 1,
            attempt: Some(1),
            outcome: Some(OutcomeCode::Timeout),
            state: Some(RunState::Pending),
            http_status: None,
            lag_ms: Some(70),
            duration_ms: Some(25),
            late_cause: Some(LateCause::SlotsBusy),
            detail: Some("slow".to_owned()),
            worker: Some("w1".to_owned()),
        }
    );
    assert_eq!((told[2].attempt, told[2].state, told[2].http_status), (Some(2), Some(RunState::Succeeded), Some(418)));
    assert_eq!(told[2].detail.as_deref(), Some("a\u{fffd}b"));
    assert_eq!((told[4].name.as_str(), told[4].at), ("other", START + 70));
    assert_eq!(told[5].run_id, None);
    assert_eq!(told[7].run_id, Some(triggered.run_id));
    assert_eq!((told[8].at, told[8].run_id), (START + 80, None));
}

async fn tells_nothing_of_one_that_does_not(f: Fixture) {
    let id = f.register(registration("a", "1", cron(START))).await;
    let run = f.claim(1).await.runs.remove(0);
    settle(&f, &run, finish(RunState::Failed, Some(Successor::At(START + 10))), Some(record(&run, None))).await;
    f.store.schedule_trigger(id).await.unwrap();
    f.store.schedule_pause(id).await.unwrap();
    let paused = f.store.schedule_get(id).await.unwrap().unwrap();
    f.store.schedule_resume(id, paused.revision, &cron(START + 30)).await.unwrap();
    f.store.schedule_delete(&Selection::Id(id)).await.unwrap();
    assert_eq!(history(&f, HistoryFilter::default()).await, []);
    // And not any more of one that does not ask any more.
    let id = f.register(asking("b", "1", START + 50)).await;
    f.register(registration("b", "2", cron(START + 60))).await;
    f.store.schedule_delete(&Selection::Id(id)).await.unwrap();
    assert_eq!(history(&f, HistoryFilter::default()).await.len(), 1);
}

async fn tells_of_runs_that_were_not_dispatched(f: Fixture) {
    for key in ["dead", "back", "gone"] {
        f.register(asking(key, "1", START)).await;
    }
    let runs = f.claim(10).await.runs;
    for run in &runs {
        let schedule = f.store.schedule_get(run.schedule_id).await.unwrap().unwrap();
        let client = history(&f, HistoryFilter { schedule_id: Some(schedule.id), ..HistoryFilter::default() }).await;
        match client[0].client.key.as_str() {
            "dead" => settle(&f, run, finish(RunState::Dead, None), None).await,
            "back" => settle(&f, run, Exit::HandBack { wait_ms: 0, late_cause: None }, None).await,
            _ => {
                f.store.schedule_delete(&Selection::Id(schedule.id)).await.unwrap();
                settle(&f, run, Exit::HandBack { wait_ms: 0, late_cause: None }, None).await;
            }
        }
    }
    let dropped = history(&f, HistoryFilter { kind: Some(HistoryKind::Dropped), ..HistoryFilter::default() }).await;
    let mut told: Vec<_> = dropped
        .iter()
        .map(|row| (row.client.key.as_str(), row.state, row.outcome, row.lag_ms, row.duration_ms))
        .collect();
    told.sort_by_key(|told| told.0);
    let (dead, gone) = (Some(RunState::Dead), Some(RunState::Cancelled));
    assert_eq!(
        told,
        [
            ("dead", dead, Some(OutcomeCode::HttpStatus), None, None),
            ("gone", gone, Some(OutcomeCode::Replaced), None, None)
        ]
    );
}

async fn a_copy_of_a_settlement_tells_nothing_again(f: Fixture) {
    f.register(asking("a", "1", START)).await;
    let run = f.claim(1).await.runs.remove(0);
    let stale = ClaimedRun { lease_token: 9, ..run.clone() };
    let exit = finish(RunState::Succeeded, Some(Successor::At(START + 1000)));
    for run in [&stale, &run, &run] {
        settle(&f, run, exit.clone(), Some(record(run, None))).await;
    }
    assert_eq!(history(&f, HistoryFilter::default()).await.len(), 2);
}

async fn selects_by_each_filter(f: Fixture) {
    let of = |application: &str, group: &str, operation: &str, kind: &str, at| {
        let client = ClientKey {
            application: application.to_owned(),
            group: group.to_owned(),
            operation: operation.to_owned(),
            key: format!("{application}{group}"),
            kind: kind.to_owned(),
        };
        Registration { client, ..asking("", "1", at) }
    };
    let id = f.register(of("chef", "north", "cook", "t1", START)).await;
    f.register(of("chef", "south", "cook", "t2", START + 9000)).await;
    f.register(of("", "north", "", "t1", START + 9000)).await;
    let run = f.claim(1).await.runs.remove(0);
    f.now.set(START + 10);
    settle(&f, &run, retry(0), Some(record(&run, None))).await;
    let count = async |filter: HistoryFilter| history(&f, filter).await.len();
    let any = HistoryFilter::default;
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(count(any()).await, 4);
    assert_eq!(count(HistoryFilter { application: some("chef"), ..any() }).await, 3);
    assert_eq!(count(HistoryFilter { application: some(""), ..any() }).await, 1, "an empty field is a value too");
    assert_eq!(count(HistoryFilter { application: some("' OR true --"), ..any() }).await, 0);
    assert_eq!(count(HistoryFilter { group: some("north"), ..any() }).await, 3);
    assert_eq!(count(HistoryFilter { application: some("chef"), group: some("south"), ..any() }).await, 1);
    assert_eq!(count(HistoryFilter { key: some("chefnorth"), ..any() }).await, 2);
    assert_eq!(count(HistoryFilter { operation: some("cook"), ..any() }).await, 3);
    assert_eq!(count(HistoryFilter { client_type: some("t2"), ..any() }).await, 1);
    assert_eq!(count(HistoryFilter { schedule_id: Some(id), ..any() }).await, 2);
    assert_eq!(count(HistoryFilter { run_id: Some(run.id), ..any() }).await, 2);
    assert_eq!(count(HistoryFilter { kind: Some(HistoryKind::Registered), ..any() }).await, 3);
    assert_eq!(count(HistoryFilter { kind: Some(HistoryKind::Executed), ..any() }).await, 1);
    assert_eq!(count(HistoryFilter { outcome: Some(OutcomeCode::Timeout), ..any() }).await, 1);
    assert_eq!(count(HistoryFilter { outcome: Some(OutcomeCode::Ok), ..any() }).await, 0);
    assert_eq!(count(HistoryFilter { from: Some(START + 10), ..any() }).await, 1);
    assert_eq!(count(HistoryFilter { to: Some(START + 10), ..any() }).await, 3);
    assert_eq!(count(HistoryFilter { from: Some(START), to: Some(START), ..any() }).await, 0);
}

async fn pages_in_both_orders(f: Fixture) {
    // Several in one instant: only the id orders them.
    let batch: Vec<Registration> = (0..5).map(|key| asking(&key.to_string(), "1", START + 100)).collect();
    f.store.schedule_upsert(&batch).await.unwrap();
    f.now.set(START + 1);
    f.register(asking("later", "1", START + 100)).await;
    let whole: Vec<i64> = history(&f, HistoryFilter::default()).await.iter().map(|row| row.id).collect();
    assert_eq!(whole.len(), 6);
    for ascending in [true, false] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = HistoryPage { after, ascending, limit: 2 };
            let rows = f.store.history_list(&HistoryFilter::default(), &page).await.unwrap();
            let Some(last) = rows.last() else { break };
            after = Some((last.at, last.id));
            seen.extend(rows.iter().map(|row| row.id));
        }
        if !ascending {
            seen.reverse();
        }
        assert_eq!(seen, whole, "ascending: {ascending}");
    }
}

async fn prunes_each_kind_after_its_own_time(f: Fixture) {
    f.register(asking("dead", "1", START)).await;
    let run = f.claim(1).await.runs.remove(0);
    settle(&f, &run, retry(0), Some(record(&run, None))).await;
    f.now.set(START + 1);
    let run = f.claim(1).await.runs.remove(0);
    settle(&f, &run, finish(RunState::Dead, None), Some(record(&run, None))).await;
    assert_eq!(f.store.wake_forecast().await.unwrap().1.next_prune, Some(START + RETAIN_HISTORY.as_millis() as i64));

    f.now.set(START + RETAIN_HISTORY.as_millis() as i64);
    assert_eq!(f.store.prune(2).await.unwrap(), 2, "a batch of the history of the first instant");
    assert_eq!(f.store.prune(2).await.unwrap(), 0);
    assert_eq!(history(&f, HistoryFilter::default()).await.len(), 1);
    f.now.advance(1);
    assert_eq!(f.store.prune(2).await.unwrap(), 1);

    let dead_until = START + 1 + RETAIN_DEAD.as_millis() as i64;
    assert_eq!(f.store.wake_forecast().await.unwrap().1.next_prune, Some(dead_until));
    f.now.set(dead_until - 1);
    assert_eq!(f.store.prune(100).await.unwrap(), 0);
    let (letter, attempts) = f.store.run_get(run.id).await.unwrap().unwrap();
    assert_eq!((letter.state, attempts.len()), (RunState::Dead, 2), "with its attempts");
    assert!(f.store.schedule_get(run.schedule_id).await.unwrap().is_some(), "and its schedule");
    f.now.set(dead_until);
    assert_eq!(f.store.prune(100).await.unwrap(), 4);
    assert_eq!(f.store.wake_forecast().await.unwrap().1.next_prune, None);
}

async fn a_settle_writes_the_timeline(f: Fixture) {
    let id = f.register(registration("a", "1", cron(START + 5))).await;
    f.now.set(START + 20);
    let run = f.claim(1).await.runs.remove(0);
    assert_eq!(run.created_at, START);
    settle(&f, &run, retry(30), Some(record(&run, Some(LateCause::NoWorker)))).await;
    let timeline = async |run: &ClaimedRun| {
        let (row, _) = f.store.run_get(run.id).await.unwrap().unwrap();
        (row.woken_at, row.dispatched_at, row.first_byte_at, row.late_cause)
    };
    let first = run.due_at;
    let late = Some(LateCause::NoWorker);
    assert_eq!(timeline(&run).await, (Some(first + 10), Some(first + 70), Some(first + 90), late));
    f.now.set(START + 60);
    let run = f.claim(1).await.runs.remove(0);
    let second = run.due_at;
    let exit = finish(RunState::Succeeded, Some(Successor::At(START + 1000)));
    settle(&f, &run, exit, Some(AttemptRecord { first_byte_at: None, ..record(&run, None) })).await;
    assert_eq!(timeline(&run).await, (Some(second + 10), Some(second + 70), None, late), "the cause is kept");
    let (_, attempts) = f.store.run_get(run.id).await.unwrap().unwrap();
    assert_eq!(attempts.len(), 1, "only what failed is kept");

    // The successor came into being with the settle; what replaces it begins anew.
    f.now.set(START + 2000);
    let successor = f.claim(1).await.runs.remove(0);
    assert_eq!((successor.created_at, successor.due_at), (START + 60, START + 1000));
    settle(&f, &successor, retry(9000), Some(record(&successor, late))).await;
    f.register(registration("a", "2", cron(START + 3000))).await;
    let armed = f.store.run_list(id, None, 10).await.unwrap().remove(0);
    assert_eq!((armed.nominal_at, armed.late_cause, armed.dispatched_at), (START + 3000, None, None));
    f.now.set(START + 3000);
    assert_eq!(f.claim(1).await.runs[0].created_at, START + 2000);
}

async fn a_pause_by_a_target_that_is_gone_is_told(f: Fixture) {
    let id = f.register(asking("a", "1", START)).await;
    let run = f.claim(1).await.runs.remove(0);
    let mut exit = finish(RunState::Failed, None);
    if let Exit::Finish { pauses, .. } = &mut exit {
        *pauses = true;
    }
    settle(&f, &run, exit.clone(), Some(record(&run, None))).await;
    settle(&f, &run, exit, Some(record(&run, None))).await; // a copy
    let told = history(&f, HistoryFilter { schedule_id: Some(id), ..HistoryFilter::default() }).await;
    let mut kinds: Vec<(HistoryKind, i64)> = told.iter().map(|row| (row.kind, row.revision)).collect();
    kinds.sort_by_key(|(kind, _)| *kind as i16);
    assert_eq!(kinds, [(HistoryKind::Registered, 1), (HistoryKind::Executed, 1), (HistoryKind::Paused, 2)]);
}
