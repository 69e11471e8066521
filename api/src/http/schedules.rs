//! `/schedules`: register, show, change, cancel.

use axum::Json;
use axum::extract::{RawQuery, Request};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use reveille_shared::store::{ScheduleFilter, Selection};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Acting;
use super::listing::Listing;
use super::query::{ListQuery, deletion};
use super::request::{IdPath, body, id, is_strict};
use crate::error::Problem;
use crate::service::{Registered, Service};
use crate::view;

pub(super) async fn register(Acting(service): Acting, request: Request) -> Result<Json<Value>, Problem> {
    let strict = is_strict(request.headers());
    let registered = service.register(&body(request).await?, strict).await?;
    Ok(Json(shown(&registered)))
}

pub(super) async fn update(Acting(service): Acting, path: IdPath, request: Request) -> Result<Json<Value>, Problem> {
    let id = id(path, "schedule")?;
    let strict = is_strict(request.headers());
    let registered = service.update(id, &body(request).await?, strict).await?;
    Ok(Json(shown(&registered)))
}

fn shown(registered: &Registered) -> Value {
    let mut answer = json!({"name": registered.name, "client": registered.client, "id": registered.id});
    if !registered.warnings.is_empty() {
        answer["warnings"] = json!(registered.warnings);
    }
    answer
}

pub(super) async fn preview(Acting(service): Acting, request: Request) -> Result<Json<Value>, Problem> {
    let instants = service.preview(&body(request).await?)?;
    let occurrences: Vec<Value> = instants
        .into_iter()
        .map(|instant| json!({"at": view::rfc3339(instant.at), "local": instant.local, "note": instant.note}))
        .collect();
    Ok(Json(json!({"occurrences": occurrences})))
}

/// An array of one: published clients take the first.
pub(super) async fn show(Acting(service): Acting, path: IdPath) -> Result<Json<[Box<RawValue>; 1]>, Problem> {
    let row = service.schedule(id(path, "schedule")?).await?;
    Ok(Json([view::schedule(&row)?.json]))
}

/// Complete unless a page is asked for; 404 when empty, as published clients expect.
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

pub(super) async fn delete(Acting(service): Acting, path: IdPath) -> Result<Json<Value>, Problem> {
    delete_selected(&service, Selection::Id(id(path, "schedule")?)).await
}

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

pub(super) async fn pause(Acting(service): Acting, path: IdPath) -> Result<Json<Value>, Problem> {
    let id = id(path, "schedule")?;
    service.pause(id).await?;
    Ok(Json(json!({"id": id, "state": "paused"})))
}

pub(super) async fn resume(Acting(service): Acting, path: IdPath) -> Result<Json<Value>, Problem> {
    let id = id(path, "schedule")?;
    service.resume(id).await?;
    Ok(Json(json!({"id": id, "state": "active"})))
}

pub(super) async fn trigger(Acting(service): Acting, path: IdPath) -> Result<Json<Value>, Problem> {
    let triggered = service.trigger(id(path, "schedule")?).await?;
    Ok(Json(json!({"run_id": triggered.run_id, "due_at": view::rfc3339(triggered.due_at)})))
}
