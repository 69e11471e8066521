//! A store with callers and two workers around it, stepped one commit at a time, and the invariant that
//! holds after every one of them. What the exhaustive and the random tests drive.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use reveille_shared::model::document::{self, Defaults};
use reveille_shared::model::policy::{self, AfterFailure, FailedAttempt, Plan, Verdict};
use reveille_shared::model::run::{AttemptRecord, ClaimedRun, Exit, Outcome, OutcomeCode, RunState, Settlement};
use reveille_shared::model::schedule::ScheduleState;
use reveille_shared::model::task::TaskKind;
use reveille_shared::model::timing::Timing;
use reveille_shared::model::{RunId, ScheduleId, UnixMs};
use reveille_shared::store::{
    Claim, HistoryFilter, HistoryPage, HistoryRow, InjectedNow, Registration, RunRow, Selection, SettleResult, Store,
    StoreError, StoreSettings,
};
use serde_json::json;
use uuid::Uuid;

/// 2027-01-15T08:00:00Z. Everything happens on multiples of ten seconds from here.
pub(crate) const START: UnixMs = 1_800_000_000_000;
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// What a schedule of these tests is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Cron,
    DelayRecur,
    Now,
}

/// One commit, or time passing. `usize`: which schedule; `u8`: which worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    RegisterSame(usize),
    RegisterChanged(usize),
    Pause(usize),
    Resume(usize),
    Delete(usize),
    Trigger(usize),
    Claim(u8),
    /// The worker dies and forgets what it held.
    Crash(u8),
    Settle(u8, Way),
    /// Ten seconds pass: the next occurrence, or a retry, is due.
    Tick,
    /// A lease passes.
    Expire,
}

/// How a worker settles all it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Success,
    /// The target refused: a retry where the policy has one left.
    Failure,
    HandBack,
    /// The target is gone for good: the schedule is paused.
    Gone,
}

/// The store and all that is around it.
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) now: InjectedNow,
    kinds: Vec<Kind>,
    pub(crate) state: Around,
    /// Runs taken by one claim at most.
    claim_limit: i32,
}

/// What the callers and workers know. Copied when a state of the world is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Around {
    /// Versions of the documents registered so far, by schedule.
    versions: Vec<u32>,
    /// Every id a schedule had, by schedule; the last is the present one.
    pub(crate) ids: Vec<Vec<ScheduleId>>,
    /// What each worker holds.
    pub(crate) held: BTreeMap<u8, Vec<ClaimedRun>>,
    /// The tables after the last commit.
    pub(crate) seen: HashMap<RunId, RunRow>,
}

impl World {
    pub(crate) async fn open(url: &str, kinds: &[Kind], claim_limit: i32) -> Self {
        let now = InjectedNow::new(START);
        let settings = StoreSettings { injected_now: Some(now.clone()), ..StoreSettings::default() };
        let store = reveille_shared::store::open(url, settings).await.unwrap();
        store.migrate().await.unwrap();
        let state = Around { versions: vec![0; kinds.len()], ids: vec![Vec::new(); kinds.len()], ..Around::default() };
        Self { store, now, kinds: kinds.to_vec(), state, claim_limit }
    }

    fn registration(&self, schedule: usize, version: u32) -> Registration {
        let (kind, text) = match self.kinds[schedule] {
            Kind::Cron => ("cron", "*/10 * * * * *"),
            Kind::DelayRecur => ("delay-recur", "10"),
            Kind::Now => ("now", ""),
        };
        let text = json!({
            "name": "world", "client": {"key": schedule.to_string()}, "type": kind, "schedule": text,
            "task": {"type": "rest", "connection": {"host": "http://localhost/"}, "data": {"version": version},
                     "failed_policy": "retry", "retry_wait": 5, "max_retry_count": 2}
        });
        let defaults =
            Defaults { timezone: "UTC".to_owned(), targets: vec![TaskKind::Rest], connections: Default::default() };
        let parsed = document::parse(text.to_string().as_bytes(), &defaults, true).unwrap();
        Registration {
            id: Uuid::now_v7(),
            client: parsed.definition.client.clone(),
            name: parsed.definition.name.clone(),
            payload: serde_json::to_string(&parsed.definition).unwrap(),
            fingerprint: document::fingerprint(&parsed.definition),
            queue: "default".to_owned(),
            priority: 0,
            arming: parsed.timing.arming(self.now.get()).unwrap(),
            run_id: Uuid::now_v7(),
            history_check: schedule % 2 == 1,
        }
    }

