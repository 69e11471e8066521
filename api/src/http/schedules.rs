//! `/schedules`: register, show, change, cancel.

use axum::Json;
use axum::extract::{RawQuery, Request};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use reveille_shared::store::{ScheduleFilter, Selection};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::schema::{
    BadQuery, ClientFilter, DeletedAnswer, InvalidDocument, InvalidTiming, ListParameters, NoSchedule, NoneMatched,
    Preferences, PreviewAnswer, PreviewDocument, RegisteredAnswer, RegistrationDocument, ScheduleAnswer,
    ScheduleConflict, StateAnswer, TriggeredAnswer, WrongState,
};
use crate::error::Problem;
use crate::service::{Registered, Service};
use crate::surface::Acting;
use crate::surface::listing::Listing;
use crate::surface::query::{ListQuery, deletion};
use crate::surface::request::{IdPath, body, id, is_strict};
use crate::view;
/// Register a schedule
///
/// By its client key: when a schedule with the same five strings is there, it is replaced and keeps its id.
/// Registering an equal document again changes nothing, except that `now`, `delay` and a date that has passed are
/// armed anew. What is answered with 200 is on disk.
#[utoipa::path(
    post,
    path = "/schedules",
    tag = "schedules",
    params(Preferences),
    request_body = RegistrationDocument,
    responses(
        (status = 200, body = RegisteredAnswer, description = "Registered.", links(
            ("show" = (operation_id = "show_schedule", parameters(("id" = "$response.body#/id")))),
            ("update" = (operation_id = "update_schedule", parameters(("id" = "$response.body#/id")))),
            ("trigger" = (operation_id = "trigger_schedule", parameters(("id" = "$response.body#/id")))),
            ("runs" = (operation_id = "list_runs", parameters(("id" = "$response.body#/id")))),
            ("delete" = (operation_id = "delete_schedule", parameters(("id" = "$response.body#/id")))),
        )),
        (status = 409, response = ScheduleConflict),
        (status = 422, response = InvalidDocument),
    ),
    operation_id = "register_schedule",
)]
pub(super) async fn register(Acting(service): Acting, request: Request) -> Result<Json<Value>, Problem> {
    let strict = is_strict(request.headers());
    let registered = service.register(&body(request).await?, strict).await?;
    Ok(Json(shown(&registered)))
}
/// Replace a schedule
///
/// By its id, whatever client key the document names. A value `***` of a secret header keeps what is stored.
#[utoipa::path(
    post,
    path = "/schedules/{id}/update",
    tag = "schedules",
    params(("id" = Uuid, Path, description = "Id of the schedule."), Preferences),
    request_body = RegistrationDocument,
    responses(
        (status = 200, body = RegisteredAnswer, description = "Replaced."),
        (status = 404, response = NoSchedule),
        (status = 409, response = ScheduleConflict),
        (status = 422, response = InvalidDocument),
    ),
    operation_id = "update_schedule",
)]
pub(super) async fn update(Acting(service): Acting, path: IdPath, request: Request) -> Result<Json<Value>, Problem> {
    let id = id(path, "schedule")?;
    let strict = is_strict(request.headers());
    let registered = service.update(id, &body(request).await?, strict).await?;
    Ok(Json(shown(&registered)))
}

fn shown(registered: &Registered) -> Value {
    let change = registered.change.as_str();
    let mut answer =
        json!({"name": registered.name, "client": registered.client, "id": registered.id, "change": change});
    if !registered.warnings.is_empty() {
        answer["warnings"] = json!(registered.warnings);
    }
    answer
}
/// Preview a timing
///
/// Names the next instants of a timing without registering anything, and says what changes of the clocks do to them.
#[utoipa::path(
    post,
    path = "/schedules/preview",
    tag = "schedules",
    request_body = PreviewDocument,
    responses(
        (status = 200, body = PreviewAnswer, description = "The next instants."),
        (status = 422, response = InvalidTiming),
    ),
    operation_id = "preview_schedule",
)]
pub(super) async fn preview(Acting(service): Acting, request: Request) -> Result<Json<Value>, Problem> {
    let preview = service.preview(&body(request).await?)?;
    let occurrences: Vec<Value> = preview
        .instants
        .into_iter()
        .map(|instant| json!({"at": view::rfc3339(instant.at), "local": instant.local, "note": instant.note}))
        .collect();
    Ok(Json(json!({
        "occurrences": occurrences,
        "daylight_saving": preview.daylight_saving,
        "zone_rules": preview.zone_rules,
    })))
}

/// Show a schedule
///
/// The answer is an array of one: published clients take the first. A finished schedule is shown until it is pruned.
#[utoipa::path(
    get,
    path = "/schedules/{id}",
    tag = "schedules",
    params(("id" = Uuid, Path, description = "Id of the schedule.")),
    responses(
        (status = 200, body = [ScheduleAnswer], description = "The schedule, as an array of one."),
        (status = 404, response = NoSchedule),
    ),
    operation_id = "show_schedule",
)]
pub(super) async fn show(Acting(service): Acting, path: IdPath) -> Result<Json<[Box<RawValue>; 1]>, Problem> {
    let row = service.schedule(id(path, "schedule")?).await?;
    Ok(Json([view::schedule(&row)?.json]))
}

