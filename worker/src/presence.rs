//! Tells over the bus that this worker is there, what it serves and with which targets it has trouble. For people alone:
//! nothing is claimed, called or delayed by it, and a bus that is away is told at the next turn.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::Context;
use reveille_shared::bus::presence::{EVERY, Trouble, TroubleKind, WorkerPresence};
use reveille_shared::model::zone::rules;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Settings;
use crate::breaker::Breakers;
use crate::bulkhead::Bulkhead;
use crate::destination::Peer;

/// Targets of each kind of trouble that are named, at most: one that a person reads.
const NAMED: usize = 50;
/// How long the end of the process may be held up by a bus that is away.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

/// What this worker tells of itself.
pub(crate) struct Presence {
    context: Context,
    breakers: Arc<Breakers>,
    bulkhead: Arc<Bulkhead>,
    told: WorkerPresence,
}

impl Presence {
    pub(crate) fn new(
        context: &Context,
        settings: &Settings,
        breakers: &Arc<Breakers>,
        bulkhead: &Arc<Bulkhead>,
    ) -> Self {
        let told = WorkerPresence {
            id: Uuid::new_v4().simple().to_string(),
            name: settings.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            zone_rules: String::new(),
            queues: settings.queues.clone(),
            slots: settings.concurrency,
            in_flight: 0,
            draining: false,
            started_at: context.clock.now_ms(),
            told_at: 0,
            targets: Vec::new(),
        };
        Self { context: context.clone(), breakers: breakers.clone(), bulkhead: bulkhead.clone(), told }
    }

    /// Tells it until the process closes, then that the worker went.
    pub(crate) async fn tell(mut self, closing: CancellationToken) {
        let stopping = self.context.lifecycle.stopping().clone();
        while !closing.is_cancelled() {
            self.look();
            if let Err(error) = self.context.bus.worker_tell(&self.told).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "the worker could not tell that it is there");
            }
            tokio::select! {
                () = closing.cancelled() => {}
                () = stopping.cancelled(), if !self.told.draining => {}
                () = self.context.clock.clock().sleep(EVERY) => {}
            }
        }
        // Whoever is not heard of counts as gone a little later.
        let _ = timeout(GOODBYE_LIMIT, self.context.bus.worker_gone(&self.told.id)).await;
    }

    fn look(&mut self) {
        let named = |peers: Vec<Peer>, kind| peers.into_iter().map(move |peer| Trouble { target: peer.shown(), kind });
        let away = named(self.breakers.away(NAMED), TroubleKind::Away);
        let congested = named(self.bulkhead.congested(NAMED), TroubleKind::Congested);
        self.told.targets = away.chain(congested).collect();
        self.told.targets.sort();
        self.told.targets.dedup(); // two logins of one server
        self.told.zone_rules = rules::current().version().to_string();
        self.told.in_flight = self.bulkhead.in_flight();
        self.told.draining = self.context.lifecycle.stopping().is_cancelled();
        self.told.told_at = self.context.clock.now_ms();
    }
}
