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
pub(crate) mod target;
mod tls;
mod way;

use async_trait::async_trait;
use reveille_shared::Context;
use reveille_shared::model::run::{Outcome, OutcomeCode};
use reveille_shared::model::task::TaskKind;

#[cfg(feature = "kafka")]
use self::kafka::Kafka;
use self::redis::Redis;
use self::rest::Rest;
use crate::Settings;
use crate::call::{Answer, Call};

/// Calls one kind of target.
#[async_trait]
pub(crate) trait Dispatch: Send + Sync {
    /// Makes the call. Dropping the future ends it, the target may have been reached by then.
    async fn dispatch(&self, call: &Call<'_>) -> Answer;
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
