//! The mutations: each answers a payload with what was done, or with what its caller can mend.

use std::future::Future;

use async_graphql::{ComplexObject, Context, Enum, ID, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use reveille_shared::model::ScheduleId;
use reveille_shared::model::schedule::ClientKey;
use reveille_shared::store::{Deleted, Page, ScheduleFilter, Selection};
use uuid::Uuid;

use super::client::Client;
use super::errors::{UserError, attempted};
use super::input::{self, ScheduleEventInput, ScheduleFilterInput};
use super::json::JsonText;
use super::scalars::{instant, uuid};
use super::types::{Run, Schedule};
use crate::Service;
use crate::error::Problem;
use crate::service::Registered;

/// Schedules read at a time to find one by its name.
const CHUNK: i64 = 200;

/// What can be done.
pub(crate) struct Mutation;

/// What a registration did.
#[derive(Default, SimpleObject)]
#[graphql(complex)]
struct RegisteredEvent {
    /// The schedule's name.
    name: Option<String>,
    /// Its id, old or new, as the published schema calls it.
    resp_id: Option<ID>,
    /// Its id, old or new.
    id: Option<ID>,
    /// Who registered it.
    client: Option<Client>,
    /// What became of the schedule.
    change: Option<RegistrationChange>,
    /// Fields that were left out because nobody knows them.
    warnings: Vec<String>,
    /// Why nothing was done.
    user_errors: Vec<UserError>,
}

/// What a registration makes of a schedule.
#[derive(Clone, Copy, Enum, Eq, PartialEq)]
#[graphql(remote = "reveille_shared::store::Change")]
enum RegistrationChange {
    /// It is new.
    Created,
    /// It was replaced or armed anew.
    Replaced,
    /// It is as it was.
    Unchanged,
}

/// What a change of a schedule's state did.
#[derive(Default, SimpleObject)]
#[graphql(complex)]
struct SchedulePayload {
    /// The schedule's id.
    id: Option<ID>,
    /// Why nothing was done.
    user_errors: Vec<UserError>,
}

/// What a trigger did.
#[derive(Default, SimpleObject)]
#[graphql(complex)]
struct TriggerPayload {
    /// The run it added.
    run_id: Option<ID>,
    /// When that is due: now.
    due_at: Option<DateTime<Utc>>,
    /// Why nothing was done.
    user_errors: Vec<UserError>,
}

/// What a deletion did.
#[derive(Default, SimpleObject)]
struct UnregisterResult {
    /// The name it was asked for by, where it was.
    name: Option<String>,
    /// Its id, as the published schema calls it, where one schedule was named.
    resp_id: Option<ID>,
    /// Schedules deleted.
    count: i64,
    /// Runs of them that are being dispatched at this moment and cannot be called back.
    in_flight: i64,
    /// Why nothing was done.
    user_errors: Vec<UserError>,
}

#[Object]
impl Mutation {
    /// Registers a schedule: the same `client` again replaces it and keeps its id.
    #[graphql(complexity = "20 + child_complexity")]
    async fn register_schedule(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The registration document, typed")] registration: Option<ScheduleEventInput>,
        #[graphql(desc = "Instead: the whole document as JSON, or as a string that holds it, whose `data` then \
                          reaches the target byte for byte")]
        document: Option<JsonText>,
        #[graphql(desc = "Refuse fields that nobody knows", default)] strict: bool,
    ) -> Result<RegisteredEvent> {
        let service: &Service = ctx.data()?;
        registered(ctx, async { service.register(input::document(registration, document)?.as_bytes(), strict).await })
            .await
    }

    /// Replaces the schedule with this id, its `client` included.
    #[graphql(complexity = "20 + child_complexity")]
    async fn update_schedule(
        &self,
        ctx: &Context<'_>,
        id: ID,
        registration: Option<ScheduleEventInput>,
        document: Option<JsonText>,
        #[graphql(default)] strict: bool,
    ) -> Result<RegisteredEvent> {
        let service: &Service = ctx.data()?;
        registered(ctx, async {
            let id = uuid(&id, "schedule")?;
            service.update(id, input::document(registration, document)?.as_bytes(), strict).await
        })
        .await
    }

    /// Deletes a schedule by its id, or by the name that is its key: the published schema's deletion.
    async fn unregister_schedule(&self, ctx: &Context<'_>, schedule_name: String) -> Result<UnregisterResult> {
        let service: &Service = ctx.data()?;
        let outcome = async {
            let id = match Uuid::try_parse(&schedule_name) {
                Ok(id) => id,
                Err(_not_an_id) => named(service, &schedule_name).await?,
            };
            Ok((id, service.delete(&Selection::Id(id)).await?))
        };
        Ok(match attempted(ctx, outcome.await)? {
            Ok((id, deleted)) => UnregisterResult {
                name: Some(schedule_name),
                resp_id: Some(id.into()),
                ..UnregisterResult::from(deleted)
            },
            Err(user_errors) => UnregisterResult { user_errors, ..UnregisterResult::default() },
        })
    }

    /// Deletes a schedule and cancels what is pending of it.
    async fn delete_schedule(&self, ctx: &Context<'_>, id: ID) -> Result<UnregisterResult> {
        let service: &Service = ctx.data()?;
        deleted(ctx, async { service.delete(&Selection::Id(uuid(&id, "schedule")?)).await }).await
    }

    /// Deletes all schedules that match; the filter needs at least one field that is not empty.
    async fn delete_schedules(&self, ctx: &Context<'_>, filter: ScheduleFilterInput) -> Result<UnregisterResult> {
        let service: &Service = ctx.data()?;
        deleted(ctx, async {
            let client = filter.key()?;
            if client == ClientKey::default() {
                let detail = "a deletion needs at least one filter that is not empty";
                return Err(Problem::bad_query("filter", detail));
            }
            service.delete(&Selection::Client(client)).await
        })
        .await
    }

    /// Stops a schedule until resumed.
    #[graphql(complexity = "20 + child_complexity")]
    async fn pause_schedule(&self, ctx: &Context<'_>, id: ID) -> Result<SchedulePayload> {
        let service: &Service = ctx.data()?;
        changed(ctx, async {
            let id = uuid(&id, "schedule")?;
            service.pause(id).await.map(|()| id)
        })
        .await
    }

    /// Lets a paused schedule go on.
    #[graphql(complexity = "20 + child_complexity")]
    async fn resume_schedule(&self, ctx: &Context<'_>, id: ID) -> Result<SchedulePayload> {
        let service: &Service = ctx.data()?;
        changed(ctx, async {
            let id = uuid(&id, "schedule")?;
            service.resume(id).await.map(|()| id)
        })
        .await
    }

    /// Fires a schedule once, now, beside its own times.
    #[graphql(complexity = "20 + child_complexity")]
    async fn trigger_schedule(&self, ctx: &Context<'_>, id: ID) -> Result<TriggerPayload> {
        let service: &Service = ctx.data()?;
        let outcome = async { service.trigger(uuid(&id, "schedule")?).await };
        Ok(match attempted(ctx, outcome.await)? {
            Ok(triggered) => TriggerPayload {
                run_id: Some(triggered.run_id.into()),
                due_at: instant(triggered.due_at),
                user_errors: Vec::new(),
            },
            Err(user_errors) => TriggerPayload { user_errors, ..TriggerPayload::default() },
        })
    }
}

#[ComplexObject]
impl RegisteredEvent {
    /// The schedule as it is now.
    async fn schedule(&self, ctx: &Context<'_>) -> Result<Option<Schedule>> {
        shown(ctx, self.id.as_ref()).await
    }
}

#[ComplexObject]
impl SchedulePayload {
    /// The schedule as it is now.
    async fn schedule(&self, ctx: &Context<'_>) -> Result<Option<Schedule>> {
        shown(ctx, self.id.as_ref()).await
    }
}

#[ComplexObject]
impl TriggerPayload {
    /// The run it added, as it is now.
    async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        match self.run_id.as_ref().and_then(|id| Uuid::try_parse(id).ok()) {
            Some(id) => Run::read(ctx.data()?, id).await,
            None => Ok(None),
        }
    }
}

