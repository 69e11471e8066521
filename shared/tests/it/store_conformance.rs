//! What every store does, method by method, on both databases.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::model::access::Scope;
use reveille_shared::model::run::{
    AttemptRecord, ClaimedRun, Exit, Outcome, OutcomeCode, RunState, Settlement, Successor,
};
use reveille_shared::model::schedule::{ClientKey, ScheduleState};
use reveille_shared::model::timing::{ArmAt, Arming, OnUnchanged};
use reveille_shared::store::{
    ApiKey, Backlog, Change, Claim, Claimed, Forecast, InjectedNow, Page, Registration, Renewal, ScheduleFilter,
    Selection, SettleResult, Settled, Store, StoreError, StoreSettings, open,
};
use reveille_testkit::{PgBouncer, Postgres};
use uuid::Uuid;

pub(crate) const START: i64 = 1_800_000_000_000;
const LEASE: Duration = Duration::from_secs(30);
pub(crate) const RETAIN: Duration = Duration::from_secs(60);
pub(crate) const RETAIN_HISTORY: Duration = Duration::from_secs(120);
pub(crate) const RETAIN_DEAD: Duration = Duration::from_secs(600);

pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) now: InjectedNow,
    _folder: Option<tempfile::TempDir>,
}

impl Fixture {
    async fn open(url: &str, folder: Option<tempfile::TempDir>) -> Self {
        let now = InjectedNow::new(START);
        let settings = StoreSettings {
            injected_now: Some(now.clone()),
            retain_runs: RETAIN,
            retain_dead: RETAIN_DEAD,
            retain_history: RETAIN_HISTORY,
            ..StoreSettings::default()
        };
        let store = open(url, settings).await.unwrap();
        assert!(matches!(store.schema_check().await, Err(StoreError::SchemaBehind)));
        store.migrate().await.unwrap();
        store.migrate().await.unwrap(); // again is nothing
        store.schema_check().await.unwrap();
        Self { store, now, _folder: folder }
    }

    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("conformance.db").display());
        Self::open(&url, Some(folder)).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::open(&Postgres::shared().await.fresh_database().await, None).await
    }

    /// Through PgBouncer in transaction mode.
    pub(crate) async fn pooled() -> Self {
        let url = Postgres::shared().await.fresh_database().await;
        Self::open(&PgBouncer::shared().await.url(&url), None).await
    }

    pub(crate) async fn register(&self, registration: Registration) -> Uuid {
        self.store.schedule_upsert(&[registration]).await.unwrap().schedules[0].id
    }

    pub(crate) async fn claim(&self, limit: i32) -> Claimed {
        self.claim_of(limit, &["default"]).await
    }

    async fn claim_of(&self, limit: i32, queues: &[&str]) -> Claimed {
        let queues = queues.iter().map(|queue| (*queue).to_owned()).collect();
        self.store.run_claim(&Claim { limit, owner: "w1".to_owned(), lease: LEASE, queues }).await.unwrap()
    }

    pub(crate) async fn settle(&self, run: &ClaimedRun, exit: Exit) -> Settled {
        let attempt = exit.outcome().map(|_| AttemptRecord {
            attempt: run.attempt,
            started_at: START,
            ended_at: START + 5,
            worker: "w1".to_owned(),
            woken_at: None,
            first_byte_at: None,
            late_cause: None,
        });
        let settlement = Settlement { run_id: run.id, lease_token: run.lease_token, exit, attempt };
        self.store.run_settle(&[settlement]).await.unwrap()
    }

    /// Resumes a schedule as it is now.
    pub(crate) async fn resume(&self, id: Uuid, arming: &Arming) -> Result<Option<i64>, StoreError> {
        let revision = self.store.schedule_get(id).await?.map_or(0, |schedule| schedule.revision);
        self.store.schedule_resume(id, revision, arming).await
    }

    pub(crate) async fn armed(&self, schedule: Uuid) -> Option<i64> {
        let runs = self.store.run_list(schedule, None, 1000).await.unwrap();
        runs.into_iter().find(|run| run.armed && run.state == RunState::Pending).map(|run| run.due_at)
    }
}

