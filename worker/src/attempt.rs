//! One attempt at a claimed run, from the claim to its settlement: verdict, dispatch under a deadline and
//! under the trust in its lease, then what the outcome leads to.
//!
//! ```text
//!   claimed ─▶ verdict ─▶ trust holds? ─▶ dispatch ─▶ outcome ─▶ settlement
//!      │          │             │                ├─ deadline: outcome timeout
//!      │          │             └─ handed back   ├─ trust lost: nothing, the run comes back
//!      │          └─ settled at once             └─ drain over: handed back
//!      ├─ stopping: handed back
//!      ├─ unreadable, sealed: postponed
//!      └─ target is away or congested: handed back, later
//! ```
//!
//! Never writes to the store itself and never settles a call whose lease it gave up. If the process dies
//! anywhere here, or the attempt panics, the lease brings the run back.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::Context;
use reveille_shared::model::UnixMs;
use reveille_shared::model::lateness::{LATE_AFTER_MS, LateCause, Wakeup, late_cause};
use reveille_shared::model::policy::Plan;
use reveille_shared::model::run::{AttemptRecord, ClaimedRun, Exit, Outcome, OutcomeCode, RunState, Settlement};
use reveille_shared::model::schedule::Definition;
use reveille_shared::model::secret;
use reveille_shared::model::task::{BodyMode, TaskKind};
use reveille_shared::model::traceparent::TraceParent;
use reveille_shared::runtime::telemetry::whole_ms;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Settings;
use crate::breaker::{Breakers, Contact, Passage, Turn, spread_ms};
use crate::bulkhead::{Bulkhead, Entry, Flow, QUIET, Slot};
use crate::call::{Answer, Call, FirstByte, deadline_of};
use crate::destination::{Destination, Peer};
use crate::dispatch::Dispatchers;
use crate::exit::{Span, conclude, cut_short, plan_dispatch, postponed};
use crate::metrics::WorkerMetrics;
use crate::renew::{Leases, Trust};
use crate::settle::{Queued, Unsettled};
use crate::spans;
use crate::stages::{Stages, Told};

/// What the attempts of a worker share.
pub(crate) struct Attempts {
    pub(crate) context: Context,
    pub(crate) settings: Settings,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) dispatchers: Arc<Dispatchers>,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) bulkhead: Arc<Bulkhead>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) stages: Arc<Stages>,
    pub(crate) settlements: mpsc::Sender<Queued>,
    pub(crate) unsettled: Unsettled,
    /// Fires when the calls in flight have had the time that a shutdown gives them.
    pub(crate) drain_over: CancellationToken,
}

/// The claim that took a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimedBy {
    /// How it came to the claim.
    pub(crate) wakeup: Wakeup,
    /// When its statement was sent.
    pub(crate) sent_at: Duration,
    /// The place of its span.
    pub(crate) span: Option<TraceParent>,
}

/// What goes with a call beside its document.
#[derive(Clone, Copy)]
struct Sent<'a> {
    /// The document as its target may see it.
    shown: &'a str,
    first_byte: &'a FirstByte,
    traceparent: Option<TraceParent>,
}

/// How a dispatch ended.
enum Ended {
    Answered(Answer, Contact),
    LeaseLost,
    DrainOver,
}

/// A run that is not to be attempted now.
struct Away {
    /// For how long.
    wait: Duration,
    /// What makes it late, should it be.
    late_cause: Option<LateCause>,
}

impl Attempts {
    /// Attempts a claimed run.
    pub(crate) async fn attempt(self: Arc<Self>, run: ClaimedRun, claim: ClaimedBy) {
        let told = self.stages.claimed(&run);
        if self.context.lifecycle.stopping().is_cancelled() {
            return self.settle(&run, Exit::HandBack { wait_ms: 0, late_cause: None }, None, (None, told)).await;
        }
        match plan_dispatch(&run, self.context.clock.now_ms()) {
            Ok(plan) => self.open_and_dispatch(&run, *plan, claim, told).await,
            Err(exit) => self.settle_at_once(&run, *exit, told).await,
        }
    }

