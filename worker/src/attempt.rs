//! One attempt at a claimed run, from the claim to its settlement: verdict, dispatch under a deadline and
//! under the trust in its lease, then what the outcome leads to.
//!
//! ```text
//!   claimed ─▶ verdict ─▶ trust holds? ─▶ dispatch ─▶ outcome ─▶ settlement
//!      │          │             │                ├─ deadline: outcome timeout
//!      │          │             └─ handed back   ├─ trust lost: nothing, the run comes back
//!      │          └─ settled at once             └─ drain over: handed back
//!      ├─ stopping: handed back
//!      └─ unreadable: postponed
//! ```
//!
//! Never writes to the store itself and never settles a call whose lease it gave up. If the process dies
//! anywhere here, or the attempt panics, the lease brings the run back.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::model::policy::Plan;
use reveille_shared::model::run::{AttemptRecord, ClaimedRun, Exit, Outcome, OutcomeCode, RunState, Settlement};
use reveille_shared::runtime::Context;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Settings;
use crate::destination::Destination;
use crate::dispatch::{Answer, Call, Dispatchers};
use crate::exit::{Span, conclude, cut_short, deadline_of, plan_dispatch};
use crate::metrics::WorkerMetrics;
use crate::renew::{Leases, Trust};
use crate::settle::Unsettled;

/// What the attempts of a worker share.
pub(crate) struct Attempts {
    pub(crate) context: Context,
    pub(crate) settings: Settings,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) dispatchers: Arc<Dispatchers>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) settlements: mpsc::Sender<Settlement>,
    pub(crate) unsettled: Unsettled,
    /// Fires when the calls in flight have had the time that a shutdown gives them.
    pub(crate) drain_over: CancellationToken,
}

/// How a dispatch ended.
enum Ended {
    Answered(Answer),
    LeaseLost,
    DrainOver,
}

impl Attempts {
    /// Attempts a run that was claimed by a statement sent at `claim_sent`.
    pub(crate) async fn attempt(self: Arc<Self>, run: ClaimedRun, claim_sent: Duration) {
        if self.context.lifecycle.stopping().is_cancelled() {
            return self.settle(&run, Exit::HandBack, None).await;
        }
        match plan_dispatch(&run, self.context.clock.now_ms()) {
            Ok(plan) => self.dispatch(&run, &plan, claim_sent).await,
            Err(exit) => self.settle_at_once(&run, *exit).await,
        }
    }

    async fn dispatch(&self, run: &ClaimedRun, plan: &Plan, claim_sent: Duration) {
        let clock = self.context.clock.clock();
        let wanted_until = clock.monotonic() + deadline_of(&plan.definition.task);
        let lease = self.leases.hold(run, claim_sent, wanted_until);
        self.context.faults.pass("worker.dispatching").await;
        if !lease.trust.holds(clock.monotonic()) {
            // Nobody was called. Left to its lease this would count as a crash, and three of them would end a
            // run that no target ever saw; should the lease be over by now, the settlement is void.
            tracing::warn!(run.id = %run.id, "the run was claimed too long ago to be dispatched, it is handed back");
            return self.settle(run, Exit::HandBack, None).await;
        }
        let began = clock.monotonic();
        let started_at = self.context.clock.now_ms();
        let lag = Duration::from_millis(u64::try_from(started_at - run.due_at).unwrap_or(0));
        self.metrics.dispatch_lag.observe(lag.as_secs_f64());
        let ended = self.call_target(run, plan, &lease.trust).await;
        self.context.faults.pass("worker.dispatched").await;
        let took = clock.monotonic() - began;
        let span = Span { started_at, ended_at: started_at + i64::try_from(took.as_millis()).unwrap_or(i64::MAX) };
        match ended {
            Ended::LeaseLost => self.lease_lost(run),
            Ended::DrainOver => self.settle(run, cut_short(plan, run, span), None).await,
            Ended::Answered(answer) => {
                let exit = conclude(plan, run, &answer, span, fastrand::f64());
                self.metrics.count_run(answer.outcome.code.as_str());
                log_attempt(run, &answer.outcome, &exit, lag, took);
                let has_failed = answer.outcome.code != OutcomeCode::Ok;
                let record = has_failed.then(|| self.record(run, span));
                self.settle(run, exit, record).await;
            }
        }
    }

