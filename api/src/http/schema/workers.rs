//! The answer that lists workers.

use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::answers::instant;
use super::{field, words};

/// A worker, as it told itself last.
#[derive(ToSchema)]
#[schema(as = Worker)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct WorkerAnswer {
    /// The name under which it claims: `--worker-name`.
    #[schema(example = "reveille-worker-7c9f-1")]
    name: String,
    version: String,
    /// Version of the rules by which it reads time zones.
    #[schema(example = "2026f")]
    zone_rules: String,
    /// The queues it serves.
    queues: Vec<String>,
    /// Calls it makes at the same time, at most: `--concurrency`.
    slots: u64,
    /// Calls on their way.
    in_flight: u64,
    /// Whether it is about to end and takes nothing more.
    draining: bool,
    #[schema(schema_with = instant)]
    started_at: String,
    /// When it told this.
    #[schema(schema_with = instant)]
    told_at: String,
    /// Targets it has trouble with, up to 50 of each kind.
    targets: Vec<TargetTroubleAnswer>,
}

/// A target that a worker has trouble with.
#[derive(ToSchema)]
#[schema(as = TargetTrouble)]
#[expect(dead_code, reason = "documentation")]
pub(super) struct TargetTroubleAnswer {
    /// Scheme, host and port.
    #[schema(example = "https://partner.example:443")]
    target: String,
    #[schema(schema_with = trouble_kinds)]
    kind: String,
}

fn trouble_kinds() -> RefOr<Schema> {
    let description = "`away`: it cannot be connected to, runs that call it wait. `congested`: it answers too slowly for what \
                       is to be sent there; others do not wait for it, the rest is sent later.";
    field(words(["away", "congested"]).description(Some(description)))
}
