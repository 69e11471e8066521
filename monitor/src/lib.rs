//! The elected monitor: tracks the next due instant in the database and publishes it; brings back what
//! dead workers held; prunes what is finished.
//!
//! One leads, the others sleep on the heartbeats they hear. Nothing depends on there being exactly one:
//! without a monitor workers keep the instants they know and check the database now and then by
//! themselves; two at once overwrite each other's hints with equal or earlier ones.
//!
//! [`election`], [`watch`], [`outlook`] and [`sweep`] are pure planners, stepped by tests; `term` and this file are the
//! thin loops that wait, ask them and act.

pub mod election;
mod metrics;
pub mod outlook;
pub mod sweep;
mod term;
pub mod watch;
mod zones;

use std::error::Error;
use std::time::Duration;

use reveille_shared::Context;
use reveille_shared::bus::Subscription;
use reveille_shared::runtime::telemetry::Pulse;
use tokio::time::timeout;

use self::election::Candidacy;
use self::metrics::MonitorMetrics;
use self::term::{Term, TermEnd};

/// Settings of a monitor.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often the database is read although nothing seems to happen; never more than the lease.
    pub recheck: Duration,
    /// How often it repeats the state as a heartbeat.
    pub beat: Duration,
    /// How long leadership lasts without a beat; at least two beats.
    pub ttl: Duration,
}

/// Runs a monitor, leading or standing by, until the lifecycle stops it; then it resigns and returns.
pub async fn run(context: Context, settings: Settings) {
    let id = uuid::Uuid::new_v4().to_string();
    let events = context.bus.subscribe();
    let metrics = MonitorMetrics::register(&context.metrics, context.clock.clone());
    // A loop that turns waits for the database for less than a ttl, and for the bus for less than another.
    let now = context.clock.clock().monotonic();
    let pulse = context.metrics.pulse("monitor", 5 * settings.ttl, now);
    let candidacy = Candidacy::new(settings.ttl, fastrand::Rng::new());
    Monitor { context, settings, metrics, pulse, id, events, candidacy }.run().await;
}

struct Monitor {
    context: Context,
    settings: Settings,
    metrics: MonitorMetrics,
    pulse: Pulse,
    id: String,
    events: Subscription,
    candidacy: Candidacy,
}

impl Monitor {
    async fn run(mut self) {
        while self.stand_by().await {
            let end = self.lead().await;
            let now = self.now();
            match end {
                TermEnd::Stopped => return self.resign().await,
                TermEnd::Lost => self.candidacy.on_lost(now),
                TermEnd::GaveUp => {
                    self.resign().await;
                    self.candidacy.on_gave_up(now);
                }
            }
        }
    }

    /// Sleeps until this process is elected: true; or until it stops: false.
    async fn stand_by(&mut self) -> bool {
        loop {
            let now = self.now();
            self.pulse.beat(now);
            // Without a plan there is a connection to wait for; the sleep is for the pulse then.
            let idle_until = now + self.settings.ttl;
            let stand_at = self.candidacy.stand_at();
            tokio::select! {
                biased;
                () = self.context.lifecycle.stopping().cancelled() => return false,
                event = self.events.recv() => match event {
                    Some(event) => self.candidacy.on_event(self.now(), &event),
                    None => return false,
                },
                () = self.context.clock.clock().sleep_until(stand_at.unwrap_or(idle_until)) => {
                    if stand_at.is_some() && self.stand().await {
                        return true;
                    }
                }
            }
        }
    }

    async fn stand(&mut self) -> bool {
        let elected = self.context.bus.elect(&self.id, self.settings.ttl).await;
        let now = self.now();
        match elected {
            Ok(true) => return true,
            Ok(false) => self.candidacy.on_led(now),
            Err(error) => {
                tracing::debug!(error = &error as &dyn Error, "could not stand for monitor");
                self.candidacy.on_failed(now);
            }
        }
        false
    }

    async fn lead(&mut self) -> TermEnd {
        let patience = self.settings.ttl.saturating_sub(self.settings.beat);
        let epoch = match timeout(patience, self.context.store.epoch_next()).await {
            Ok(Ok(epoch)) => epoch,
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn Error,
                    "elected monitor, but the database cannot be used: leaving it to others"
                );
                return TermEnd::GaveUp;
            }
            Err(_) => {
                tracing::warn!("elected monitor, but the database does not answer: leaving it to others");
                return TermEnd::GaveUp;
            }
        };
        tracing::info!(monitor.id = %self.id, monitor.epoch = epoch, "elected monitor");
        self.metrics.term_begins(epoch);
        let mut term = Term::new(&self.context, &self.settings, &self.metrics, &self.pulse, &self.id, epoch);
        let end = term.lead(&mut self.events).await;
        self.metrics.term_ends();
        tracing::info!(monitor.id = %self.id, monitor.epoch = epoch, end = ?end, "no longer monitor");
        end
    }

    /// Says that the field is free. Unheard, the others notice the silence.
    async fn resign(&self) {
        match timeout(self.settings.beat, self.context.bus.resign(&self.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn Error, "could not resign, the leadership will run out")
            }
            Err(_) => tracing::warn!("could not resign in time, the leadership will run out"),
        }
    }

    fn now(&self) -> Duration {
        self.context.clock.clock().monotonic()
    }
}
