//! What can be asked of the scheduler, whatever the surface: register, update, show, delete, pause,
//! resume, trigger, preview. Validates, calls the store, and after the commit hints.

use reveille_shared::bus::wake::WakeState;
use reveille_shared::model::document::{self, Defaults, Parsed};
use reveille_shared::model::policy::Plan;
use reveille_shared::model::schedule::ClientKey;
use reveille_shared::model::timing::{ArmAt, Arming, PreviewedInstant, Timing, TimingError, TimingKind};
use reveille_shared::model::{RunId, ScheduleId, UnixMs};
use reveille_shared::runtime::Context;
use reveille_shared::store::{
    AttemptRow, Deleted, Page, Registration, RunRow, ScheduleFilter, ScheduleRow, Selection, StoreError, Triggered,
    Upserted,
};
use uuid::Uuid;

use crate::auth::Caller;
use crate::commit::commit;
use crate::error::Problem;
use crate::{Settings, secret};

/// How often a registration picks a later instant because the one it picked has a run already.
const ARMING_TRIES: usize = 5;

/// The scheduler as its callers see it. Cloning shares it.
#[derive(Clone)]
pub struct Service {
    context: Context,
    defaults: Defaults,
    caller: Caller,
}

/// A registration that took effect.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The schedule's id, old or new.
    pub id: ScheduleId,
    /// Its name as stored.
    pub name: String,
    /// Its client key as stored.
    pub client: ClientKey,
    /// Fields that were left out because nobody knows them.
    pub warnings: Vec<String>,
}

impl Service {
    /// A service on these parts, for the operator.
    pub fn new(context: Context, settings: &Settings) -> Self {
        Self { context, defaults: settings.defaults(), caller: Caller::operator() }
    }

    /// The same service for this caller: it shows and does what he may see and do.
    pub fn acting_for(&self, caller: Caller) -> Self {
        Self { caller, ..self.clone() }
    }

    /// Registers a document by its client key.
    ///
    /// # Errors
    /// 400 or 422 for the document, 503 without a database.
    pub async fn register(&self, body: &[u8], strict: bool) -> Result<Registered, Problem> {
        let mut parsed = document::parse(body, &self.defaults, strict)?;
        if secret::is_masked(&parsed.definition) {
            let stored = self.context.store.schedule_payload_by_client(&parsed.definition.client).await?;
            secret::restore(&mut parsed.definition, stored.as_deref())?;
        }
        self.write(Uuid::now_v7(), parsed, Write::Upsert).await
    }

    /// Replaces the schedule with this id.
    ///
    /// # Errors
    /// As [`Service::register`]; 404; 409 when the client key belongs to another schedule.
    pub async fn update(&self, id: ScheduleId, body: &[u8], strict: bool) -> Result<Registered, Problem> {
        let mut parsed = document::parse(body, &self.defaults, strict)?;
        if secret::is_masked(&parsed.definition) {
            let stored = self.context.store.schedule_get(id).await?.ok_or(StoreError::NotFound)?;
            secret::restore(&mut parsed.definition, Some(&stored.payload))?;
        }
        self.write(id, parsed, Write::Update).await
    }

    async fn write(&self, id: ScheduleId, parsed: Parsed, write: Write) -> Result<Registered, Problem> {
        let Parsed { definition, timing, warnings } = parsed;
        let payload = serde_json::to_string(&definition).map_err(|error| {
            tracing::error!(error = %error, "a valid document could not be written");
            crate::error::internal()
        })?;
        let now = self.arming_now(definition.kind).await?;
        let mut registration = Registration {
            id,
            client: definition.client.clone(),
            name: definition.name.clone(),
            fingerprint: document::fingerprint(&definition),
            payload,
            queue: definition.queue.clone(),
            priority: definition.priority,
            arming: arming(&timing, now)?,
            run_id: Uuid::now_v7(),
        };
        let store = &self.context.store;
        let mut tries = 0;
        let upserted = loop {
            let written = async {
                match write {
                    Write::Upsert => store.schedule_upsert(std::slice::from_ref(&registration)).await,
                    Write::Update => store.schedule_update(&registration).await,
                }
            };
            let intended = registration.arming.at;
            match commit(&self.context, intended, written, |upserted: &Upserted| upserted.armed_min).await {
                Err(StoreError::OccurrenceTaken { latest }) if tries < ARMING_TRIES => {
                    tries += 1;
                    registration.arming = arming(&timing, latest.max(now))?;
                }
                outcome => break outcome?,
            }
        };
        let id = upserted.schedules.first().map_or(id, |schedule| schedule.id);
        Ok(Registered { id, name: definition.name, client: definition.client, warnings })
    }

