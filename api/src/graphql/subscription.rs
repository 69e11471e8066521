//! The subscription of run stages. What it tells are hints: they may be lost, repeated or late, and nothing is
//! kept for a subscriber who was away. The truth of a run stands in `run(id)`.

use async_graphql::{Context, Enum, ID, Result, SimpleObject, Subscription as Subscribed};
use chrono::{DateTime, Utc};
use futures_util::{Stream, stream};
use reveille_shared::bus::stage::{RunStage as Told, Stage, StageNews};

use super::errors::failure;
use super::run_state::RunStateWord;
use super::scalars::{instant, uuid};
use super::watch::Watchers;
use crate::Service;

/// What can be watched.
pub(crate) struct Subscription;

/// A stage that a run reached.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct RunStage {
    /// The run.
    run_id: ID,
    /// Its schedule.
    schedule_id: ID,
    /// The application that registered it.
    application: String,
    /// Its group.
    group: String,
    /// The attempt this belongs to, 1 for the first.
    attempt: i32,
    /// What happened.
    stage: StageWord,
    /// The run's state after it.
    state: RunStateWord,
    /// Word of the outcome, where there is one: `ok`, `http_status`, `timeout`, …
    outcome: Option<String>,
    /// When.
    at: Option<DateTime<Utc>>,
    /// Whether stages before this one were lost on the way, of this run or of others.
    missed: bool,
}

/// What happened to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "Stage", remote = "Stage")]
pub(super) enum StageWord {
    /// A worker holds it.
    Claimed,
    /// Its target is being called.
    Dispatched,
    /// It failed and waits for another attempt.
    RetryArmed,
    /// It was given back to be claimed again.
    HandedBack,
    /// Trust in its lease ran out, it comes back.
    LeaseLost,
    /// It ended.
    Settled,
}

/// Which stages a subscriber wants and may see.
struct Wanted {
    schedule: Option<reveille_shared::model::ScheduleId>,
    application: Option<String>,
    group: Option<String>,
    /// What the caller is limited to.
    limit: Option<String>,
}

impl Wanted {
    fn takes(&self, told: &Told) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        self.schedule.is_none_or(|id| id == told.schedule_id)
            && is(&self.application, &told.application)
            && is(&self.group, &told.group)
            && is(&self.limit, &told.application)
    }
}

#[Subscribed]
impl Subscription {
    /// Stages of runs from now on: of one schedule, of an application, of a group, or of all that the caller
    /// may see. Hints: they may be lost, repeated or late; read `run(id)` for the truth.
    async fn run_stages(
        &self,
        ctx: &Context<'_>,
        schedule_id: Option<ID>,
        application: Option<String>,
        group: Option<String>,
    ) -> Result<impl Stream<Item = RunStage> + use<>> {
        let schedule = schedule_id.as_ref().map(|id| uuid(id, "schedule")).transpose();
        let wanted = Wanted {
            schedule: schedule.map_err(|problem| failure(&problem))?,
            application: application.filter(|text| !text.is_empty()),
            group: group.filter(|text| !text.is_empty()),
            limit: ctx.data::<Service>()?.caller().application.clone(),
        };
        let watcher = ctx.data::<Watchers>()?.watch();
        let news = stream::unfold(watcher, async |mut watcher| Some((watcher.next().await?, watcher)));
        let mut missed = false;
        let batches = futures_util::StreamExt::map(news, move |news| {
            let mut shown = Vec::new();
            match news {
                StageNews::Gap => missed = true,
                StageNews::Told(stages) => {
                    for told in stages.iter().filter(|told| wanted.takes(told)) {
                        shown.push(RunStage::of(told, std::mem::take(&mut missed)));
                    }
                }
            }
            stream::iter(shown)
        });
        Ok(futures_util::StreamExt::flatten(batches))
    }
}

impl RunStage {
    fn of(told: &Told, missed: bool) -> Self {
        Self {
            run_id: told.run_id.into(),
            schedule_id: told.schedule_id.into(),
            application: told.application.clone(),
            group: told.group.clone(),
            attempt: told.attempt,
            stage: told.stage.into(),
            state: told.state.into(),
            outcome: told.outcome.clone(),
            at: instant(told.at),
            missed,
        }
    }
}
