//! The queries.

use async_graphql::connection::{Connection, Edge};
use async_graphql::{Context, ID, Object, Result, SimpleObject};
use reveille_shared::model::schedule::ClientKey;
use reveille_shared::store::ScheduleFilter;

use super::errors::{failure, found};
use super::history::{HistoryEntry, HistoryFilterInput, history};
use super::input::{ListInput, PreviewInput, ScheduleFilterInput, Standing};
use super::limits::page_size;
use super::scalars::uuid;
use super::types::{Occurrence, Run, Schedule, Wake};
use super::workers::Worker;
use crate::Service;
use crate::error::Problem;
use crate::surface::listing::Listing;
use crate::surface::query::{cursor_id, selected};

/// Most schedules that `scheduledList` answers with: it has no pages.
const LIST_MAX: usize = 1_000;

/// What can be asked.
pub(crate) struct Query;

/// The instants of a timing.
#[derive(SimpleObject)]
struct Preview {
    occurrences: Vec<Occurrence>,
    /// How a cron expression takes a change of the clocks: `interval` follows the clock, `fixed` names times of day. Null for
    /// other types.
    daylight_saving: Option<&'static str>,
    /// Version of the rules of time zones (the IANA database) by which they were found.
    zone_rules: String,
}

#[Object]
impl Query {
    /// The schedule with this id, finished ones included; null when there is none.
    #[graphql(complexity = "20 + child_complexity")]
    async fn schedule(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Schedule>> {
        let Some(id) = found(uuid(&id, "schedule"))? else { return Ok(None) };
        Schedule::read(ctx.data()?, id).await
    }

    /// Schedules in id order. Finished ones are left out unless `standing` asks.
    #[graphql(complexity = "20 + first.unwrap_or(50).max(0) as usize * child_complexity")]
    async fn schedules(
        &self,
        ctx: &Context<'_>,
        filter: Option<ScheduleFilterInput>,
        standing: Option<Standing>,
        #[graphql(desc = "How many at most, 1 to 200; 50 when absent")] first: Option<i32>,
        #[graphql(desc = "Cursor of the schedule to start after")] after: Option<String>,
    ) -> Result<Connection<String, Schedule>> {
        let limit = usize::try_from(page_size(first)?)?;
        let client = filter.unwrap_or_default().key().map_err(|problem| failure(&problem))?;
        let listing = listing(ctx.data()?, client, standing, after.as_deref()).map_err(|problem| failure(&problem))?;
        let (documents, next) = listing.page(limit).await.map_err(|problem| failure(&problem))?;
        let mut page = Connection::new(after.is_some(), next.is_some());
        for document in documents {
            let schedule = Schedule::of(document)?;
            page.edges.push(Edge::new(schedule.cursor(), schedule));
        }
        Ok(page)
    }

    /// The run with this id, with its attempts; null when there is none.
    #[graphql(complexity = "20 + child_complexity")]
    async fn run(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Run>> {
        let Some(id) = found(uuid(&id, "run"))? else { return Ok(None) };
        Run::read(ctx.data()?, id).await
    }

    /// The history of schedules whose task has `historyCheck`, newest entry first unless `ascending`; also of
    /// schedules that are gone.
    #[graphql(complexity = "20 + first.unwrap_or(50).max(0) as usize * child_complexity")]
    async fn history(
        &self,
        ctx: &Context<'_>,
        filter: Option<HistoryFilterInput>,
        #[graphql(default, desc = "Oldest first")] ascending: bool,
        #[graphql(desc = "How many at most, 1 to 200; 50 when absent")] first: Option<i32>,
        #[graphql(desc = "Cursor of the entry to start after")] after: Option<String>,
    ) -> Result<Connection<String, HistoryEntry>> {
        history(ctx, filter, ascending, first, after).await
    }

    /// The next instants of a timing that is not registered.
    #[graphql(complexity = "20 + 10 * child_complexity")]
    async fn preview(&self, ctx: &Context<'_>, timing: PreviewInput) -> Result<Preview> {
        let service: &Service = ctx.data()?;
        let preview = timing.document().and_then(|document| service.preview(document.as_bytes()));
        let preview = preview.map_err(|problem| failure(&problem))?;
        Ok(Preview {
            occurrences: preview.instants.into_iter().map(Occurrence::from).collect(),
            daylight_saving: preview.daylight_saving,
            zone_rules: preview.zone_rules,
        })
    }

    /// The wake state as this process sees it.
    async fn wake(&self, ctx: &Context<'_>) -> Result<Wake> {
        let service: &Service = ctx.data()?;
        let state = service.wake().await.map_err(|problem| failure(&problem))?;
        Ok(Wake::of(state.as_ref()))
    }

    /// The workers that are there, by name. A key that is limited to an application is told no targets.
    #[graphql(complexity = "20 + 10 * child_complexity")]
    async fn workers(&self, ctx: &Context<'_>) -> Result<Vec<Worker>> {
        let service: &Service = ctx.data()?;
        let workers = service.workers().await.map_err(|problem| failure(&problem))?;
        Ok(workers.into_iter().map(Worker::from).collect())
    }

    /// All schedules that wait, or with `dlq` those that were given up: the published schema's list. It has no
    /// pages, so beyond 1000 it is refused; `schedules` has.
    #[graphql(complexity = "20 + 50 * child_complexity")]
    async fn scheduled_list(&self, ctx: &Context<'_>, queue_type: ListInput) -> Result<Vec<Schedule>> {
        let standing = queue_type.dlq.then_some(Standing::Invalidity);
        let filter = ScheduleFilterInput::of_group(queue_type.group);
        let service: &Service = ctx.data()?;
        let listed = async {
            let mut listing = listing(service, filter.key()?, standing, None)?;
            if let Some(name) = queue_type.name.filter(|name| !name.is_empty()) {
                listing = listing.named(name);
            }
            let (documents, next) = listing.page(LIST_MAX).await?;
            match next {
                None => Ok(documents),
                Some(_) => {
                    let detail = format!("more than {LIST_MAX} schedules match: ask `schedules` for pages of them");
                    Err(Problem::bad_query("queueType", detail))
                }
            }
        };
        let documents = listed.await.map_err(|problem: Problem| failure(&problem))?;
        documents.into_iter().map(Schedule::of).collect()
    }
}

fn listing(
    service: &Service,
    client: ClientKey,
    standing: Option<Standing>,
    after: Option<&str>,
) -> Result<Listing, Problem> {
    let (states, status) = standing.map(|standing| selected(standing.word())).transpose()?.unwrap_or_default();
    let after = after.map(cursor_id).transpose()?;
    Ok(Listing::new(service.clone(), ScheduleFilter { client, states }, status, after))
}
