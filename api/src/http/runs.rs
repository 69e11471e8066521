//! `/runs`, the runs of a schedule, and `/wake`.

use axum::Json;
use axum::extract::RawQuery;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::Acting;
use super::query::{next_runs_page, runs_page};
use super::request::{IdPath, id};
use super::schedules::link_next;
use crate::error::Problem;
use crate::view;

pub(super) async fn list(
    Acting(service): Acting,
    path: IdPath,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let id = id(path, "schedule")?;
    let query = query.unwrap_or_default();
    let (after, limit) = runs_page(&query)?;
    let mut rows = service.runs(id, after, limit + 1).await?; // one more tells whether there is a next page
    let more = rows.len() > usize::try_from(limit).unwrap_or_default();
    if more {
        rows.pop();
    }
    let shown: Vec<Value> = rows.iter().map(view::run).collect();
    let mut response = Json(shown).into_response();
    if let (true, Some(last)) = (more, rows.last()) {
        let next = next_runs_page(&query, (last.nominal_at, last.series));
        link_next(&mut response, &format!("/schedules/{id}/runs?{next}"));
    }
    Ok(response)
}

pub(super) async fn show(Acting(service): Acting, path: IdPath) -> Result<Json<Value>, Problem> {
    let (row, attempts) = service.run(id(path, "run")?).await?;
    let mut shown = view::run(&row);
    shown["attempts"] = attempts.iter().map(view::attempt).collect();
    Ok(Json(shown))
}

pub(super) async fn wake(Acting(service): Acting) -> Result<Json<Value>, Problem> {
    Ok(Json(view::wake(service.wake().await?.as_ref())))
}
