//! What can be asked of the scheduler, whatever the surface: register, update, show, delete, pause,
//! resume, trigger, preview. Validates, calls the store, and after the commit hints.

mod register;

use reveille_shared::Context;
use reveille_shared::bus::presence::WorkerPresence;
use reveille_shared::bus::wake::WakeState;
use reveille_shared::model::access::Scope;
use reveille_shared::model::document::{self, Defaults};
use reveille_shared::model::policy::Plan;
use reveille_shared::model::schedule::ClientKey;
use reveille_shared::model::timing::{Arming, PreviewedInstant, Timing, TimingError};
use reveille_shared::model::traceparent::TraceParent;
use reveille_shared::model::zone::rules;
use reveille_shared::model::{RunId, ScheduleId, UnixMs};
use reveille_shared::runtime::seal::Sealer;
use reveille_shared::store::{
    AttemptRow, Deleted, HistoryFilter, HistoryPage, HistoryRow, Page, RunRow, ScheduleFilter, ScheduleRow, Selection,
    StoreError, Triggered,
};

pub(crate) use self::register::Registered;
use crate::Settings;
use crate::auth::Caller;
use crate::commit::{Armed, commit, estimated};
use crate::error::Problem;
use crate::limits::Limits;
use crate::registrar::Registrar;

/// How often a registration picks a later instant because the one it picked has a run already.
const ARMING_TRIES: usize = 5;

/// What a timing that is not registered would do.
pub struct Preview {
    /// Its next instants.
    pub instants: Vec<PreviewedInstant>,
    /// Of a cron expression: `interval` where it follows the clock, `fixed` where it names times of day.
    pub daylight_saving: Option<&'static str>,
    /// Version of the rules of time zones by which they were found.
    pub zone_rules: String,
}

/// The scheduler as its callers see it. Cloning shares it.
#[derive(Clone)]
pub struct Service {
    context: Context,
    registrar: Registrar,
    defaults: Defaults,
    sealer: Sealer,
    caller: Caller,
    limits: Limits,
    /// The span of the request it acts for.
    traceparent: Option<TraceParent>,
}

impl Service {
    /// A service on these parts, for the operator.
    pub fn new(context: Context, settings: &Settings) -> Self {
        Self {
            registrar: Registrar::new(context.clone()),
            context,
            defaults: settings.defaults(),
            sealer: settings.sealer.clone(),
            caller: Caller::operator(),
            limits: settings.limits,
            traceparent: None,
        }
    }

    /// The same service for this caller: it shows and does what he may see and do.
    pub fn acting_for(&self, caller: Caller) -> Self {
        Self { caller, ..self.clone() }
    }

    /// The same service within a request: runs point to the request that registered them.
    #[must_use]
    pub fn traced(self, traceparent: Option<TraceParent>) -> Self {
        Self { traceparent, ..self }
    }

    /// The schedule with this id.
    ///
    /// # Errors
    /// 404, 503.
    pub async fn schedule(&self, id: ScheduleId) -> Result<ScheduleRow, Problem> {
        self.caller.needs(Scope::Read)?;
        let row = self.context.store.schedule_get(id).await?.ok_or(StoreError::NotFound)?;
        if self.caller.application.is_some() && !self.caller.sees(&stored_plan(&row)?.definition.client.application) {
            return Err(StoreError::NotFound.into());
        }
        Ok(row)
    }

    /// # Errors
    /// 404 when the caller is limited to an application and this is not a schedule of it. Who is not limited is
    /// told by the statement that follows.
    async fn visible(&self, id: ScheduleId) -> Result<(), Problem> {
        if self.caller.application.is_some() {
            self.schedule(id).await?;
        }
        Ok(())
    }

    /// A page of schedules in id order.
    ///
    /// # Errors
    /// 503.
    pub async fn schedules(&self, filter: &ScheduleFilter, page: &Page) -> Result<Vec<ScheduleRow>, Problem> {
        self.caller.needs(Scope::Read)?;
        let mut filter = filter.clone();
        if !self.narrow(&mut filter.client) {
            return Ok(Vec::new());
        }
        Ok(self.context.store.schedule_list(&filter, page).await?)
    }

