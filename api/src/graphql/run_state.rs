//! The states of a run, as words.

use async_graphql::Enum;
use reveille_shared::model::run::RunState;

/// State of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "RunState", remote = "RunState")]
pub(super) enum RunStateWord {
    /// Waits, also between retries.
    Pending,
    /// Claimed: a worker holds its lease.
    Running,
    /// The target accepted it.
    Succeeded,
    /// It failed and gets no further attempt.
    Failed,
    /// Kept as a dead letter.
    Dead,
    /// Its schedule was deleted, paused or replaced before it was dispatched.
    Cancelled,
    /// A policy decided against running it.
    Skipped,
    /// It was not started in the time its schedule allows.
    Expired,
}
