//! Every command that the bus needs, tried beside what is in use: an ACL that lacks one, a proxy that knows no scripts or
//! a replica show here and not at night.

use std::sync::Arc;
use std::time::Duration;

use super::commands::Request;
use super::patience::{DIAL_LIMIT, REPLY_LIMIT, within};
use super::scripts::Scripts;
use super::{Names, RedisBus};
use crate::bus::presence::WorkerPresence;
use crate::bus::wake::fresh_nonce;
use crate::bus::{Beat, Bus, BusError, ToldBacklog};

/// For keys that a rehearsal leaves behind which is cut off.
const ASIDE: Duration = Duration::from_secs(60);

impl RedisBus {
    /// Tries everything that is done over this bus, with names of its own within the namespace, and removes what it wrote.
    /// Answers what did not work, by what it is needed for.
    pub async fn rehearse(&self) -> Vec<(&'static str, BusError)> {
        let aside = self.aside();
        let id = "rehearsal";
        let beat = Beat { id: id.to_owned(), epoch: 1, ttl: ASIDE, db_ms: 0, seen_nonce: 0, seen_seq: 0 };
        let worker = WorkerPresence {
            id: id.to_owned(),
            name: id.to_owned(),
            version: String::new(),
            zone_rules: String::new(),
            queues: Vec::new(),
            slots: 0,
            in_flight: 0,
            draining: true,
            started_at: 0,
            told_at: 0,
            targets: Vec::new(),
        };
        let elected = aside.elect(id, ASIDE).await;
        let marked = aside.mark(id, 1).await;
        let nonce = marked.as_ref().map_or(0, |state| state.nonce);
        let outcomes = [
            ("electing a monitor (SET, GET, PTTL, PEXPIRE in a script)", elected.map(drop)),
            ("the monitor's look (GET, SET in a script)", marked.map(drop)),
            ("the monitor's look (GET, SET, PUBLISH in a script)", aside.set(id, nonce, Some(1)).await.map(drop)),
            ("hints of registrations (GET, SET, PUBLISH in a script)", aside.lower(0, 0).await.map(drop)),
            ("waking workers (GET, SET, PUBLISH in a script)", aside.nudge().await.map(drop)),
            ("heartbeats (GET, SET, PEXPIRE, PUBLISH in a script)", aside.beat(&beat).await.map(drop)),
            ("the end of a term (GET, DEL, PUBLISH in a script)", aside.resign(id).await),
            ("reading the wake state (GET)", aside.read().await.map(drop)),
            ("telling the backlog (SET with PX)", aside.backlog_tell(&ToldBacklog::default(), ASIDE).await),
            ("telling workers (TIME, HSET, PEXPIRE in a script)", aside.worker_tell(&worker).await),
            ("listing workers (TIME, HGETALL, HDEL in a script)", aside.workers_read().await.map(drop)),
            ("the end of a worker (HDEL)", aside.worker_gone(id).await),
            ("stages of runs (PUBLISH)", aside.stages_tell(&[]).await),
            ("listening (SUBSCRIBE)", aside.listens().await),
            ("tidying up (DEL)", aside.forget().await),
        ];
        outcomes.into_iter().filter_map(|(what, outcome)| Some((what, outcome.err()?))).collect()
    }

    /// The same server and connection, other keys.
    fn aside(&self) -> Self {
        let name = |name: &str| {
            let (namespace, part) = name.rsplit_once(':').unwrap_or(("", name));
            format!("{namespace}:doctor:{}:{part}", fresh_nonce())
        };
        let Names { wake, monitor, backlog, workers, stages } = &self.names;
        let names = Names {
            wake: name(wake),
            monitor: name(monitor),
            backlog: name(backlog),
            workers: name(workers),
            stages: name(stages),
        };
        Self {
            servers: self.servers.clone(),
            commands: Arc::clone(&self.commands),
            names,
            scripts: Scripts::new(),
            clock: self.clock.clone(),
            lifecycle: self.lifecycle.clone(),
        }
    }

    async fn listens(&self) -> Result<(), BusError> {
        let listening = async {
            let client = self.servers.find().await?.client;
            let mut connection = within(DIAL_LIMIT, client.get_async_pubsub()).await?;
            within(REPLY_LIMIT, connection.subscribe(&self.names.wake)).await
        };
        listening.await.map_err(BusError::Unavailable)
    }

    /// What was written.
    async fn forget(&self) -> Result<(), BusError> {
        let Names { wake, monitor, backlog, workers, .. } = &self.names;
        for key in [wake, monitor, backlog, workers] {
            let mut delete = ::redis::cmd("DEL");
            delete.arg(key);
            self.commands.ask::<()>(&Request::Command(&delete)).await?;
        }
        Ok(())
    }
}