    /// Deletes what is selected.
    ///
    /// # Errors
    /// 404 when nothing matched; 503.
    pub async fn delete(&self, selection: &Selection) -> Result<Deleted, Problem> {
        self.caller.needs(Scope::Write)?;
        let mut selection = selection.clone();
        match &mut selection {
            Selection::Id(id) => self.visible(*id).await?,
            Selection::Client(client) => {
                if !self.narrow(client) {
                    return Err(Problem::not_found("no schedule matched"));
                }
            }
        }
        let deleted = self.context.store.schedule_delete(&selection).await?;
        if deleted.count == 0 {
            return Err(Problem::not_found("no schedule matched"));
        }
        Ok(deleted)
    }

    /// Stops a schedule until resumed.
    ///
    /// # Errors
    /// 404; 409 when it is finished; 503.
    pub async fn pause(&self, id: ScheduleId) -> Result<(), Problem> {
        self.caller.needs(Scope::Write)?;
        self.visible(id).await?;
        Ok(self.context.store.schedule_pause(id).await?)
    }

    /// Lets a paused schedule go on.
    ///
    /// # Errors
    /// 404; 409 when it is finished; 503.
    pub async fn resume(&self, id: ScheduleId) -> Result<(), Problem> {
        self.caller.needs(Scope::Write)?;
        let mut taken = UnixMs::MIN;
        for _ in 0..=ARMING_TRIES {
            // Read anew at each try: the instant must be one of the revision that is resumed.
            let row = self.schedule(id).await?;
            let Plan { definition, timing } = stored_plan(&row)?;
            let arming = arming(&timing, self.arming_now(definition.kind).await?.max(taken))?;
            let resumed = self.context.store.schedule_resume(id, row.revision, &arming);
            let intended = estimated(&self.context.clock, arming.at);
            match commit(&self.context, intended, resumed, |due_at| Armed::by_resume(arming.at, *due_at)).await {
                Err(StoreError::OccurrenceTaken { latest }) => taken = latest,
                Err(StoreError::RevisionMoved) => {}
                outcome => return Ok(outcome.map(|_| ())?),
            }
        }
        Err(StoreError::OccurrenceTaken { latest: taken }.into())
    }

    /// Fires a schedule once, now, beside its own times.
    ///
    /// # Errors
    /// 404; 409 when it is paused; 503.
    pub async fn trigger(&self, id: ScheduleId) -> Result<Triggered, Problem> {
        self.caller.needs(Scope::Write)?;
        self.visible(id).await?;
        let triggered = self.context.store.schedule_trigger(id);
        Ok(commit(&self.context, self.context.clock.now_ms(), triggered, Armed::by_trigger).await?)
    }

    /// Runs of a schedule, newest nominal instant first.
    ///
    /// # Errors
    /// 404, 503.
    pub async fn runs(&self, id: ScheduleId, after: Option<(UnixMs, i64)>, limit: i64) -> Result<Vec<RunRow>, Problem> {
        self.caller.needs(Scope::Read)?;
        self.visible(id).await?;
        let runs = self.context.store.run_list(id, after, limit).await?;
        if runs.is_empty() {
            self.schedule(id).await?;
        }
        Ok(runs)
    }

    /// One run with its kept attempts.
    ///
    /// # Errors
    /// 404, 503.
    pub async fn run(&self, id: RunId) -> Result<(RunRow, Vec<AttemptRow>), Problem> {
        self.caller.needs(Scope::Read)?;
        let not_found = || Problem::not_found("there is no run with this id");
        let found = self.context.store.run_get(id).await?.ok_or_else(not_found)?;
        self.visible(found.0.schedule_id).await.map_err(|problem| match problem.status {
            404 => not_found(),
            _ => problem,
        })?;
        Ok(found)
    }

