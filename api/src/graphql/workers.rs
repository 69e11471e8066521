//! Who is there to dispatch.

use async_graphql::{Enum, SimpleObject};
use chrono::{DateTime, Utc};
use reveille_shared::bus::presence::{TroubleKind, WorkerPresence};

use super::scalars::instant;

/// A worker, as it told itself last.
#[derive(SimpleObject)]
pub(super) struct Worker {
    /// The name under which it claims.
    name: String,
    /// Its version.
    version: String,
    /// Version of the rules by which it reads time zones.
    zone_rules: String,
    /// The queues it serves.
    queues: Vec<String>,
    /// Calls it makes at the same time, at most.
    slots: i32,
    /// Calls on their way.
    in_flight: i32,
    /// Whether it is about to end and takes nothing more.
    draining: bool,
    /// When it started.
    started_at: Option<DateTime<Utc>>,
    /// When it told this.
    told_at: Option<DateTime<Utc>>,
    /// Targets it has trouble with, up to 50 of each kind.
    targets: Vec<TargetTrouble>,
}

/// A target that a worker has trouble with.
#[derive(SimpleObject)]
struct TargetTrouble {
    /// Scheme, host and port.
    target: String,
    /// What is the matter.
    kind: TargetTroubleKind,
}

/// What is the matter with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "TroubleKind")]
enum TargetTroubleKind {
    /// It cannot be connected to: runs that call it wait.
    Away,
    /// It answers too slowly for what is to be sent there; others do not wait for it, the rest is sent later.
    Congested,
}

impl From<WorkerPresence> for Worker {
    fn from(worker: WorkerPresence) -> Self {
        let trouble = |trouble: reveille_shared::bus::presence::Trouble| TargetTrouble {
            target: trouble.target,
            kind: trouble.kind.into(),
        };
        Self {
            name: worker.name,
            version: worker.version,
            zone_rules: worker.zone_rules,
            queues: worker.queues,
            slots: i32::try_from(worker.slots).unwrap_or(i32::MAX),
            in_flight: i32::try_from(worker.in_flight).unwrap_or(i32::MAX),
            draining: worker.draining,
            started_at: instant(worker.started_at),
            told_at: instant(worker.told_at),
            targets: worker.targets.into_iter().map(trouble).collect(),
        }
    }
}