    fn timing(&self, schedule: usize) -> Timing {
        let registration = self.registration(schedule, 0);
        Plan::read(&registration.payload).unwrap().timing
    }

    /// Steps and answers what the caller was told, without ids. Panics when the invariant is broken.
    pub(crate) async fn step(&mut self, op: Op) -> String {
        let told = self.apply(op).await;
        self.check(op).await;
        told
    }

    async fn apply(&mut self, op: Op) -> String {
        match op {
            Op::RegisterSame(schedule) => self.register(schedule).await,
            Op::RegisterChanged(schedule) => {
                self.state.versions[schedule] += 1;
                self.register(schedule).await
            }
            Op::Pause(schedule) => match self.id(schedule) {
                Some(id) => told(self.store.schedule_pause(id).await),
                None => "nobody".to_owned(),
            },
            Op::Resume(schedule) => self.resume(schedule).await,
            Op::Delete(schedule) => match self.id(schedule) {
                Some(id) => told(self.store.schedule_delete(&Selection::Id(id)).await),
                None => "nobody".to_owned(),
            },
            Op::Trigger(schedule) => match self.id(schedule) {
                Some(id) => told(self.store.schedule_trigger(id).await.map(|triggered| triggered.due_at)),
                None => "nobody".to_owned(),
            },
            Op::Claim(worker) => self.claim(worker).await,
            Op::Crash(worker) => {
                self.state.held.remove(&worker);
                String::new()
            }
            Op::Settle(worker, way) => self.settle(worker, way).await,
            Op::Tick => self.now.advance(10_000).to_string(),
            Op::Expire => self.now.advance(30_000).to_string(),
        }
    }

    fn id(&self, schedule: usize) -> Option<ScheduleId> {
        self.state.ids[schedule].last().copied()
    }

    async fn register(&mut self, schedule: usize) -> String {
        let mut registration = self.registration(schedule, self.state.versions[schedule]);
        let upserted = loop {
            match self.store.schedule_upsert(std::slice::from_ref(&registration)).await {
                Err(StoreError::OccurrenceTaken { latest }) => {
                    registration.arming = self.timing(schedule).arming(latest.max(self.now.get())).unwrap();
                }
                outcome => break outcome.unwrap(),
            }
        };
        let written = &upserted.schedules[0];
        assert_eq!(upserted.armed_min, written.due_at);
        if self.id(schedule) != Some(written.id) {
            self.state.ids[schedule].push(written.id);
        }
        format!("{:?} revision {} due {:?}", written.change, written.revision, written.due_at)
    }

    async fn resume(&mut self, schedule: usize) -> String {
        let Some(id) = self.id(schedule) else { return "nobody".to_owned() };
        let Some(row) = self.store.schedule_get(id).await.unwrap() else {
            return format!("{:?}", StoreError::NotFound);
        };
        let mut after = self.now.get();
        loop {
            let arming = self.timing(schedule).arming(after).unwrap();
            match self.store.schedule_resume(id, row.revision, &arming).await {
                Err(StoreError::OccurrenceTaken { latest }) => after = latest.max(after),
                outcome => return told(outcome),
            }
        }
    }

    async fn claim(&mut self, worker: u8) -> String {
        let claim = Claim {
            limit: self.claim_limit,
            owner: worker.to_string(),
            lease: LEASE,
            queues: vec!["default".to_owned()],
        };
        let claimed = self.store.run_claim(&claim).await.unwrap();
        let now = self.now.get();
        assert_eq!(claimed.now, now);
        assert!(claimed.next_at.is_none_or(|next_at| next_at > now), "{claimed:?}");
        let mut told = Vec::new();
        for run in claimed.runs {
            assert!(run.due_at <= now, "early: {run:?}");
            let plan = run.schedule.as_ref().and_then(|schedule| Plan::read(&schedule.payload));
            let verdict = policy::verdict(&run, plan.as_ref(), now);
            let schedule = run.schedule.as_ref().unwrap();
            let is_wanted = schedule.revision == run.revision
                && !matches!(schedule.state, ScheduleState::Paused | ScheduleState::Deleted);
            assert!(is_wanted || verdict != Verdict::Dispatch, "dispatched though nobody wants it: {run:?}");
            told.push(format!("{} {} {} {}", run.nominal_at, run.series, run.attempt, run.lease_token));
            self.state.held.entry(worker).or_default().push(run);
        }
        told.sort();
        format!("next {:?} took {told:?}", claimed.next_at)
    }