    async fn open_and_dispatch(&self, run: &ClaimedRun, mut plan: Plan, claim: ClaimedBy, told: Option<Told>) {
        let shown = self.shown(&plan.definition);
        match self.settings.sealer.unseal(&mut plan.definition) {
            Ok(()) => self.dispatch(run, &plan, &shown, claim, told).await,
            Err(unopened) => {
                self.metrics.secrets_unopened.inc();
                tracing::error!(
                    run.id = %run.id,
                    schedule.id = %run.schedule_id,
                    error = %unopened,
                    "a secret stays sealed, the run is postponed; give this worker the key with --secret-key"
                );
                self.settle_at_once(run, postponed(&unopened), told).await;
            }
        }
    }

    /// The document as it is shown to a target that wants it, without its secrets; empty when it is not wanted.
    fn shown(&self, stored: &Definition) -> String {
        match stored.task.connection.body.unwrap_or(self.settings.default_body) {
            BodyMode::Data => String::new(),
            BodyMode::Schedule => {
                let mut masked = stored.clone();
                secret::mask(&mut masked, self.settings.sealer.headers());
                serde_json::to_string(&masked).unwrap_or_default()
            }
        }
    }

    async fn dispatch(&self, run: &ClaimedRun, plan: &Plan, shown: &str, claim: ClaimedBy, told: Option<Told>) {
        let clock = self.context.clock.clock();
        let task = &plan.definition.task;
        let destination = Destination::of(task, &self.settings.connections);
        let (passage, slot) = match &destination {
            Ok(destination) => match self.admit(destination.endpoint.peer(task.kind)).await {
                Ok((passage, slot)) => (Some(passage), Some(slot)),
                Err(away) => return self.leave_alone(run, plan, away, told).await,
            },
            Err(_) => (None, None),
        };
        let wanted_until = clock.monotonic() + deadline_of(task);
        let lease = self.leases.hold(run, claim.sent_at, wanted_until);
        self.context.faults.pass("worker.dispatching").await;
        if !lease.trust.holds(clock.monotonic()) {
            // Nobody was called. Left to its lease this would count as a crash, and three of them would end a
            // run that no target ever saw; should the lease be over by now, the settlement is void.
            tracing::warn!(run.id = %run.id, "the run was claimed too long ago to be dispatched, it is handed back");
            return self.settle(run, Exit::HandBack { wait_ms: 0, late_cause: None }, None, (None, told)).await;
        }
        let began = clock.monotonic();
        let started_at = self.context.clock.now_ms();
        let lag = Duration::from_millis(u64::try_from(started_at - run.due_at).unwrap_or(0));
        self.metrics.dispatch_lag.observe(lag.as_secs_f64());
        let late_cause = late_cause(run, &claim.wakeup, started_at);
        if let Some(cause) = late_cause {
            self.metrics.count_late(cause.as_str());
        }
        let first_byte = FirstByte::new(self.context.clock.clone());
        let mut traced = spans::dispatch(&self.context.tracer, run, plan, claim.span);
        self.stages.dispatched(told.as_ref());
        let sent = Sent { shown, first_byte: &first_byte, traceparent: traced.traceparent() };
        let place = sent.traceparent;
        let ended = match destination {
            Ok(destination) => self.call_target(run, plan, destination, &lease.trust, sent).await,
            Err(outcome) => not_called(outcome),
        };
        self.context.faults.pass("worker.dispatched").await;
        let took = clock.monotonic() - began;
        let span = Span { started_at, ended_at: started_at + i64::try_from(took.as_millis()).unwrap_or(i64::MAX) };
        let record = |accepted_at: Option<UnixMs>| AttemptRecord {
            attempt: run.attempt,
            started_at: span.started_at,
            ended_at: span.ended_at,
            worker: self.settings.name.clone(),
            woken_at: Some(claim.wakeup.woken_for(run.due_at)),
            // Where the answer is a single word, it began when it was there.
            first_byte_at: first_byte.at().or(accepted_at),
            late_cause,
        };
        match ended {
            Ended::LeaseLost => {
                spans::given_up(&mut traced, OutcomeCode::LeaseLost.as_str());
                self.lease_lost(run, task.kind, told.as_ref());
            }
            Ended::DrainOver => {
                spans::given_up(&mut traced, "cut_short");
                drop(traced);
                self.settle(run, cut_short(plan, run, span), Some(record(None)), (place, told)).await;
            }
            Ended::Answered(answer, contact) => {
                spans::dispatched(&mut traced, &answer.outcome, started_at - run.due_at);
                drop(traced); // before what follows it begins
                let exit = conclude(plan, run, &answer, span, fastrand::f64());
                self.metrics.count_run(Some(task.kind), answer.outcome.code.as_str());
                let is_accepted = answer.outcome.code == OutcomeCode::Ok;
                let record = record(is_accepted.then_some(span.ended_at));
                log_attempt(run, &answer.outcome, &exit, lag, &record);
                let flow = Flow::of(answer.outcome.code);
                slot.into_iter().for_each(|slot| slot.end(flow, clock.monotonic()));
                self.tell_breaker(run, passage, contact);
                self.settle(run, exit, Some(record), (place, told)).await;
            }
        }
    }

