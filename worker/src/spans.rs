//! The spans of a worker: `wake` and its `claim`s, and for every attempt a `dispatch` with its `settle`.
//!
//! ```text
//!   trace of a wake:     wake ─┬─ claim        a statement that took runs
//!                              └─ claim        and the next, while more was due
//!   trace of an attempt: dispatch ─┬─ (the target's spans)
//!                          │       └─ settle   from the outcome to its commit
//!                          ├─ link ─▶ claim
//!                          └─ link ─▶ the request that registered the schedule
//! ```
//!
//! An attempt is a trace of its own, so that a burst is sampled run by run and no target's spans stand among
//! those of other runs. A wake that took nothing leaves no span.

use reveille_shared::model::RunId;
use reveille_shared::model::policy::Plan;
use reveille_shared::model::run::{ClaimedRun, Outcome, OutcomeCode};
use reveille_shared::model::task::TaskKind;
use reveille_shared::model::traceparent::TraceParent;
use reveille_shared::runtime::trace::{Began, Kind, Span, Tracer};

use crate::wait::Reason;

/// The span of the wake that is being served, and of the claim that is under way.
pub(crate) struct Waking {
    tracer: Tracer,
    reason: Reason,
    wake: Began,
    claim: Began,
    /// Once a claim took something.
    span: Option<Span>,
}

impl Waking {
    pub(crate) fn new(tracer: Tracer) -> Self {
        let began = tracer.began();
        Self { tracer, reason: Reason::Start, wake: began, claim: began, span: None }
    }

    /// A claim is sent. Unless it goes on with what the last one left, it is another wake.
    pub(crate) fn claim_sent(&mut self, reason: Reason) {
        self.claim = self.tracer.began();
        if reason != Reason::More {
            (self.reason, self.wake, self.span) = (reason, self.claim, None);
        }
    }

    /// A claim took this many runs. Answers the place of its span.
    pub(crate) fn claimed(&mut self, runs: usize, more: bool) -> Option<TraceParent> {
        let mut place = None;
        if runs > 0 {
            let reason = self.reason;
            let wake = self.span.get_or_insert_with(|| {
                let mut wake = self.tracer.span_since(self.wake, Kind::Internal, "wake", None);
                wake.set("wake.reason", || reason.as_str());
                wake
            });
            let mut claim = self.tracer.span_since(self.claim, Kind::Client, "claim", wake.traceparent());
            claim.set("claim.runs", || i64::try_from(runs).unwrap_or(i64::MAX));
            claim.set("claim.more", || more);
            place = claim.traceparent();
        }
        if !more {
            self.span = None;
        }
        place
    }
}

/// The span of an attempt's call, with the links to what led to it.
pub(crate) fn dispatch(tracer: &Tracer, run: &ClaimedRun, plan: &Plan, claim: Option<TraceParent>) -> Span {
    let mut span = tracer.span(Kind::Client, "dispatch", None);
    span.link(plan.definition.traceparent);
    span.link(claim.filter(|claim| claim.sampled));
    span.set("run.id", || run.id.to_string());
    span.set("schedule.id", || run.schedule_id.to_string());
    span.set("run.attempt", || i64::from(run.attempt));
    span.set("target.kind", || match plan.definition.task.kind {
        TaskKind::Rest => "rest",
        TaskKind::Kafka => "kafka",
        TaskKind::Redis => "redis",
    });
    span
}

/// The target answered, or did not.
pub(crate) fn dispatched(span: &mut Span, outcome: &Outcome, lag_ms: i64) {
    span.set("run.lag_ms", || lag_ms);
    span.set("run.outcome", || outcome.code.as_str());
    if let Some(status) = outcome.http_status {
        span.set("http.response.status_code", || i64::from(status));
    }
    if outcome.code != OutcomeCode::Ok {
        span.fail(outcome.code.as_str());
    }
}

/// The call was given up before it had an outcome.
pub(crate) fn given_up(span: &mut Span, why: &'static str) {
    span.set("run.outcome", || why);
    span.fail(why);
}

/// The span of a settlement, from now until it is dropped; nothing without a dispatch it belongs to.
pub(crate) fn settle(tracer: &Tracer, run: RunId, dispatch: Option<TraceParent>) -> Span {
    let Some(dispatch) = dispatch else { return Span::default() };
    let mut span = tracer.span(Kind::Client, "settle", Some(dispatch));
    span.set("run.id", || run.to_string());
    span
}
