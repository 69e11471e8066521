//! The history in GraphQL: the entries that REST shows at `/history`, as pages of a connection.

use async_graphql::connection::{Connection, Edge};
use async_graphql::{Context, Enum, ID, InputObject, Object, Result};
use chrono::{DateTime, Utc};
use reveille_shared::model::history::HistoryKind;
use reveille_shared::model::lateness::LateCause;
use reveille_shared::model::run::OutcomeCode;
use reveille_shared::store::{HistoryFilter, HistoryPage, HistoryRow};

use super::client::Client;
use super::errors::{failure, found};
use super::limits::page_size;
use super::run_state::RunStateWord;
use super::scalars::{instant, number, uuid};
use crate::Service;
use crate::error::Problem;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "HistoryKind", remote = "HistoryKind")]
pub(super) enum HistoryKindWord {
    /// The schedule was registered for the first time.
    Registered,
    /// It was registered or updated with another definition, or armed anew.
    Updated,
    /// A run was dispatched for the first time.
    Executed,
    /// A run was dispatched again: a retry, or after its worker died.
    Reexecuted,
    /// A run ended without being dispatched.
    Dropped,
    /// The schedule was paused.
    Paused,
    /// It was resumed.
    Resumed,
    /// It was fired by hand.
    Triggered,
    /// It was deleted.
    Deleted,
    /// Its armed run was moved, because the rules of its time zone changed.
    Rearmed,
}

impl HistoryFilterInput {
    /// The entries of one schedule.
    pub(super) fn of_schedule(id: ID) -> Self {
        Self { schedule_id: Some(id), ..Self::default() }
    }
}

/// Which entries. What is absent matches everything; client keys are those of the time of the entry.
#[derive(InputObject, Default)]
pub(super) struct HistoryFilterInput {
    application: Option<String>,
    group: Option<String>,
    key: Option<String>,
    operation: Option<String>,
    /// Type of caller.
    #[graphql(name = "type")]
    kind_of_client: Option<String>,
    schedule_id: Option<ID>,
    run_id: Option<ID>,
    kind: Option<HistoryKindWord>,
    /// The outcome's word: `ok`, `http_status`, `timeout`, …
    outcome: Option<String>,
    /// At this instant or later.
    from: Option<DateTime<Utc>>,
    /// Before this instant.
    to: Option<DateTime<Utc>>,
}

impl HistoryFilterInput {
    fn filter(self) -> Result<HistoryFilter, Problem> {
        let outcome = self.outcome.map(|word| {
            OutcomeCode::from_word(&word).ok_or_else(|| Problem::bad_query("outcome", "this is no outcome"))
        });
        Ok(HistoryFilter {
            application: self.application,
            group: self.group,
            key: self.key,
            operation: self.operation,
            client_type: self.kind_of_client,
            schedule_id: self.schedule_id.map(|id| uuid(&id, "schedule")).transpose()?,
            run_id: self.run_id.map(|id| uuid(&id, "run")).transpose()?,
            kind: self.kind.map(HistoryKind::from),
            outcome: outcome.transpose()?,
            from: self.from.map(|at| at.timestamp_millis()),
            to: self.to.map(|at| at.timestamp_millis()),
        })
    }
}

/// A page of the history, newest first unless `ascending`.
pub(super) async fn history(
    ctx: &Context<'_>,
    filter: Option<HistoryFilterInput>,
    ascending: bool,
    first: Option<i32>,
    after: Option<String>,
) -> Result<Connection<String, HistoryEntry>> {
    let service: &Service = ctx.data()?;
    let limit = page_size(first)?;
    let start = after.as_deref().map(crate::surface::query::cursor_pair).transpose();
    let start = start.map_err(|problem| failure(&problem))?;
    let page = HistoryPage { after: start, ascending, limit: i64::from(limit) + 1 }; // one more tells of a next page
    let asked = async { service.history(&filter.unwrap_or_default().filter()?, &page).await };
    // An id that nobody has matches nothing.
    let mut rows = found(asked.await)?.unwrap_or_default();
    let limit = usize::try_from(limit)?;
    let mut shown = Connection::new(after.is_some(), rows.len() > limit);
    rows.truncate(limit);
    let edges = rows.into_iter().map(|row| Edge::new(format!("{}_{}", row.at, row.id), HistoryEntry(row)));
    shown.edges = edges.collect();
    Ok(shown)
}

/// An entry of the history of a schedule whose task has `history_check`.
pub(super) struct HistoryEntry(HistoryRow);

/// An entry of the history of a schedule whose task has `history_check`.
#[Object]
impl HistoryEntry {
    /// Its id.
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }
    /// When it happened.
    async fn at(&self) -> Option<DateTime<Utc>> {
        instant(self.0.at)
    }
    /// What happened.
    async fn kind(&self) -> HistoryKindWord {
        self.0.kind.into()
    }
    /// To which schedule.
    async fn schedule_id(&self) -> ID {
        self.0.schedule_id.into()
    }
    /// To which run; for a change of the schedule, the run it armed.
    async fn run_id(&self) -> Option<ID> {
        self.0.run_id.map(ID::from)
    }
    /// The schedule's client key at that time.
    async fn client(&self) -> Client {
        Client::from(self.0.client.clone())
    }
    /// The schedule's name at that time.
    async fn name(&self) -> &str {
        &self.0.name
    }
    /// The schedule's revision; of an execution, the one that armed the run.
    async fn revision(&self) -> i64 {
        self.0.revision
    }
    /// Which attempt it was.
    async fn attempt(&self) -> Option<i32> {
        self.0.attempt
    }
    /// How it ended: `ok`, `http_status`, `timeout`, …
    async fn outcome(&self) -> Option<&str> {
        self.0.outcome.map(OutcomeCode::as_str)
    }
    /// The run's state after it.
    async fn state(&self) -> Option<RunStateWord> {
        self.0.state.map(RunStateWord::from)
    }
    /// HTTP status of the answer.
    async fn http_status(&self) -> Option<i32> {
        self.0.http_status
    }
    /// Milliseconds from its due time to its dispatch.
    async fn lag_ms(&self) -> Option<f64> {
        self.0.lag_ms.map(number)
    }
    /// Milliseconds from its dispatch to its outcome.
    async fn duration_ms(&self) -> Option<f64> {
        self.0.duration_ms.map(number)
    }
    /// Why it was late, when it was.
    async fn late_cause(&self) -> Option<&str> {
        self.0.late_cause.map(LateCause::as_str)
    }
    /// One sentence about the outcome.
    async fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }
    /// Who dispatched it.
    async fn worker(&self) -> Option<&str> {
        self.0.worker.as_deref()
    }
}