    async fn call_target(
        &self,
        run: &ClaimedRun,
        plan: &Plan,
        destination: Destination,
        trust: &Trust,
        sent: Sent<'_>,
    ) -> Ended {
        let clock = self.context.clock.clock();
        let deadline = deadline_of(&plan.definition.task);
        tokio::select! {
            biased;
            ended = self.answer(run, plan, destination, sent) => ended,
            () = trust.lost(clock.as_ref()) => Ended::LeaseLost,
            () = clock.sleep(deadline) => called(timed_out(deadline), deadline),
            () = self.drain_over.cancelled() => Ended::DrainOver,
        }
    }

    async fn answer(&self, run: &ClaimedRun, plan: &Plan, destination: Destination, sent: Sent<'_>) -> Ended {
        let definition = &plan.definition;
        let destination = match destination.resolved(definition, &self.settings.secrets).await {
            Ok(destination) => destination,
            Err(outcome) => return not_called(outcome),
        };
        let call = Call {
            run,
            destination: &destination,
            definition,
            payload: sent.shown,
            default_body: self.settings.default_body,
            now: self.context.clock.now_ms(),
            first_byte: sent.first_byte,
            traceparent: sent.traceparent,
        };
        called(self.dispatchers.dispatch(&call).await, deadline_of(&definition.task))
    }

    /// Lets a call to this endpoint pass.
    ///
    /// # Errors
    /// Why not, and for how long.
    async fn admit(&self, peer: Peer) -> Result<(Passage, Slot), Away> {
        let clock = self.context.clock.clock();
        let mut may_wait = true;
        let slot = loop {
            match self.bulkhead.enter(&peer, may_wait, clock.monotonic()) {
                Entry::Pass(slot) => break slot,
                Entry::Away(wait) => return Err(Away { wait, late_cause: Some(LateCause::TargetCongested) }),
                Entry::Wait(turn) => {
                    tokio::select! {
                        _ = turn => {}
                        () = clock.sleep(QUIET) => {}
                    }
                    may_wait = false;
                }
            }
        };
        match self.breakers.enter(peer, clock.monotonic()) {
            Ok(passage) => Ok((passage, slot)),
            Err(wait) => Err(Away { wait, late_cause: None }),
        }
    }

    /// Nothing was tried, so nothing is used up: the run comes back when its target may be there again.
    async fn leave_alone(&self, run: &ClaimedRun, plan: &Plan, away: Away, told: Option<Told>) {
        let outcome = if away.late_cause.is_some() { "congested" } else { "postponed" };
        self.metrics.count_run(Some(plan.definition.task.kind), outcome);
        let wait_ms = spread_ms(away.wait, fastrand::f64());
        let will_be = self.context.clock.now_ms().saturating_add(wait_ms);
        let expected_at = if run.attempt <= 1 { run.nominal_at } else { run.due_at };
        let late_cause = away.late_cause.filter(|_| will_be.saturating_sub(expected_at) > LATE_AFTER_MS);
        tracing::debug!(run.id = %run.id, schedule.id = %run.schedule_id, wait_ms, outcome, "the run is postponed");
        self.settle(run, Exit::HandBack { wait_ms, late_cause }, None, (None, told)).await;
    }