    async fn settle(&mut self, worker: u8, way: Way) -> String {
        let held = self.state.held.remove(&worker).unwrap_or_default();
        let now = self.now.get();
        let batch: Vec<Settlement> = held
            .iter()
            .map(|run| Settlement {
                run_id: run.id,
                lease_token: run.lease_token,
                exit: exit(run, way, now),
                attempt: (run.lease_token % 5 != 0).then(|| record(run, now)),
            })
            .collect();
        let settled = self.store.run_settle(&batch).await.unwrap();
        let again = self.store.run_settle(&batch).await.unwrap();
        assert_eq!(again.armed_min, None, "a copy arms nothing");
        let mut told = Vec::new();
        for ((run, result), copy) in held.iter().zip(&settled.results).zip(&again.results) {
            assert_eq!(result, copy, "a copy is told the same: {run:?}");
            if let SettleResult::Done(_) = result {
                assert_eq!(self.state.seen[&run.id].lease_token, run.lease_token, "settled without the token: {run:?}");
            }
            told.push(format!("{} {} {result:?}", run.nominal_at, run.series));
        }
        told.sort();
        format!("armed {:?} {told:?}", settled.armed_min)
    }

    /// All runs of all schedules there ever were.
    async fn rows(&self) -> HashMap<RunId, RunRow> {
        let mut rows = HashMap::new();
        for id in self.state.ids.iter().flatten() {
            for row in self.store.run_list(*id, None, 10_000).await.unwrap() {
                rows.insert(row.id, row);
            }
        }
        rows
    }

    async fn check(&mut self, op: Op) {
        let rows = self.rows().await;
        for (id, before) in &self.state.seen {
            let Some(after) = rows.get(id) else {
                // Replaced in place or disarmed: only what was pending may go.
                assert_eq!(before.state, RunState::Pending, "{op:?} lost {before:?}");
                continue;
            };
            assert!(after.lease_token >= before.lease_token, "{op:?}: a token fell: {before:?} {after:?}");
            assert!(
                !before.state.is_terminal() || before == after,
                "{op:?}: a finished run changed: {before:?} {after:?}"
            );
        }
        for id in self.state.ids.iter().flatten() {
            let runs: Vec<&RunRow> = rows.values().filter(|row| row.schedule_id == *id).collect();
            let open = |run: &&&RunRow| matches!(run.state, RunState::Pending | RunState::Running);
            let pending_armed = runs.iter().filter(|run| run.state == RunState::Pending && run.armed).count();
            assert!(pending_armed <= 1, "{op:?}: two armed: {runs:?}");
            match self.store.schedule_get(*id).await.unwrap() {
                Some(schedule) if schedule.state == ScheduleState::Active => {
                    let of_revision = |run: &&&RunRow| run.armed && run.revision == schedule.revision;
                    let armed = runs.iter().filter(open).filter(of_revision).count();
                    assert_eq!(armed, 1, "{op:?}: an active schedule has exactly one armed run: {schedule:?} {runs:?}");
                }
                Some(schedule) => assert_eq!(pending_armed, 0, "{op:?}: {:?} and armed: {runs:?}", schedule.state),
                None => {
                    let pending = runs.iter().filter(|run| run.state == RunState::Pending).count();
                    assert_eq!(pending, 0, "{op:?}: deleted and pending: {runs:?}");
                }
            }
        }
        assert_eq!(self.store.schedule_dry().await.unwrap(), Vec::<ScheduleId>::new(), "{op:?}");
        self.state.seen = rows;
    }

    /// The history without ids.
    async fn history(&self) -> Vec<String> {
        let page = HistoryPage { after: None, ascending: true, limit: 10_000 };
        let told = self.store.history_list(&HistoryFilter::default(), &page).await.unwrap();
        let line = |row: HistoryRow| {
            let run = row.run_id.is_some();
            let ended = (row.attempt, row.outcome, row.state, row.lag_ms, row.duration_ms, row.detail, row.worker);
            format!("{} {:?} {} {} {run} {ended:?}", row.at, row.kind, row.client.key, row.revision)
        };
        told.into_iter().map(line).collect()
    }

