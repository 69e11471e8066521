//! The worker: sleeps without touching the database until something is due, claims it into free slots,
//! dispatches it and settles it.
//!
//! ```text
//!   bus, own hints ─▶ wait ─▶ claim ─▶ attempt ─▶ dispatch/… ─▶ target
//!                      ▲                 │  └ renew: leases of long calls
//!                      └──── settle ◀────┘
//! ```
//!
//! Stateless: everything here may die at any moment, the leases bring back what it held. Delivery is at
//! least once; what a late or repeated worker writes is fenced by the lease token.

mod attempt;
mod awake;
mod breaker;
mod bulkhead;
mod call;
mod claim;
mod destination;
mod dispatch;
mod exit;
mod metrics;
mod presence;
mod renew;
mod secrets;
mod settle;
mod signing;
mod spans;
mod stages;
mod wait;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reveille_shared::Context;
use reveille_shared::model::schedule::DEFAULT_QUEUE;
use reveille_shared::model::task::BodyMode;
use reveille_shared::runtime::seal::Sealer;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::attempt::Attempts;
use self::breaker::Breakers;
use self::bulkhead::Bulkhead;
use self::claim::Claimer;
pub use self::destination::{Connections, NamedConnection};
use self::dispatch::Dispatchers;
pub use self::dispatch::target::{Cidr, LOOPBACK, TargetPolicy};
use self::metrics::WorkerMetrics;
use self::presence::Presence;
use self::renew::{Leases, renew_leases};
pub use self::secrets::Secrets;
use self::settle::{Held, Settler, Unsettled};
use self::stages::Stages;

/// How long the end of a worker may be held up, after the drain, by what cannot be handed back or settled.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// How often a loop turns although nothing happens. Asks nobody for anything.
const TURNS_EVERY: Duration = Duration::from_secs(30);

/// A loop that did not turn for this long stands still.
const STANDS_STILL: Duration = Duration::from_secs(120);

/// How often connections that nobody uses are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// Settings of a worker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Runs dispatched at the same time, at most.
    pub concurrency: usize,
    /// Queues it serves.
    pub queues: Vec<String>,
    /// How long a claimed run may go without a sign of life.
    pub lease: Duration,
    /// How long a stop waits for calls in flight.
    pub drain: Duration,
    /// Name under which it claims, for people.
    pub name: String,
    /// Body of a target that asks for none in particular: `data`, or the whole document.
    pub default_body: BodyMode,
    /// Which addresses tasks may not call, beyond those that are never a target.
    pub targets: TargetPolicy,
    /// Connections that documents may name.
    pub connections: Connections,
    /// Opens the secrets of documents.
    pub sealer: Sealer,
    /// What documents and connections refer to.
    pub secrets: Secrets,
    /// PEM file of certificate authorities that HTTP targets may have, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// HTTP proxy through which HTTP targets are called.
    pub egress_proxy: Option<url::Url>,
    /// Without a heartbeat for this long it checks the database by itself.
    pub degraded_after: Duration,
    /// How often it does so then, ± 20 %.
    pub degraded_check: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 256,
            queues: vec![DEFAULT_QUEUE.to_owned()],
            lease: Duration::from_secs(30),
            drain: Duration::from_secs(25),
            name: "worker".to_owned(),
            default_body: BodyMode::Data,
            targets: TargetPolicy::default(),
            connections: Connections::new(),
            sealer: Sealer::default(),
            secrets: Secrets::default(),
            ca_file: None,
            egress_proxy: None,
            degraded_after: Duration::from_secs(10),
            degraded_check: Duration::from_secs(30),
        }
    }
}