    /// The schedule with this id.
    ///
    /// # Errors
    /// 404, 503.
    pub async fn schedule(&self, id: ScheduleId) -> Result<ScheduleRow, Problem> {
        Ok(self.context.store.schedule_get(id).await?.ok_or(StoreError::NotFound)?)
    }

    /// A page of schedules in id order.
    ///
    /// # Errors
    /// 503.
    pub async fn schedules(&self, filter: &ScheduleFilter, page: &Page) -> Result<Vec<ScheduleRow>, Problem> {
        Ok(self.context.store.schedule_list(filter, page).await?)
    }

    /// Deletes what is selected.
    ///
    /// # Errors
    /// 404 when nothing matched; 503.
    pub async fn delete(&self, selection: &Selection) -> Result<Deleted, Problem> {
        let deleted = self.context.store.schedule_delete(selection).await?;
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
        Ok(self.context.store.schedule_pause(id).await?)
    }

    /// Lets a paused schedule go on.
    ///
    /// # Errors
    /// 404; 409 when it is finished; 503.
    pub async fn resume(&self, id: ScheduleId) -> Result<(), Problem> {
        let Plan { definition, timing } = stored_plan(&self.schedule(id).await?)?;
        let mut after = self.arming_now(definition.kind).await?;
        for _ in 0..=ARMING_TRIES {
            let arming = arming(&timing, after)?;
            let resumed = self.context.store.schedule_resume(id, &arming);
            match commit(&self.context, arming.at, resumed, |due_at| *due_at).await {
                Err(StoreError::OccurrenceTaken { latest }) => after = after.max(latest),
                outcome => return Ok(outcome.map(|_| ())?),
            }
        }
        Err(StoreError::OccurrenceTaken { latest: after }.into())
    }

    /// Fires a schedule once, now, beside its own times.
    ///
    /// # Errors
    /// 404; 409 when it is paused; 503.
    pub async fn trigger(&self, id: ScheduleId) -> Result<Triggered, Problem> {
        let triggered = self.context.store.schedule_trigger(id);
        Ok(commit(&self.context, ArmAt::AfterMs(0), triggered, |triggered| Some(triggered.due_at)).await?)
    }

    /// Runs of a schedule, newest nominal instant first.
    ///
    /// # Errors
    /// 404, 503.
    pub async fn runs(&self, id: ScheduleId, after: Option<(UnixMs, i64)>, limit: i64) -> Result<Vec<RunRow>, Problem> {
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
        let found = self.context.store.run_get(id).await?;
        found.ok_or_else(|| Problem::not_found("there is no run with this id"))
    }

    /// The next instants of a timing that is not registered.
    ///
    /// # Errors
    /// 400 or 422 for the request.
    pub fn preview(&self, body: &[u8]) -> Result<Vec<PreviewedInstant>, Problem> {
        let request = document::parse_preview(body, &self.defaults)?;
        let from = request.from.unwrap_or_else(|| self.context.clock.now_ms());
        arming(&request.timing, from)?;
        Ok(request.timing.preview(from, request.count))
    }

    /// The wake state as this process sees it.
    ///
    /// # Errors
    /// 503 when Redis does not answer.
    pub async fn wake(&self) -> Result<Option<WakeState>, Problem> {
        Ok(self.context.bus.read().await?)
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// The instant a schedule is armed from. What a calendar fires first hangs on it, so the database is
    /// asked: a process that only serves the API has never heard its clock and would go by its own. The other
    /// timings leave the arithmetic to the statement that arms them.
    async fn arming_now(&self, kind: TimingKind) -> Result<UnixMs, StoreError> {
        if kind == TimingKind::Cron {
            self.context.clock.observe(self.context.store.ping().await?);
        }
        Ok(self.context.clock.now_ms())
    }
}

/// Which schedule a document is written to.
#[derive(Clone, Copy)]
enum Write {
    /// That of its client key.
    Upsert,
    /// That of the path's id.
    Update,
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
