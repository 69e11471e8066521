//! The worker's loop: wait → step → act. It alone claims, one claim at a time, and owns the attempts.
//!
//! Thin on purpose: what to do next is [`Wait::next`]'s to say, this hears, asks and does. It never
//! waits for an answer without hearing on, so heartbeats, hints and a stop arrive during a claim too.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use reveille_shared::Context;
use reveille_shared::bus::{BusEvent, Subscription};
use reveille_shared::model::UnixMs;
use reveille_shared::runtime::clock::Sleep;
use reveille_shared::runtime::telemetry::Pulse;
use reveille_shared::store::{Claim, Claimed, StoreError};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use crate::attempt::{Attempts, ClaimedBy};
use crate::awake::Awake;
use crate::spans::Waking;
use crate::wait::{Answered, Next, Reason, Wait};
use crate::{STANDS_STILL, TURNS_EVERY};

/// Runs taken by one statement, at most.
const CLAIM_LIMIT: usize = 500;

/// The loop of a worker.
pub(crate) struct Claimer {
    context: Context,
    attempts: Arc<Attempts>,
    wait: Wait,
    awake: Awake,
    running: JoinSet<()>,
    in_flight: Option<InFlight>,
    /// Ends when the loop has to look at the clock again; kept over the events that do not change that.
    alarm: Option<(Duration, Sleep)>,
    waking: Waking,
    pulse: Pulse,
}

struct InFlight {
    sent_at: Duration,
    answer: Pin<Box<dyn Future<Output = Result<Claimed, StoreError>> + Send>>,
}

impl Claimer {
    pub(crate) fn new(attempts: Arc<Attempts>) -> Self {
        let context = attempts.context.clone();
        let now = context.clock.clock().monotonic();
        let (wait, awake) = (Wait::new(&attempts.settings, now), Awake::new(now));
        let waking = Waking::new(context.tracer.clone());
        let pulse = context.metrics.pulse("worker", STANDS_STILL, now);
        Self { context, attempts, wait, awake, running: JoinSet::new(), in_flight: None, alarm: None, waking, pulse }
    }

    /// Claims and attempts what is due until the worker is asked to stop. `armed` tells what this
    /// worker's own settles made due.
    pub(crate) async fn run(&mut self, mut bus: Subscription, mut armed: mpsc::UnboundedReceiver<UnixMs>) {
        let stopping = self.context.lifecycle.stopping().clone();
        let mut bus_is_open = true;
        while !stopping.is_cancelled() {
            self.step();
            tokio::select! {
                () = stopping.cancelled() => {}
                event = bus.recv(), if bus_is_open => match event {
                    Some(event) => self.heard(&event),
                    None => bus_is_open = false,
                },
                Some(at) = armed.recv() => self.wait.hint(at),
                Some(ended) = self.running.join_next() => self.attempts_ended(ended),
                (sent_at, answer) = answer_of(&mut self.in_flight) => self.answered(sent_at, answer),
                () = ring_of(&mut self.alarm) => self.alarm = None,
            }
        }
    }

    /// Waits for what is in hand: the claim in flight is handed back once it is answered, calls may
    /// finish. Answers whether nothing is left.
    pub(crate) async fn drain(&mut self, deadline: Duration) -> bool {
        let end = self.context.clock.clock().sleep_until(deadline);
        tokio::pin!(end);
        let aborting = self.context.lifecycle.aborting().clone();
        while self.in_flight.is_some() || !self.running.is_empty() {
            tokio::select! {
                () = aborting.cancelled() => return false,
                () = &mut end => return false,
                (sent_at, answer) = answer_of(&mut self.in_flight) => self.answered(sent_at, answer),
                Some(ended) = self.running.join_next() => self.attempts_ended(ended),
            }
        }
        true
    }

    fn now(&self) -> Duration {
        self.context.clock.clock().monotonic()
    }

    /// Zero while outcomes cannot be recorded.
    fn free_slots(&self) -> usize {
        if self.attempts.unsettled.is_failing() {
            return 0;
        }
        self.attempts.settings.concurrency.saturating_sub(self.running.len())
    }

    /// Does what the clock and the state of waiting ask for.
    fn step(&mut self) {
        let now = self.now();
        self.pulse.beat(now);
        if self.wait.degrade(now) {
            self.attempts.metrics.degraded.set(1);
            tracing::warn!("no heartbeat is heard, checking the database at intervals");
        }
        let free = self.free_slots();
        match self.wait.next(now, self.context.clock.now_ms(), free) {
            Next::Claim(reason) => self.send_claim(reason, now, free),
            Next::Sleep(until) => self.set_alarm(until, now),
        }
    }