impl From<Deleted> for UnregisterResult {
    fn from(deleted: Deleted) -> Self {
        Self {
            count: i64::try_from(deleted.count).unwrap_or(i64::MAX),
            in_flight: i64::try_from(deleted.in_flight).unwrap_or(i64::MAX),
            ..Self::default()
        }
    }
}

async fn shown(ctx: &Context<'_>, id: Option<&ID>) -> Result<Option<Schedule>> {
    match id.and_then(|id| Uuid::try_parse(id).ok()) {
        Some(id) => Schedule::read(ctx.data()?, id).await,
        None => Ok(None),
    }
}

async fn registered(
    ctx: &Context<'_>,
    outcome: impl Future<Output = Result<Registered, Problem>>,
) -> Result<RegisteredEvent> {
    Ok(match attempted(ctx, outcome.await)? {
        Ok(registered) => RegisteredEvent {
            name: Some(registered.name),
            resp_id: Some(registered.id.into()),
            id: Some(registered.id.into()),
            client: Some(registered.client.into()),
            change: Some(registered.change.into()),
            warnings: registered.warnings,
            user_errors: Vec::new(),
        },
        Err(user_errors) => RegisteredEvent { user_errors, ..RegisteredEvent::default() },
    })
}

async fn changed(
    ctx: &Context<'_>,
    outcome: impl Future<Output = Result<ScheduleId, Problem>>,
) -> Result<SchedulePayload> {
    Ok(match attempted(ctx, outcome.await)? {
        Ok(id) => SchedulePayload { id: Some(id.into()), user_errors: Vec::new() },
        Err(user_errors) => SchedulePayload { user_errors, ..SchedulePayload::default() },
    })
}

async fn deleted(
    ctx: &Context<'_>,
    outcome: impl Future<Output = Result<Deleted, Problem>>,
) -> Result<UnregisterResult> {
    Ok(match attempted(ctx, outcome.await)? {
        Ok(deleted) => deleted.into(),
        Err(user_errors) => UnregisterResult { user_errors, ..UnregisterResult::default() },
    })
}

/// The schedule whose key is this name and whose client says nothing else: what a registration without a
/// client is identified by.
async fn named(service: &Service, name: &str) -> Result<ScheduleId, Problem> {
    let identity = ClientKey { key: name.to_owned(), ..ClientKey::default() };
    // The filter takes its empty fields for "any", so other clients' schedules may come with it.
    let filter = ScheduleFilter { client: identity.clone(), states: crate::surface::query::selected("all")?.0 };
    let mut page = Page { after: None, limit: CHUNK };
    while !name.is_empty() && !name.contains('\0') {
        let rows = service.schedules(&filter, &page).await?;
        for row in &rows {
            let client = serde_json::from_str(&row.payload).map(|named: Named| named.client);
            if client.is_ok_and(|client| client == identity) {
                return Ok(row.id);
            }
        }
        match rows.last() {
            Some(last) => page.after = Some(last.id),
            None => break,
        }
    }
    Err(Problem::not_found("there is no schedule of this name"))
}

#[derive(serde::Deserialize)]
struct Named {
    client: ClientKey,
}
