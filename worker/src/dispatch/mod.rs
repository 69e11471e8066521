//! Dispatch: one attempt's call to its target. One file per kind of target, each a [`Dispatch`];
//! [`Dispatchers`] picks by the task's kind.
//!
//! Whatever the target does is data, an [`Answer`]: a dispatcher never fails, never retries and never
//! watches the time, all of which the attempt does. An answer's sentence names no URL, header or body.

mod cloudevents;
mod http;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
mod message;
mod pool;
pub(crate) mod redis;
pub(crate) mod rest;
pub(crate) mod signing;
pub(crate) mod target;
mod tls;
mod way;

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use reveille_shared::model::UnixMs;
use reveille_shared::model::run::{ClaimedRun, Outcome, OutcomeCode};
use reveille_shared::model::schedule::Definition;
use reveille_shared::model::task::{BodyMode, TaskKind};
use reveille_shared::model::traceparent::TraceParent;
use reveille_shared::runtime::Context;
use reveille_shared::runtime::clock::DbClock;

#[cfg(feature = "kafka")]
use self::kafka::Kafka;
use self::redis::Redis;
use self::rest::Rest;
use crate::Settings;
use crate::destination::Destination;

/// From the name to a connection that can be used; a call without one by then has the outcome `connect`.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Calls one kind of target.
#[async_trait]
pub(crate) trait Dispatch: Send + Sync {
    /// Makes the call. Dropping the future ends it, the target may have been reached by then.
    async fn dispatch(&self, call: &Call<'_>) -> Answer;
}

/// What is to be sent, for which run.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) run: &'a ClaimedRun,
    pub(crate) definition: &'a Definition,
    pub(crate) destination: &'a Destination,
    /// `definition` as callers are shown it, where it is to be sent; empty where it is not.
    pub(crate) payload: &'a str,
    /// What a target receives that asks for nothing in particular.
    pub(crate) default_body: BodyMode,
    /// The database's now, as estimated.
    pub(crate) now: UnixMs,
    /// To be marked where an answer begins before it ends.
    pub(crate) first_byte: &'a FirstByte,
    /// The span of this attempt, sent on to the target; `None` when traces are off.
    pub(crate) traceparent: Option<TraceParent>,
}

/// When the target began to answer. Beside the answer, so that it is known of a call that was cut short as well.
pub(crate) struct FirstByte {
    clock: DbClock,
    at: OnceLock<UnixMs>,
}

impl FirstByte {
    pub(crate) fn new(clock: DbClock) -> Self {
        Self { clock, at: OnceLock::new() }
    }

    /// The target begins to answer.
    pub(crate) fn mark(&self) {
        self.at.get_or_init(|| self.clock.now_ms());
    }

    pub(crate) fn at(&self) -> Option<UnixMs> {
        self.at.get().copied()
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    /// How long the target asked to be left alone.
    pub(crate) retry_after_ms: Option<i64>,
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, retry_after_ms: None }
    }
}

/// The dispatchers of this worker, one per kind of target, shared by all attempts.
pub(crate) struct Dispatchers {
    rest: Rest,
    redis: Redis,
    #[cfg(feature = "kafka")]
    kafka: Kafka,
}

impl Dispatchers {
    /// Prepares the clients; connects nowhere.
    ///
    /// # Errors
    /// A sentence when this machine cannot make TLS connections.
    pub(crate) fn new(context: &Context, settings: &Settings) -> Result<Self, String> {
        let targets = &settings.targets;
        Ok(Self {
            redis: Redis::new(context, targets.clone()),
            #[cfg(feature = "kafka")]
            kafka: Kafka::new(context, targets.clone()),
            rest: Rest::new(targets.clone(), settings, context.clock.clock().clone())?,
        })
    }

    /// Closes connections that nobody used for a while.
    pub(crate) fn close_idle(&self) {
        self.redis.close_idle();
        #[cfg(feature = "kafka")]
        self.kafka.close_idle();
    }

    /// Calls the target of the task, whatever its kind.
    pub(crate) async fn dispatch(&self, call: &Call<'_>) -> Answer {
        match self.of(call.definition.task.kind) {
            Some(dispatcher) => dispatcher.dispatch(call).await,
            None => Outcome::new(OutcomeCode::Refused, "this worker cannot call targets of this type").into(),
        }
    }

    fn of(&self, kind: TaskKind) -> Option<&dyn Dispatch> {
        match kind {
            TaskKind::Rest => Some(&self.rest),
            TaskKind::Redis => Some(&self.redis),
            #[cfg(feature = "kafka")]
            TaskKind::Kafka => Some(&self.kafka),
            #[cfg(not(feature = "kafka"))]
            TaskKind::Kafka => None,
        }
    }
}
