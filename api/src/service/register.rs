//! Registering and updating: from a document to what the store keeps, by an instant to arm that the database's clock
//! decides.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::model::access::Scope;
use reveille_shared::model::document::{self, Parsed};
use reveille_shared::model::schedule::{ClientKey, Definition};
use reveille_shared::model::secret::is_masked;
use reveille_shared::model::timing::{ArmAt, TimingKind};
use reveille_shared::model::{ScheduleId, UnixMs};
use reveille_shared::runtime::seal::Sealer;
use reveille_shared::store::{Change, Registration, StoreError};
use uuid::Uuid;

use super::{ARMING_TRIES, Service, arming};
use crate::commit::{Armed, commit, estimated};
use crate::error::Problem;
use crate::secret;

/// How long the database's clock is believed without having been heard. A monotonic clock drifts by a few
/// milliseconds in that time at most. A database's clock that is set meanwhile makes what is registered until then
/// as if it had been registered just before: an instant that it skipped is run at once, one that it repeats is not
/// run again.
const CLOCK_BELIEVED_FOR: Duration = Duration::from_secs(10);

/// A registration that took effect.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The schedule's id, old or new.
    pub id: ScheduleId,
    /// Its name as stored.
    pub name: String,
    /// Its client key as stored.
    pub client: ClientKey,
    /// What became of the schedule.
    pub change: Change,
    /// Fields that were left out because nobody knows them.
    pub warnings: Vec<String>,
}

/// Which schedule a document is written to.
#[derive(Clone, Copy)]
enum Write {
    /// That of its client key.
    Upsert,
    /// That of the path's id.
    Update,
}

impl Service {
    /// Registers a document by its client key.
    ///
    /// # Errors
    /// 400 or 422 for the document, 503 without a database.
    pub async fn register(&self, body: &[u8], strict: bool) -> Result<Registered, Problem> {
        self.caller.needs(Scope::Write)?;
        let mut parsed = document::parse(body, &self.defaults, strict)?;
        self.caller.owns(&parsed.definition.client.application)?;
        let mut sealer = self.sealer.clone();
        if is_masked(&parsed.definition) {
            let stored = self.context.store.schedule_payload_by_client(&parsed.definition.client).await?;
            sealer = self.restore(&mut parsed.definition, stored.as_deref())?;
        }
        self.write(Uuid::now_v7(), parsed, &sealer, Write::Upsert).await
    }

    /// Replaces the schedule with this id.
    ///
    /// # Errors
    /// As [`Service::register`]; 404; 409 when the client key belongs to another schedule.
    pub async fn update(&self, id: ScheduleId, body: &[u8], strict: bool) -> Result<Registered, Problem> {
        self.caller.needs(Scope::Write)?;
        self.visible(id).await?;
        let mut parsed = document::parse(body, &self.defaults, strict)?;
        self.caller.owns(&parsed.definition.client.application)?;
        let mut sealer = self.sealer.clone();
        if is_masked(&parsed.definition) {
            let stored = self.context.store.schedule_get(id).await?.ok_or(StoreError::NotFound)?;
            sealer = self.restore(&mut parsed.definition, Some(&stored.payload))?;
        }
        self.write(id, parsed, &sealer, Write::Update).await
    }

    /// Puts stored secrets where their masks are; answers the sealer that knows all of them as such.
    fn restore(&self, definition: &mut Definition, payload: Option<&str>) -> Result<Sealer, Problem> {
        let stored: Option<Definition> = payload.and_then(|payload| serde_json::from_str(payload).ok());
        let sealer = stored.as_ref().map_or_else(|| self.sealer.clone(), |stored| self.sealer.covering(stored));
        secret::restore(&sealer, definition, stored.as_ref())?;
        Ok(sealer)
    }

    async fn write(
        &self,
        id: ScheduleId,
        parsed: Parsed,
        sealer: &Sealer,
        write: Write,
    ) -> Result<Registered, Problem> {
        let Parsed { mut definition, timing, warnings } = parsed;
        // Nobody could follow a link to a trace that is not recorded.
        definition.traceparent = self.traceparent.filter(|traceparent| traceparent.sampled);
        let mut sealed = definition.clone();
        sealer.seal(&mut sealed).map_err(secret::no_key)?;
        let payload = serde_json::to_string(&sealed).map_err(|error| {
            tracing::error!(error = %error, "a valid document could not be written");
            crate::error::internal()
        })?;
        let now = self.arming_now(definition.kind).await?;
        let mut registration = Registration {
            id,
            client: definition.client.clone(),
            name: definition.name.clone(),
            fingerprint: sealer.fingerprint(&definition),
            payload,
            queue: definition.queue.clone(),
            priority: definition.priority,
            arming: arming(&timing, now)?,
            run_id: Uuid::now_v7(),
            history_check: definition.task.history_check,
        };
        let due_at = match registration.arming.at {
            ArmAt::At(at) => at.max(now),
            ArmAt::AfterMs(after_ms) => now.saturating_add(after_ms),
        };
        self.limits.check(&self.context, &registration, due_at).await?;
        let mut tries = 0;
        let (id, change) = loop {
            match self.write_once(&registration, write).await {
                Ok(written) => break written,
                Err(error) => match *error {
                    StoreError::OccurrenceTaken { latest } if tries < ARMING_TRIES => {
                        tries += 1;
                        registration.arming = arming(&timing, latest.max(now))?;
                    }
                    _ => return Err(Problem::from(&*error)),
                },
            }
        };
        Ok(Registered { id, name: definition.name, client: definition.client, change, warnings })
    }

    async fn write_once(
        &self,
        registration: &Registration,
        write: Write,
    ) -> Result<(ScheduleId, Change), Arc<StoreError>> {
        match write {
            Write::Upsert => {
                let written = self.registrar.register(registration.clone()).await?;
                Ok((written.id, written.change))
            }
            Write::Update => {
                let intended = estimated(&self.context.clock, registration.arming.at);
                let update = self.context.store.schedule_update(registration);
                let updated = commit(&self.context, intended, update, Armed::by_registration).await?;
                let change = updated.schedules.first().map_or(Change::Replaced, |updated| updated.change);
                Ok((registration.id, change))
            }
        }
    }

    /// The instant a schedule is armed from. What a calendar fires first hangs on it, so the database is asked when
    /// its clock was not heard for a while, from its answers to what was written here or by heartbeats. The other
    /// timings leave the arithmetic to the statement that arms them.
    pub(super) async fn arming_now(&self, kind: TimingKind) -> Result<UnixMs, StoreError> {
        let clock = &self.context.clock;
        if kind == TimingKind::Cron && !clock.is_fresh(CLOCK_BELIEVED_FOR) {
            clock.observe(self.context.store.ping().await?);
        }
        Ok(clock.now_ms())
    }
}
