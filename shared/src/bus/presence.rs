//! Which workers are there: each tells itself every few seconds, and is gone when it did not for a while. For people and
//! for whoever watches over queues; nothing is decided by it, so it may be lost or late.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::UnixMs;

/// How often a worker tells itself.
pub const EVERY: Duration = Duration::from_secs(10);
/// How long it counts as there after that: two of three may be lost.
pub const LASTS: Duration = Duration::from_secs(35);

/// A worker, as it tells itself. No secret, no path and no document is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerPresence {
    /// Random, of its process.
    pub id: String,
    /// The name under which it claims.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Version of the rules by which it reads time zones; empty from a version that did not say.
    #[serde(default)]
    pub zone_rules: String,
    /// The queues it serves.
    pub queues: Vec<String>,
    /// Runs it dispatches at the same time, at most.
    pub slots: usize,
    /// Calls on their way.
    pub in_flight: usize,
    /// Whether it is about to end and takes nothing more.
    pub draining: bool,
    /// When it started, by the database's clock.
    pub started_at: UnixMs,
    /// When it told this, by the database's clock.
    pub told_at: UnixMs,
    /// Targets it leaves alone or holds back, some at most.
    pub targets: Vec<Trouble>,
}

/// A target with which a worker has trouble.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Trouble {
    /// Scheme, host and port.
    pub target: String,
    /// Which.
    pub kind: TroubleKind,
}

/// What is the matter with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// It cannot be connected to: its breaker is open.
    Away,
    /// It answers too slowly for what is to be sent there: runs are turned away from it.
    Congested,
}