/// List schedules
///
/// In the order in which they were registered. Complete, unless `limit` or `cursor` asks for a page. Filters add up.
/// 404 when none matches, as published clients expect.
#[utoipa::path(
    get,
    path = "/schedules",
    tag = "schedules",
    params(ClientFilter, ListParameters),
    responses(
        (status = 200, body = Vec<ScheduleAnswer>, description = "The schedules that match.", headers(
            ("Link" = String, description = "The next page (RFC 8288), when there is one: `<…>; rel=\"next\"`."),
        )),
        (status = 400, response = BadQuery),
        (status = 404, response = NoneMatched),
    ),
    operation_id = "list_schedules",
)]
pub(super) async fn list(Acting(service): Acting, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let query = query.unwrap_or_default();
    let asked = ListQuery::parse(&query)?;
    let filter = ScheduleFilter { client: asked.client, states: asked.states };
    let listing = Listing::new(service, filter, asked.status, asked.cursor);
    let nothing = || Problem::not_found("no schedule matched");
    let Some(limit) = asked.limit else {
        return listing.whole().await?.ok_or_else(nothing);
    };
    let (documents, next) = listing.page(limit).await?;
    if documents.is_empty() {
        return Err(nothing());
    }
    let mut response = Json(documents).into_response();
    if let Some(last) = next {
        link_next(&mut response, &format!("/schedules?{}", ListQuery::next_page(&query, last)));
    }
    Ok(response)
}

/// Names the next page (RFC 8288).
pub(super) fn link_next(response: &mut Response, target: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("<{target}>; rel=\"next\"")) {
        response.headers_mut().insert(header::LINK, value);
    }
}
/// Delete a schedule
///
/// A run of it that is being carried out finishes; `in_flight` then says so. No other follows.
#[utoipa::path(
    delete,
    path = "/schedules/{id}",
    tag = "schedules",
    params(("id" = Uuid, Path, description = "Id of the schedule.")),
    responses(
        (status = 200, body = DeletedAnswer, description = "Deleted."),
        (status = 404, response = NoSchedule),
    ),
    operation_id = "delete_schedule",
)]
pub(super) async fn delete(Acting(service): Acting, path: IdPath) -> Result<Json<Value>, Problem> {
    delete_selected(&service, Selection::Id(id(path, "schedule")?)).await
}
/// Delete all schedules that match
///
/// At least one filter must be given and not be empty, and a parameter that is no filter is refused: neither can be
/// meant to delete everything.
#[utoipa::path(
    delete,
    path = "/schedules",
    tag = "schedules",
    params(ClientFilter),
    responses(
        (status = 200, body = DeletedAnswer, description = "Deleted."),
        (status = 400, response = BadQuery),
        (status = 404, response = NoneMatched),
    ),
    operation_id = "delete_schedules",
)]
pub(super) async fn delete_matching(
    Acting(service): Acting,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let client = deletion(&query.unwrap_or_default())?;
    delete_selected(&service, Selection::Client(client)).await
}

async fn delete_selected(service: &Service, selection: Selection) -> Result<Json<Value>, Problem> {
    let deleted = service.delete(&selection).await?;
    let mut answer = json!({"count": deleted.count});
    if deleted.in_flight > 0 {
        answer["in_flight"] = json!(deleted.in_flight);
    }
    Ok(Json(answer))
}
/// Pause a schedule
///
/// It has no run to come until it is resumed. Pausing it again changes nothing.
#[utoipa::path(
    post,
    path = "/schedules/{id}/pause",
    tag = "schedules",
    params(("id" = Uuid, Path, description = "Id of the schedule.")),
    responses(
        (status = 200, body = StateAnswer, description = "Paused."),
        (status = 404, response = NoSchedule),
        (status = 409, response = WrongState),
    ),
    operation_id = "pause_schedule",
)]
pub(super) async fn pause(Acting(service): Acting, path: IdPath) -> Result<Json<Value>, Problem> {
    let id = id(path, "schedule")?;
    service.pause(id).await?;
    Ok(Json(json!({"id": id, "state": "paused"})))
}
/// Resume a schedule
///
/// It goes on with its next instant from now; what passed while it was paused is not made up.
#[utoipa::path(
    post,
    path = "/schedules/{id}/resume",
    tag = "schedules",
    params(("id" = Uuid, Path, description = "Id of the schedule.")),
    responses(
        (status = 200, body = StateAnswer, description = "Active."),
        (status = 404, response = NoSchedule),
        (status = 409, response = WrongState),
    ),
    operation_id = "resume_schedule",
)]
pub(super) async fn resume(Acting(service): Acting, path: IdPath) -> Result<Json<Value>, Problem> {
    let id = id(path, "schedule")?;
    service.resume(id).await?;
    Ok(Json(json!({"id": id, "state": "active"})))
}
/// Trigger a schedule
///
/// Fires it once, now, beside its own times.
#[utoipa::path(
    post,
    path = "/schedules/{id}/trigger",
    tag = "schedules",
    params(("id" = Uuid, Path, description = "Id of the schedule.")),
    responses(
        (status = 200, body = TriggeredAnswer, description = "A run is due.", links(
            ("run" = (operation_id = "show_run", parameters(("id" = "$response.body#/run_id")))),
        )),
        (status = 404, response = NoSchedule),
        (status = 409, response = WrongState),
    ),
    operation_id = "trigger_schedule",
)]
pub(super) async fn trigger(Acting(service): Acting, path: IdPath) -> Result<Json<Value>, Problem> {
    let triggered = service.trigger(id(path, "schedule")?).await?;
    Ok(Json(json!({"run_id": triggered.run_id, "due_at": view::rfc3339(triggered.due_at)})))
}