    /// At the latest when it has to show that it turns.
    fn set_alarm(&mut self, until: Duration, now: Duration) {
        let latest = now + TURNS_EVERY;
        let is_set =
            self.alarm.as_ref().is_some_and(|(at, _)| *at == until || until > latest && *at > now && *at <= latest);
        if !is_set {
            let until = until.min(latest);
            self.alarm = Some((until, self.context.clock.clock().sleep_until(until)));
        }
    }

    fn heard(&mut self, event: &BusEvent) {
        let now = self.now();
        if self.wait.heard(event, now) {
            self.attempts.metrics.degraded.set(0);
            tracing::info!("heartbeats are heard again");
        }
        if let BusEvent::StagesWanted = event {
            self.attempts.stages.wanted();
        }
        if let BusEvent::Heartbeat(state) = event
            && state.db_ms > 0
        {
            // Only a heartbeat says what the database's clock shows *now*: a wake repeats the last beat's.
            self.context.clock.observe(state.db_ms);
        }
    }

    fn send_claim(&mut self, reason: Reason, now: Duration, free: usize) {
        self.attempts.metrics.count_wake(reason.as_str());
        self.wait.claim_sent(now);
        self.awake.claim_sent(now);
        self.waking.claim_sent(reason);
        let settings = &self.attempts.settings;
        let limit = free.min(CLAIM_LIMIT);
        let claim = Claim {
            limit: i32::try_from(limit).unwrap_or(i32::MAX),
            owner: settings.name.clone(),
            lease: settings.lease,
            queues: settings.queues.clone(),
        };
        let context = self.context.clone();
        let answer = async move {
            let claimed = context.store.run_claim(&claim).await;
            if claimed.as_ref().is_ok_and(|claimed| !claimed.runs.is_empty()) {
                context.faults.pass("worker.claimed").await;
            }
            claimed
        };
        // Nothing can be claimed until the answer is there, which is an event of its own.
        self.in_flight = Some(InFlight { sent_at: now, answer: Box::pin(answer) });
    }

    fn answered(&mut self, sent_at: Duration, answer: Result<Claimed, StoreError>) {
        match answer {
            Ok(claimed) => self.claimed(sent_at, claimed),
            Err(error) => {
                self.attempts.metrics.count_claim("error");
                self.awake.claim_failed(self.now());
                if self.wait.claim_failed(self.now()) {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "claiming failed, trying again");
                }
            }
        }
    }

    fn claimed(&mut self, sent_at: Duration, claimed: Claimed) {
        self.context.clock.learn(claimed.now, sent_at);
        if self.wait.is_failing() {
            tracing::info!("claiming works again");
        }
        let answered = Answered { next_at: claimed.next_at, taken: claimed.runs.len(), more: claimed.more };
        self.wait.claim_done(answered, self.now(), self.context.clock.now_ms());
        self.attempts.metrics.count_claim(if claimed.runs.is_empty() { "empty" } else { "rows" });
        let wakeup = self.awake.claimed(&self.context.clock, claimed.now, claimed.more);
        let span = self.waking.claimed(claimed.runs.len(), claimed.more);
        for run in claimed.runs {
            self.running.spawn(self.attempts.clone().attempt(run, ClaimedBy { sent_at, span, wakeup }));
        }
        self.count_slots();
    }

    fn attempts_ended(&mut self, first: Result<(), JoinError>) {
        let mut ended = Some(first);
        while let Some(outcome) = ended {
            if outcome.is_err_and(|error| error.is_panic()) {
                tracing::error!("an attempt panicked, its run comes back by its lease");
            }
            ended = self.running.try_join_next();
        }
        self.wait.slot_freed(self.now());
        self.count_slots();
    }

    fn count_slots(&mut self) {
        self.awake.slots(self.free_slots(), self.now());
        self.attempts.metrics.slots_busy.set(i64::try_from(self.running.len()).unwrap_or(i64::MAX));
    }
}

/// The answer to the claim in flight; never ends without one. Cancel safe.
async fn answer_of(in_flight: &mut Option<InFlight>) -> (Duration, Result<Claimed, StoreError>) {
    let Some(claim) = in_flight else { return pending().await };
    let answer = claim.answer.as_mut().await;
    let sent_at = claim.sent_at;
    *in_flight = None;
    (sent_at, answer)
}

/// Ends when the alarm rings; never without one. Cancel safe.
async fn ring_of(alarm: &mut Option<(Duration, Sleep)>) {
    match alarm {
        Some((_, sleep)) => sleep.await,
        None => pending().await,
    }
}