pub(crate) fn registration(key: &str, fingerprint: &str, arming: Arming) -> Registration {
    Registration {
        id: Uuid::now_v7(),
        client: ClientKey { key: key.to_owned(), application: "app".to_owned(), ..ClientKey::default() },
        name: "näme ' \" \\ 🎺".to_owned(),
        payload: r#"{"text":"\u0000 ' \" 🎺"}"#.to_owned(),
        fingerprint: fingerprint.to_owned(),
        queue: "default".to_owned(),
        priority: 0,
        arming,
        run_id: Uuid::now_v7(),
        history_check: false,
    }
}

pub(crate) fn cron(at: i64) -> Arming {
    Arming { at: ArmAt::At(at), calendar: true, unchanged: OnUnchanged::Keep }
}

pub(crate) fn now() -> Arming {
    Arming { at: ArmAt::AfterMs(0), calendar: false, unchanged: OnUnchanged::Rearm }
}

pub(crate) fn finish(state: RunState, successor: Option<Successor>) -> Exit {
    let code = if state == RunState::Succeeded { OutcomeCode::Ok } else { OutcomeCode::HttpStatus };
    let outcome = Outcome { code, http_status: Some(418), detail: "a\0b".to_owned() };
    Exit::Finish { state, outcome, successor, coalesced: 3, skipped: 4, pauses: false }
}

pub(crate) fn retry(wait_ms: i64) -> Exit {
    Exit::Retry { wait_ms, outcome: Outcome::new(OutcomeCode::Timeout, "slow") }
}