/// Installs the process's TLS implementation, unless there is one. Call it before [`run`]: the choice
/// belongs to the process, not to a role in it.
pub fn install_tls() {
    // An error says that another was installed first, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Runs a worker until the lifecycle stops it: then it claims nothing more, finishes or hands back
/// what it holds within [`Settings::drain`], and returns.
///
/// Claims that cannot be dispatched at all would only lose leases, so a process that cannot make HTTP
/// clients (see [`install_tls`]) fails here, through its lifecycle.
pub async fn run(context: Context, settings: Settings) {
    // Subscribed before anything else: what is published from here on is heard.
    let bus = context.bus.subscribe();
    let dispatchers = match Dispatchers::new(&context, &settings) {
        Ok(dispatchers) => Arc::new(dispatchers),
        Err(error) => {
            tracing::error!(error, "the worker cannot dispatch, the process will stop");
            context.lifecycle.failed().cancel();
            return context.lifecycle.stop();
        }
    };
    let metrics = WorkerMetrics::register(&context.metrics);
    metrics.slots.set(i64::try_from(settings.concurrency).unwrap_or(i64::MAX));
    let leases = Leases::new(settings.lease);
    // Bounded: while the database takes no settlements, attempts wait here and keep their slots, so
    // nothing more is claimed.
    let (settlements, queue) = mpsc::channel(settings.concurrency.max(1));
    let (armed, own_hints) = mpsc::unbounded_channel();
    let stages = Arc::new(Stages::new(&context, metrics.stages_dropped.clone()));
    let unsettled = Unsettled::default();
    let settler = Settler {
        context: context.clone(),
        metrics: metrics.clone(),
        stages: stages.clone(),
        queue,
        armed,
        unsettled: unsettled.clone(),
        leases: leases.clone(),
        held: Held::default(),
        pulse: context.metrics.pulse("worker settling", STANDS_STILL, context.clock.clock().monotonic()),
    };
    let duties = Duties::start(&context, &leases, settler);
    let telling = stages.clone();
    let closing = context.lifecycle.closing().clone();
    let until = closing.clone();
    context.lifecycle.spawn_attendant("worker stages", async move { telling.send(until).await });
    let breakers = Arc::new(Breakers::new(metrics.breaker_open.clone()));
    let bulkhead = Bulkhead::new(settings.concurrency, metrics.congested.clone());
    let presence = Presence::new(&context, &settings, &breakers, &bulkhead);
    context.lifecycle.spawn_attendant("worker presence", presence.tell(closing));
    duties.keep_tidy(&context, dispatchers.clone(), breakers.clone(), bulkhead.clone());
    let drain = settings.drain;
    let drain_over = CancellationToken::new();
    let attempts = Attempts {
        context: context.clone(),
        settings,
        metrics,
        dispatchers,
        breakers,
        bulkhead,
        leases,
        stages,
        settlements,
        unsettled,
        drain_over: drain_over.clone(),
    };
    let mut claimer = Claimer::new(Arc::new(attempts));
    claimer.run(bus, own_hints).await;
    stop(&context, claimer, duties, drain, &drain_over).await;
}

/// The order of a stop: calls finish, then those that did not are handed back, then everything that is
/// to be settled is settled. Each step ends by itself when there is nothing to do.
async fn stop(
    context: &Context,
    mut claimer: Claimer,
    duties: Duties,
    drain: Duration,
    drain_over: &CancellationToken,
) {
    let drained_at = context.clock.clock().monotonic() + drain;
    let mut finished = claimer.drain(drained_at).await;
    if !finished {
        drain_over.cancel();
        finished = claimer.drain(drained_at + FLUSH_LIMIT).await;
    }
    if !finished {
        tracing::warn!("calls were given up at shutdown, their runs come back by their leases");
    }
    // The attempts and with them the senders of settlements go here, which ends the queue.
    drop(claimer);
    duties.end(context, drained_at + FLUSH_LIMIT).await;
}

/// The tasks beside the worker's loop.
struct Duties {
    /// Ends them whatever they have to do.
    ended: CancellationToken,
    /// Fires when everything that was to be settled is settled.
    settled: CancellationToken,
}

impl Duties {
    fn start(context: &Context, leases: &Arc<Leases>, settler: Settler) -> Self {
        let ended = CancellationToken::new();
        let settled = CancellationToken::new();
        let when_settled = settled.clone().drop_guard();
        let settling = settler.run(ended.clone());
        context.lifecycle.spawn("worker settling", async move {
            settling.await;
            drop(when_settled);
        });
        context.lifecycle.spawn("worker leases", renew_leases(context.clone(), leases.clone(), ended.clone()));
        Self { ended, settled }
    }

    /// Closes the connections to targets that nobody uses, and forgets who was away.
    fn keep_tidy(
        &self,
        context: &Context,
        dispatchers: Arc<Dispatchers>,
        breakers: Arc<Breakers>,
        bulkhead: Arc<Bulkhead>,
    ) {
        let (clock, ended) = (context.clock.clock().clone(), self.ended.clone());
        context.lifecycle.spawn("worker connections", async move {
            loop {
                tokio::select! {
                    () = ended.cancelled() => return,
                    () = clock.sleep(TIDY_EVERY) => {
                        dispatchers.close_idle();
                        breakers.forget_idle(clock.monotonic());
                        bulkhead.forget_idle(clock.monotonic());
                    }
                }
            }
        });
    }

    async fn end(self, context: &Context, deadline: Duration) {
        tokio::select! {
            () = self.settled.cancelled() => {}
            () = context.lifecycle.aborting().cancelled() => {}
            () = context.clock.clock().sleep_until(deadline) => {}
        }
        self.ended.cancel();
    }
}