    async fn call_target(&self, run: &ClaimedRun, plan: &Plan, trust: &Trust) -> Ended {
        let destination = match Destination::of(&plan.definition.task, &self.settings.connections) {
            Ok(destination) => destination,
            Err(outcome) => return Ended::Answered(outcome.into()),
        };
        let call = Call {
            run,
            destination: &destination,
            definition: &plan.definition,
            payload: run.schedule.as_ref().map_or("", |schedule| schedule.payload.as_str()),
            default_body: self.settings.default_body,
            now: self.context.clock.now_ms(),
        };
        let clock = self.context.clock.clock();
        let deadline = deadline_of(&plan.definition.task);
        tokio::select! {
            biased;
            answer = self.dispatchers.dispatch(&call) => Ended::Answered(answer),
            () = trust.lost(clock.as_ref()) => Ended::LeaseLost,
            () = clock.sleep(deadline) => Ended::Answered(timed_out(deadline)),
            () = self.drain_over.cancelled() => Ended::DrainOver,
        }
    }

    /// Nothing is settled: whoever has the run by now, or claims it next, decides.
    fn lease_lost(&self, run: &ClaimedRun) {
        self.metrics.count_run(OutcomeCode::LeaseLost.as_str());
        tracing::warn!(run.id = %run.id, run.attempt, "trust in the lease ran out, the run comes back");
    }

    async fn settle_at_once(&self, run: &ClaimedRun, exit: Exit) {
        if let Some(outcome) = exit.outcome() {
            self.metrics.count_run(outcome.code.as_str());
            tracing::info!(
                run.id = %run.id,
                schedule.id = %run.schedule_id,
                outcome = outcome.code.as_str(),
                detail = outcome.detail,
                "run is settled without a dispatch"
            );
        }
        self.settle(run, exit, None).await;
    }

    async fn settle(&self, run: &ClaimedRun, exit: Exit, attempt: Option<AttemptRecord>) {
        let settlement = Settlement { run_id: run.id, lease_token: run.lease_token, exit, attempt };
        // The queue is gone only when the shutdown gave up on it: then the lease brings the run back.
        let _ = self.settlements.send(settlement).await;
    }

    fn record(&self, run: &ClaimedRun, span: Span) -> AttemptRecord {
        AttemptRecord {
            attempt: run.attempt,
            started_at: span.started_at,
            ended_at: span.ended_at,
            worker: self.settings.name.clone(),
        }
    }
}

fn timed_out(deadline: Duration) -> Answer {
    let seconds = deadline.as_secs_f64();
    Outcome::new(OutcomeCode::Timeout, format!("no complete answer within {seconds} s")).into()
}

/// One line per attempt: quiet when it went well, louder the less comes after it.
fn log_attempt(run: &ClaimedRun, outcome: &Outcome, exit: &Exit, lag: Duration, took: Duration) {
    macro_rules! log_line {
        ($level:ident, $text:literal) => {
            tracing::$level!(
                run.id = %run.id,
                schedule.id = %run.schedule_id,
                run.attempt,
                lag_ms = lag.as_millis(),
                outcome = outcome.code.as_str(),
                http_status = outcome.http_status,
                detail = outcome.detail,
                duration_ms = took.as_millis(),
                $text
            )
        };
    }
    match exit {
        Exit::Finish { state: RunState::Succeeded, .. } => log_line!(debug, "attempt succeeded"),
        Exit::Retry { .. } => log_line!(info, "attempt failed, another follows"),
        _ => log_line!(warn, "attempt failed, none follows"),
    }
}