/// Makes each of these bodies a test on both databases, and on PostgreSQL behind a pooler.
macro_rules! on_both {
    ($($body:ident),* $(,)?) => {
        mod sqlite { $(#[tokio::test] async fn $body() { super::$body($crate::store_conformance::Fixture::sqlite().await).await; })* }
        mod pooled { $(#[tokio::test] async fn $body() { super::$body($crate::store_conformance::Fixture::pooled().await).await; })* }
        mod postgres { $(#[tokio::test] async fn $body() { super::$body($crate::store_conformance::Fixture::postgres().await).await; })* }
    };
}
pub(crate) use on_both;

on_both! {
    registers_in_the_order_asked,
    keeps_what_it_is_given,
    updates_by_id,
    refuses_a_taken_occurrence,
    claims_by_priority_and_queue_and_never_early,
    says_when_more_may_be_waiting,
    takes_over_expired_leases_under_a_new_token,
    renews_only_what_is_held,
    settles_once_and_recognises_a_copy,
    arms_successors_and_finishes_schedules,
    retries_and_hands_back,
    a_schedule_that_moved_on_gets_no_retry,
    deletes_by_id_and_by_filter,
    lists_in_pages,
    tells_the_monitor,
    prunes_what_is_finished_and_old_and_nothing_else,
    counts_terms_and_statements,
    keeps_keys_until_they_are_taken_back,
    counts_what_an_application_has,
}

async fn registers_in_the_order_asked(f: Fixture) {
    let first =
        f.store.schedule_upsert(&[registration("a", "1", cron(START + 10)), registration("b", "1", now())]).await;
    let first = first.unwrap();
    assert_eq!(first.armed_min, Some(START));
    assert!(first.schedules.iter().all(|schedule| schedule.change == Change::Created && schedule.revision == 1));
    let batch = [
        registration("b", "1", now()),
        registration("c", "1", cron(START + 5)),
        registration("a", "1", cron(START + 99)),
    ];
    let second = f.store.schedule_upsert(&batch).await.unwrap();
    let told: Vec<_> = second.schedules.iter().map(|s| (s.change, s.revision, s.due_at.unwrap() - START)).collect();
    assert_eq!(told, [(Change::Replaced, 2, 0), (Change::Created, 1, 5), (Change::Unchanged, 1, 10)]);
    assert_eq!(second.schedules[0].id, first.schedules[1].id);
    assert_eq!(second.schedules[2].id, first.schedules[0].id);
    assert_eq!(f.store.schedule_upsert(&[]).await.unwrap().armed_min, None);
}

async fn keeps_what_it_is_given(f: Fixture) {
    let given = registration("a", "1", cron(START + 10));
    let id = f.register(given.clone()).await;
    let row = f.store.schedule_get(id).await.unwrap().unwrap();
    assert_eq!((row.payload.as_str(), row.state, row.iterations), (given.payload.as_str(), ScheduleState::Active, 0));
    assert_eq!((row.created_at, row.updated_at), (START, START));
    assert_eq!(row.current.unwrap().due_at, START + 10);
    assert_eq!(f.store.schedule_payload_by_client(&given.client).await.unwrap(), Some(given.payload));
    assert_eq!(f.store.schedule_payload_by_client(&ClientKey::default()).await.unwrap(), None);
    assert!(f.store.schedule_get(Uuid::now_v7()).await.unwrap().is_none());
    assert!(f.store.run_get(Uuid::now_v7()).await.unwrap().is_none());
}

async fn updates_by_id(f: Fixture) {
    let first = f.register(registration("a", "1", cron(START + 10))).await;
    let second = f.register(registration("b", "1", cron(START + 10))).await;
    let update =
        |id, key: &str, fingerprint: &str| Registration { id, ..registration(key, fingerprint, cron(START + 20)) };
    let moved = f.store.schedule_update(&update(first, "c", "2")).await.unwrap();
    assert_eq!((moved.schedules[0].id, moved.schedules[0].revision, moved.armed_min), (first, 2, Some(START + 20)));
    let same = f.store.schedule_update(&update(first, "c", "2")).await.unwrap();
    assert_eq!((same.schedules[0].change, same.schedules[0].revision), (Change::Unchanged, 2));
    let taken = f.store.schedule_update(&update(first, "b", "3")).await.unwrap_err();
    assert!(matches!(taken, StoreError::ClientKeyTaken(holder) if holder == second), "{taken:?}");
    let missing = f.store.schedule_update(&update(Uuid::now_v7(), "x", "1")).await.unwrap_err();
    assert!(matches!(missing, StoreError::NotFound), "{missing:?}");
    assert_eq!(f.armed(first).await, Some(START + 20));
}

async fn refuses_a_taken_occurrence(f: Fixture) {
    let id = f.register(registration("a", "1", cron(START))).await;
    f.claim(1).await;
    let again = f.store.schedule_upsert(&[registration("a", "2", cron(START))]).await.unwrap_err();
    assert!(matches!(again, StoreError::OccurrenceTaken { latest: START }), "{again:?}");
    let update = Registration { id, ..registration("a", "2", cron(START)) };
    let again = f.store.schedule_update(&update).await.unwrap_err();
    assert!(matches!(again, StoreError::OccurrenceTaken { latest: START }), "{again:?}");
    assert_eq!(f.store.schedule_get(id).await.unwrap().unwrap().revision, 1, "nothing was stored");
    // An arming of its own never collides, whatever its instant.
    f.register(registration("a", "3", now())).await;
    assert_eq!(f.armed(id).await, Some(START));
}

async fn claims_by_priority_and_queue_and_never_early(f: Fixture) {
    let with = |key: &str, queue: &str, priority, at| Registration {
        queue: queue.to_owned(),
        priority,
        ..registration(key, "1", cron(at))
    };
    let batch = [
        with("late-low", "default", -5, START - 9),
        with("high", "default", 9, START),
        with("mid-old", "default", 1, START - 2),
        with("mid-new", "default", 1, START - 1),
        with("other", "other", 99, START),
        with("future", "default", 50, START + 1),
        with("far", "other", 0, START + 7),
    ];
    f.store.schedule_upsert(&batch).await.unwrap();
    let order =
        |claimed: &Claimed| claimed.runs.iter().map(|run| (run.priority, run.due_at - START)).collect::<Vec<_>>();
    let claimed = f.claim(3).await;
    // A date in the past is due at the moment of its registration.
    assert_eq!(order(&claimed), [(9, 0), (1, 0), (1, 0)]);
    assert_eq!((claimed.now, claimed.next_at, claimed.more), (START, Some(START + 1), true));
    let claimed = f.claim(3).await;
    assert_eq!(order(&claimed), [(-5, 0)]);
    assert!(!claimed.more);
    assert_eq!(f.claim(3).await.runs, []);
    assert_eq!(order(&f.claim_of(3, &["other"]).await), [(99, 0)]);
    f.now.advance(1);
    let claimed = f.claim_of(10, &["default", "other"]).await;
    assert_eq!((order(&claimed), claimed.next_at), (vec![(50, 1)], Some(START + 7)));
}

async fn says_when_more_may_be_waiting(f: Fixture) {
    for key in ["a", "b", "c", "d"] {
        f.register(registration(key, "1", now())).await;
    }
    assert!(f.claim(2).await.more);
    assert!(!f.claim(3).await.more);
    f.now.advance(30_000);
    let claimed = f.claim(4).await;
    assert_eq!((claimed.runs.len(), claimed.more), (2, true), "half a batch of expired leases, and there are more");
    assert_eq!(f.claim(4).await.runs.len(), 2);
}

async fn takes_over_expired_leases_under_a_new_token(f: Fixture) {
    f.register(registration("a", "1", now())).await;
    let first = f.claim(1).await.runs.remove(0);
    assert_eq!((first.attempt, first.crashes, first.lease_token, first.reclaimed), (1, 0, 1, false));
    f.now.advance(29_999);
    assert_eq!(f.claim(1).await.runs, []);
    f.now.advance(1);
    let second = f.claim(1).await.runs.remove(0);
    assert_eq!((second.id, second.attempt, second.crashes), (first.id, 2, 1));
    assert_eq!((second.lease_token, second.reclaimed), (2, true));
    let late = f.settle(&first, finish(RunState::Failed, None)).await;
    assert_eq!(late.results, [SettleResult::Stale]);
    assert_eq!(
        f.settle(&second, finish(RunState::Succeeded, None)).await.results,
        [SettleResult::Done(RunState::Succeeded)]
    );
}

async fn renews_only_what_is_held(f: Fixture) {
    f.register(registration("a", "1", now())).await;
    let run = f.claim(1).await.runs.remove(0);
    f.now.advance(20_000);
    let held = [(run.id, run.lease_token), (run.id, 9), (Uuid::now_v7(), 1)];
    assert_eq!(f.store.run_renew(&held, LEASE).await.unwrap(), [Renewal::Done, Renewal::Lost, Renewal::Lost]);
    f.now.advance(20_000);
    assert_eq!(f.claim(1).await.runs, [], "renewed until 30 s after the renewal");
    f.now.advance(10_000);
    assert_eq!(f.claim(1).await.runs.len(), 1);
    assert_eq!(f.store.run_renew(&held[..1], LEASE).await.unwrap(), [Renewal::Lost]);
    assert_eq!(f.store.run_renew(&[], LEASE).await.unwrap(), Vec::<Renewal>::new());
}

async fn settles_once_and_recognises_a_copy(f: Fixture) {
    let id = f.register(registration("a", "1", cron(START))).await;
    let run = f.claim(1).await.runs.remove(0);
    let exit = finish(RunState::Failed, Some(Successor::At(START + 60)));
    let settled = f.settle(&run, exit.clone()).await;
    assert_eq!(
        (settled.results, settled.armed_min, settled.now),
        (vec![SettleResult::Done(RunState::Failed)], Some(START + 60), START)
    );
    let copy = f.settle(&run, exit).await;
    assert_eq!((copy.results, copy.armed_min), (vec![SettleResult::Done(RunState::Failed)], None));
    let stranger = Settlement {
        run_id: Uuid::now_v7(),
        lease_token: 1,
        exit: Exit::HandBack { wait_ms: 0, late_cause: None },
        attempt: None,
    };
    assert_eq!(f.store.run_settle(&[stranger]).await.unwrap().results, [SettleResult::Stale]);
    assert_eq!(f.store.run_settle(&[]).await.unwrap().armed_min, None);

    let (row, attempts) = f.store.run_get(run.id).await.unwrap().unwrap();
    assert_eq!((row.state, row.outcome, row.http_status), (RunState::Failed, Some(OutcomeCode::HttpStatus), Some(418)));
    assert_eq!((row.coalesced, row.skipped, row.finished_at, row.lease_until), (3, 4, Some(START), None));
    assert_eq!(row.detail.unwrap(), "a\u{fffd}b", "what PostgreSQL cannot store is replaced");
    assert_eq!((attempts.len(), attempts[0].attempt, attempts[0].ended_at), (1, 1, START + 5));
    assert_eq!(f.store.run_list(id, None, 10).await.unwrap().len(), 2);
}

async fn arms_successors_and_finishes_schedules(f: Fixture) {
    let recurring = f.register(registration("a", "1", cron(START))).await;
    let run = f.claim(1).await.runs.remove(0);
    f.now.advance(5);
    f.settle(&run, finish(RunState::Succeeded, Some(Successor::AfterMs(100)))).await;
    assert_eq!(f.armed(recurring).await, Some(START + 105), "counted from the settle, by the database");
    assert_eq!(f.store.schedule_get(recurring).await.unwrap().unwrap().iterations, 1);

    let once = f.register(registration("b", "1", now())).await;
    let run = f.claim(1).await.runs.remove(0);
    let settled = f.settle(&run, finish(RunState::Succeeded, None)).await;
    assert_eq!(settled.armed_min, None);
    let row = f.store.schedule_get(once).await.unwrap().unwrap();
    assert_eq!((row.state, f.armed(once).await), (ScheduleState::Finished, None));
    assert_eq!(row.current.unwrap().state, RunState::Succeeded);
}

async fn retries_and_hands_back(f: Fixture) {
    let id = f.register(registration("a", "1", cron(START))).await;
    let run = f.claim(1).await.runs.remove(0);
    let busy = Outcome { http_status: Some(503), ..Outcome::new(OutcomeCode::HttpStatus, "busy") };
    let settled = f.settle(&run, Exit::Retry { wait_ms: 500, outcome: busy }).await;
    assert_eq!((settled.results, settled.armed_min), (vec![SettleResult::Done(RunState::Pending)], Some(START + 500)));
    assert_eq!(f.claim(1).await.runs, []);
    f.now.advance(500);
    let second = f.claim(1).await.runs.remove(0);
    assert_eq!((second.id, second.attempt, second.lease_token, second.nominal_at), (run.id, 2, 2, START));
    let handed = f.settle(&second, Exit::HandBack { wait_ms: 0, late_cause: None }).await;
    assert_eq!((handed.results, handed.armed_min), (vec![SettleResult::Done(RunState::Pending)], Some(START + 500)));
    let third = f.claim(1).await.runs.remove(0);
    assert_eq!((third.attempt, third.lease_token), (2, 3), "a hand-back does not count");
    let current = f.store.schedule_get(id).await.unwrap().unwrap().current.unwrap();
    assert_eq!((current.state, current.attempt), (RunState::Running, 2));

    let postponed = f.settle(&third, Exit::HandBack { wait_ms: 700, late_cause: None }).await;
    assert_eq!(postponed.armed_min, Some(START + 1200));
    let (row, attempts) = f.store.run_get(run.id).await.unwrap().unwrap();
    assert_eq!((row.state, row.due_at, row.attempt), (RunState::Pending, START + 1200, 1));
    let known = (row.outcome, row.http_status, row.detail.as_deref(), attempts.len());
    let before = (Some(OutcomeCode::HttpStatus), Some(503), Some("busy"), 1);
    assert_eq!(known, before, "what is known of the attempt before stays");
    assert_eq!(f.claim(1).await.runs, []);
    f.now.advance(700);
    let run = f.claim(1).await.runs.remove(0);
    assert_eq!(run.attempt, 2);

    let sealed = Outcome::new(OutcomeCode::Refused, "sealed");
    f.settle(&run, Exit::Postpone { wait_ms: 60_000, outcome: sealed }).await;
    let row = f.store.run_list(id, None, 1).await.unwrap().remove(0);
    assert_eq!((row.state, row.attempt, row.due_at), (RunState::Pending, run.attempt - 1, f.now.get() + 60_000));
    assert_eq!(
        (row.outcome, row.http_status, row.detail.as_deref()),
        (Some(OutcomeCode::Refused), None, Some("sealed"))
    );
}

async fn a_schedule_that_moved_on_gets_no_retry(f: Fixture) {
    for (key, exit, state) in [
        ("a", retry(500), RunState::Failed),
        ("b", Exit::HandBack { wait_ms: 0, late_cause: None }, RunState::Cancelled),
    ] {
        let id = f.register(registration(key, "1", cron(START))).await;
        let run = f.claim(1).await.runs.remove(0);
        f.register(registration(key, "2", cron(START + 900))).await;
        let settled = f.settle(&run, exit).await;
        assert_eq!((settled.results, settled.armed_min), (vec![SettleResult::Done(state)], None));
        let (row, _) = f.store.run_get(run.id).await.unwrap().unwrap();
        assert_eq!(row.outcome, Some(OutcomeCode::Replaced));
        assert_eq!(f.armed(id).await, Some(START + 900));
    }
}

async fn deletes_by_id_and_by_filter(f: Fixture) {
    let first = f.register(registration("a", "1", now())).await;
    f.register(registration("b", "1", now())).await;
    f.register(registration("c", "1", cron(START + 10))).await;
    let run = f.claim(1).await.runs.remove(0);
    let nothing = f.store.schedule_delete(&Selection::Client(ClientKey::default())).await.unwrap();
    assert_eq!((nothing.count, nothing.in_flight), (0, 0), "no filter matches nothing");
    let one = f.store.schedule_delete(&Selection::Id(run.schedule_id)).await.unwrap();
    assert_eq!((one.count, one.in_flight), (1, 1));
    assert_eq!(f.store.schedule_delete(&Selection::Id(run.schedule_id)).await.unwrap().count, 0);
    let rest = ClientKey { application: "app".to_owned(), ..ClientKey::default() };
    let rest = f.store.schedule_delete(&Selection::Client(rest)).await.unwrap();
    assert_eq!((rest.count, rest.in_flight), (2, 0));
    f.now.advance(60_000);
    let reclaimed = f.claim(10).await.runs;
    assert_eq!(reclaimed.len(), 1, "only what was in flight comes back, for its verdict");
    assert_eq!(reclaimed[0].schedule.as_ref().unwrap().state, ScheduleState::Deleted);
    assert_ne!(f.register(registration("a", "1", now())).await, first, "the key is free again");
}

async fn lists_in_pages(f: Fixture) {
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(f.register(registration(&number.to_string(), "1", cron(START + 10 + number))).await);
    }
    f.store.schedule_pause(ids[1]).await.unwrap();
    f.store.schedule_delete(&Selection::Id(ids[4])).await.unwrap();
    let list = async |key: &str, states: &[ScheduleState], after, limit| {
        let client = ClientKey { key: key.to_owned(), ..ClientKey::default() };
        let filter = ScheduleFilter { client, states: states.to_vec() };
        let rows = f.store.schedule_list(&filter, &Page { after, limit }).await.unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(list("", &[], None, 10).await, ids[..4]);
    assert_eq!(list("", &[], None, 2).await, ids[..2]);
    assert_eq!(list("", &[], Some(ids[1]), 2).await, ids[2..4]);
    assert_eq!(list("", &[ScheduleState::Paused], None, 10).await, ids[1..2]);
    assert_eq!(list("3", &[], None, 10).await, ids[3..4]);
    assert_eq!(list("nobody", &[], None, 10).await, Vec::<Uuid>::new());

    for _ in 0..3 {
        f.store.schedule_trigger(ids[0]).await.unwrap();
    }
    let all = f.store.run_list(ids[0], None, 10).await.unwrap();
    let order: Vec<_> = all.iter().map(|run| (run.nominal_at - START, run.series)).collect();
    assert_eq!(order, [(10, 0), (0, 3), (0, 2), (0, 1)]);
    let page = f.store.run_list(ids[0], Some((START, 3)), 1).await.unwrap();
    assert_eq!(page, all[2..3]);
}

async fn tells_the_monitor(f: Fixture) {
    let empty = f.store.wake_read().await.unwrap();
    assert_eq!((empty.now, empty.next_due, empty.next_lease, empty.overdue), (START, None, None, 0));
    f.register(registration("a", "1", now())).await;
    f.register(registration("b", "1", now())).await;
    f.register(registration("c", "1", cron(START + 70))).await;
    let run = f.claim(1).await.runs.remove(0);
    let reading = f.store.wake_read().await.unwrap();
    assert_eq!((reading.next_due, reading.next_lease, reading.overdue), (Some(START), Some(START + 30_000), 1));
    f.register(registration("d", "1", cron(START + 60_001))).await;
    f.register(registration("e", "1", cron(START + 300_001))).await;
    let (same, Forecast { backlog, .. }) = f.store.wake_forecast().await.unwrap();
    assert_eq!((same.next_due, same.next_lease, same.overdue), (reading.next_due, reading.next_lease, 1));
    let counted =
        Backlog { overdue_runs: 1, running_runs: 1, due_next_minute: 1, due_next_five_minutes: 2, as_of_ms: START };
    assert_eq!(backlog, counted);
    f.settle(&run, finish(RunState::Succeeded, None)).await;
    assert_eq!(f.store.wake_forecast().await.unwrap().1.next_prune, Some(START + 60_000));
    assert_eq!(f.store.ping().await.unwrap(), START);
}

async fn prunes_what_is_finished_and_old_and_nothing_else(f: Fixture) {
    let recurring = f.register(registration("a", "1", cron(START))).await;
    let once = f.register(registration("b", "1", now())).await;
    for run in f.claim(2).await.runs {
        let successor = (run.schedule_id == recurring).then_some(Successor::At(START + 90_000));
        f.settle(&run, finish(RunState::Failed, successor)).await;
    }
    f.now.advance(59_999);
    assert_eq!(f.store.prune(10).await.unwrap(), 0);
    f.now.advance(1);
    // Armed anew just in time: the schedule is not old any more, its old run is.
    f.register(registration("b", "1", now())).await;
    let mut pruned = 0;
    loop {
        let batch = f.store.prune(1).await.unwrap();
        if batch == 0 {
            break;
        }
        pruned += batch;
    }
    assert_eq!(pruned, 4, "two runs and their attempts");
    for id in [recurring, once] {
        assert_eq!(f.store.schedule_get(id).await.unwrap().unwrap().state, ScheduleState::Active);
        assert_eq!(f.store.run_list(id, None, 10).await.unwrap().len(), 1);
    }
    f.store.schedule_delete(&Selection::Id(once)).await.unwrap();
    f.now.advance(60_000);
    assert_eq!(f.store.prune(10).await.unwrap(), 2, "the deleted schedule and its cancelled run");
    assert_eq!(f.store.wake_forecast().await.unwrap().1.next_prune, None);
}

async fn keeps_keys_until_they_are_taken_back(f: Fixture) {
    assert!(!f.store.api_key_exists().await.unwrap());
    let key = |scope, application: Option<&str>, expires_at| ApiKey {
        id: Uuid::now_v7(),
        digest: vec![0, 1, 255],
        scope,
        application: application.map(str::to_owned),
        name: "näme".to_owned(),
        created_at: START,
        expires_at,
        revoked_at: None,
    };
    let (all, one) = (key(Scope::Admin, None, None), key(Scope::Read, Some("chef"), Some(START + 5)));
    for key in [&all, &one] {
        f.store.api_key_create(key).await.unwrap();
    }
    assert_eq!(f.store.api_key_list().await.unwrap(), [all.clone(), one.clone()]);
    assert_eq!(f.store.api_key_get(one.id).await.unwrap(), Some(one.clone()));
    assert_eq!((one.is_valid(START + 4), one.is_valid(START + 5)), (true, false));
    assert_eq!(f.store.api_key_get(Uuid::now_v7()).await.unwrap(), None);
    f.now.advance(3);
    assert!(f.store.api_key_revoke(all.id).await.unwrap());
    assert!(!f.store.api_key_revoke(all.id).await.unwrap());
    assert!(!f.store.api_key_revoke(Uuid::now_v7()).await.unwrap());
    let revoked = f.store.api_key_get(all.id).await.unwrap().unwrap();
    assert_eq!((revoked.revoked_at, revoked.is_valid(START)), (Some(START + 3), false));
    assert!(f.store.api_key_exists().await.unwrap());
    f.store.api_key_revoke(one.id).await.unwrap();
    assert!(!f.store.api_key_exists().await.unwrap());
}

async fn counts_what_an_application_has(f: Fixture) {
    for (key, at) in [("a", 10), ("b", 20), ("c", 30)] {
        f.register(registration(key, "1", cron(START + at))).await;
    }
    let usage = |application: &'static str, from, until, limit| {
        let store = f.store.clone();
        async move {
            let usage = store.application_usage(application, START + from..START + until, limit).await.unwrap();
            (usage.schedules, usage.due)
        }
    };
    assert_eq!(usage("app", 10, 30, 100).await, (3, 2));
    assert_eq!(usage("app", 10, 31, 2).await, (2, 2));
    assert_eq!(usage("other", 0, 100, 100).await, (0, 0));
    let paused = f.register(registration("a", "1", cron(START + 10))).await;
    f.store.schedule_pause(paused).await.unwrap();
    assert_eq!(usage("app", 0, 100, 100).await, (3, 2));
}

async fn counts_terms_and_statements(f: Fixture) {
    let before = f.store.statements();
    assert_eq!(f.store.epoch_next().await.unwrap(), 1);
    assert_eq!(f.store.epoch_next().await.unwrap(), 2);
    // Behind a pooler each is a transaction of its own.
    assert!(matches!(f.store.statements() - before, 2 | 6));
    assert_eq!(f.store.schedule_dry().await.unwrap(), Vec::<Uuid>::new());
}

#[tokio::test]
async fn sqlite_is_durable_and_never_locked_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("durable.db");
    let store = open(&format!("sqlite:{}", path.display()), StoreSettings::default()).await.unwrap();
    store.migrate().await.unwrap();
    let other = open(&format!("sqlite:{}", path.display()), StoreSettings::default()).await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..8 {
        let store = if caller % 2 == 0 { store.clone() } else { other.clone() };
        callers.spawn(async move {
            for round in 0..25 {
                store.schedule_upsert(&[registration(&format!("{caller}.{round}"), "1", now())]).await.unwrap();
                let claim = Claim { limit: 1, owner: String::new(), lease: LEASE, queues: vec!["default".to_owned()] };
                store.run_claim(&claim).await.unwrap();
                store.schedule_list(&ScheduleFilter::default(), &Page { after: None, limit: 5 }).await.unwrap();
            }
        });
    }
    while let Some(outcome) = callers.join_next().await {
        outcome.unwrap();
    }
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&pool).await.unwrap();
    assert_eq!(mode, "wal");
}