    /// Entries of the history that the caller may see.
    ///
    /// # Errors
    /// 503.
    pub async fn history(&self, filter: &HistoryFilter, page: &HistoryPage) -> Result<Vec<HistoryRow>, Problem> {
        self.caller.needs(Scope::Read)?;
        let mut filter = filter.clone();
        if let Some(own) = &self.caller.application {
            if filter.application.as_ref().is_some_and(|asked| asked != own) {
                return Ok(Vec::new());
            }
            filter.application = Some(own.clone());
        }
        Ok(self.context.store.history_list(&filter, page).await?)
    }

    /// Entries of the history of a schedule, also of one that is deleted.
    ///
    /// # Errors
    /// 404 when there is neither the schedule nor any history of it; 503.
    pub async fn schedule_history(
        &self,
        id: ScheduleId,
        filter: &HistoryFilter,
        page: &HistoryPage,
    ) -> Result<Vec<HistoryRow>, Problem> {
        let found = self.history(&HistoryFilter { schedule_id: Some(id), ..filter.clone() }, page).await?;
        if found.is_empty() {
            let any = HistoryFilter { schedule_id: Some(id), ..HistoryFilter::default() };
            let first = HistoryPage { after: None, ascending: false, limit: 1 };
            if self.history(&any, &first).await?.is_empty() {
                self.schedule(id).await?;
            }
        }
        Ok(found)
    }

    /// The next instants of a timing that is not registered.
    ///
    /// # Errors
    /// 400 or 422 for the request.
    pub fn preview(&self, body: &[u8]) -> Result<Preview, Problem> {
        let request = document::parse_preview(body, &self.defaults)?;
        let from = request.from.unwrap_or_else(|| self.context.clock.now_ms());
        arming(&request.timing, from)?;
        Ok(Preview {
            instants: request.timing.preview(from, request.count),
            daylight_saving: request.timing.is_interval().map(|is| if is { "interval" } else { "fixed" }),
            zone_rules: rules::current().version().to_string(),
        })
    }

    /// The database's now, as this process estimates it.
    ///
    /// # Errors
    /// 403.
    pub fn now(&self) -> Result<UnixMs, Problem> {
        self.caller.needs(Scope::Read)?;
        Ok(self.context.clock.now_ms())
    }

    /// The wake state as this process sees it.
    ///
    /// # Errors
    /// 503 when Redis does not answer.
    pub async fn wake(&self) -> Result<Option<WakeState>, Problem> {
        Ok(self.context.bus.read().await?)
    }

    /// The workers that are there. Who is limited to an application is not told which targets are in trouble: they may
    /// be others'.
    ///
    /// # Errors
    /// 503 when Redis does not answer.
    pub async fn workers(&self) -> Result<Vec<WorkerPresence>, Problem> {
        self.caller.needs(Scope::Read)?;
        let mut workers = self.context.bus.workers_read().await?;
        if self.caller.application.is_some() {
            workers.iter_mut().for_each(|worker| worker.targets.clear());
        }
        Ok(workers)
    }

    /// Limits a filter to the caller's application; false when it names another one, and so matches nothing.
    fn narrow(&self, client: &mut ClientKey) -> bool {
        let Some(own) = &self.caller.application else { return true };
        if client.application.is_empty() {
            client.application.clone_from(own);
        }
        client.application == *own
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }
}

fn arming(timing: &Timing, after: UnixMs) -> Result<Arming, Problem> {
    timing.arming(after).map_err(|error| match error {
        TimingError::Timezone(detail) => Problem::invalid_field("/timezone", "invalid_timezone", detail),
        TimingError::Schedule(detail) => Problem::invalid_field("/schedule", "invalid_schedule", detail),
        never @ TimingError::NeverFires => Problem::invalid_field("/schedule", "never_fires", never.to_string()),
    })
}

/// What a stored payload says; it was valid when it was stored.
fn stored_plan(row: &ScheduleRow) -> Result<Plan, Problem> {
    Plan::read(&row.payload).ok_or_else(|| {
        tracing::error!(schedule.id = %row.id, "a stored document cannot be read");
        crate::error::internal()
    })
}