    fn tell_breaker(&self, run: &ClaimedRun, passage: Option<Passage>, contact: Contact) {
        let now = self.context.clock.clock().monotonic();
        let Some((turn, peer)) = passage.and_then(|passage| passage.tell(contact, now)) else { return };
        let called = peer.shown();
        match turn {
            Turn::Opened => {
                tracing::warn!(called, schedule.id = %run.schedule_id, "a target is away, runs that call it are postponed");
            }
            Turn::Closed => tracing::info!(called, schedule.id = %run.schedule_id, "the target is there again"),
        }
    }

    /// Nothing is settled: whoever has the run by now, or claims it next, decides.
    fn lease_lost(&self, run: &ClaimedRun, target: TaskKind, told: Option<&Told>) {
        self.stages.lease_lost(told);
        self.metrics.count_run(Some(target), OutcomeCode::LeaseLost.as_str());
        tracing::warn!(run.id = %run.id, run.attempt, "trust in the lease ran out, the run comes back");
    }

    async fn settle_at_once(&self, run: &ClaimedRun, exit: Exit, told: Option<Told>) {
        if let Some(outcome) = exit.outcome() {
            self.metrics.count_run(None, outcome.code.as_str());
            tracing::info!(
                run.id = %run.id,
                schedule.id = %run.schedule_id,
                outcome = outcome.code.as_str(),
                detail = outcome.detail,
                "run is settled without a dispatch"
            );
        }
        self.settle(run, exit, None, (None, told)).await;
    }

    /// With the place of the span of the call that led to this, and who is to be told.
    async fn settle(
        &self,
        run: &ClaimedRun,
        exit: Exit,
        attempt: Option<AttemptRecord>,
        (dispatch, told): (Option<TraceParent>, Option<Told>),
    ) {
        let told = told.or_else(|| self.stages.watched(run));
        let span = spans::settle(&self.context.tracer, run.id, dispatch);
        let settlement = Settlement { run_id: run.id, lease_token: run.lease_token, exit, attempt };
        // The queue is gone only when the shutdown gave up on it: then the lease brings the run back.
        let _ = self.settlements.send(Queued { settlement, span, told }).await;
    }
}

fn called(answer: Answer, deadline: Duration) -> Ended {
    let contact = Contact::of(answer.outcome.code, deadline);
    Ended::Answered(answer, contact)
}

/// Something is amiss here: that says nothing about the target.
fn not_called(outcome: Outcome) -> Ended {
    Ended::Answered(outcome.into(), Contact::Unknown)
}

fn timed_out(deadline: Duration) -> Answer {
    let seconds = deadline.as_secs_f64();
    Outcome::new(OutcomeCode::Timeout, format!("no complete answer within {seconds} s")).into()
}

/// One line per attempt: quiet when it went well, louder the less comes after it.
fn log_attempt(run: &ClaimedRun, outcome: &Outcome, exit: &Exit, lag: Duration, record: &AttemptRecord) {
    macro_rules! log_line {
        ($level:ident, $text:literal) => {
            tracing::$level!(
                run.id = %run.id,
                schedule.id = %run.schedule_id,
                run.attempt,
                lag_ms = whole_ms(lag),
                outcome = outcome.code.as_str(),
                http_status = outcome.http_status,
                detail = outcome.detail,
                duration_ms = record.ended_at - record.started_at,
                late_cause = record.late_cause.map(LateCause::as_str),
                $text
            )
        };
    }
    match exit {
        Exit::Finish { state: RunState::Succeeded, .. } => log_line!(debug, "attempt succeeded"),
        Exit::Finish { pauses: true, .. } => log_line!(warn, "the target is gone for good, its schedule is paused"),
        Exit::Retry { .. } => log_line!(info, "attempt failed, another follows"),
        _ => log_line!(warn, "attempt failed, none follows"),
    }
}