    /// The tables without ids, instants relative to now: equal for states that behave alike. `finished`:
    /// whether finished runs count, which nothing but the uniqueness of instants depends on.
    pub(crate) async fn abstraction(&self, finished: bool) -> String {
        let now = self.now.get();
        let mut lines = Vec::new();
        for (schedule, ids) in self.state.ids.iter().enumerate() {
            for (generation, id) in ids.iter().enumerate() {
                let row = self.store.schedule_get(*id).await.unwrap();
                if finished || row.is_some() {
                    let row = row.as_ref().map(|row| {
                        (row.state, if finished { row.revision } else { 0 }, row.iterations * i64::from(finished))
                    });
                    lines.push(format!("{schedule}.{} {row:?}", if finished { generation } else { 0 }));
                }
                let revision = self.store.schedule_get(*id).await.unwrap().map(|row| row.revision);
                for run in self.state.seen.values().filter(|run| run.schedule_id == *id) {
                    if run.state.is_terminal() && !finished {
                        continue;
                    }
                    lines.push(abstract_run(schedule, run, revision, now, finished, &self.state.held));
                }
            }
        }
        if finished {
            lines.extend(self.history().await);
        }
        for (worker, held) in &self.state.held {
            let stale = held.iter().filter(|run| {
                let seen = self.state.seen.get(&run.id);
                !seen.is_some_and(|seen| seen.state == RunState::Running && seen.lease_token == run.lease_token)
            });
            lines.push(format!("{worker} holds {} stale", stale.count().min(1)));
        }
        lines.sort();
        lines.join("\n")
    }
}

fn record(run: &ClaimedRun, now: UnixMs) -> AttemptRecord {
    AttemptRecord {
        attempt: run.attempt,
        started_at: now,
        ended_at: now + 7,
        worker: "world".to_owned(),
        woken_at: None,
        first_byte_at: None,
        late_cause: None,
    }
}

fn abstract_run(
    schedule: usize,
    run: &RunRow,
    revision: Option<i64>,
    now: UnixMs,
    exact: bool,
    held: &BTreeMap<u8, Vec<ClaimedRun>>,
) -> String {
    let holder =
        held.iter().find(|(_, runs)| runs.iter().any(|held| held.id == run.id && held.lease_token == run.lease_token));
    let due_in = if exact { run.due_at - now } else { (run.due_at - now).max(0) };
    let lease = run.lease_until.map(|until| (until - now).max(0));
    let current = revision == Some(run.revision);
    let line = format!(
        "{schedule} {:?} {current} {} {due_in} {} {} {lease:?} {:?}",
        run.state,
        run.armed,
        run.attempt,
        run.crashes,
        holder.map(|(worker, _)| worker)
    );
    match exact {
        true => {
            format!("{line} {} {} {} {} {:?}", run.nominal_at, run.series, run.revision, run.lease_token, run.outcome)
        }
        false => format!("{line} {}", run.nominal_at > now),
    }
}

/// What the worker makes of a run it holds.
fn exit(run: &ClaimedRun, way: Way, now: UnixMs) -> Exit {
    let plan = run.schedule.as_ref().and_then(|schedule| Plan::read(&schedule.payload)).unwrap();
    let finish = |state, outcome| Exit::Finish {
        state,
        outcome,
        successor: plan.timing.successor(run.nominal_at, now).filter(|_| run.armed),
        coalesced: 0,
        skipped: 0,
        pauses: false,
    };
    match policy::verdict(run, Some(&plan), now) {
        Verdict::Dispatch => {}
        Verdict::Settle { state, outcome } => return finish(state, outcome),
        Verdict::Postpone { wait_ms, outcome } => return Exit::Retry { wait_ms, outcome },
    }
    match way {
        Way::Success => finish(RunState::Succeeded, Outcome::new(OutcomeCode::Ok, "")),
        Way::HandBack => Exit::HandBack { wait_ms: 0, late_cause: None },
        Way::Gone => Exit::Finish {
            state: RunState::Failed,
            outcome: Outcome::new(OutcomeCode::HttpStatus, "410"),
            successor: None,
            coalesced: 0,
            skipped: 0,
            pauses: true,
        },
        Way::Failure => {
            let failed = FailedAttempt { code: OutcomeCode::HttpStatus, retry_after_ms: None };
            let outcome = Outcome::new(OutcomeCode::HttpStatus, "500");
            match policy::after_failure(&plan, run, failed, now, 0.0) {
                AfterFailure::Retry { wait_ms } => Exit::Retry { wait_ms, outcome },
                AfterFailure::Finish { state } => finish(state, outcome),
            }
        }
    }
}

fn told<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
    match outcome {
        Ok(answer) => format!("{answer:?}"),
        Err(error @ (StoreError::NotFound | StoreError::WrongState(_))) => format!("{error:?}"),
        Err(error) => panic!("{error:?}"),
    }
}
