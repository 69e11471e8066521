//! `/runs`, the runs of a schedule, `/wake` and `/workers`.

use axum::Json;
use axum::extract::RawQuery;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::schedules::link_next;
use super::schema::{BadQuery, NoRun, NoSchedule, RunAnswer, RunWithAttempts, RunsPage, WakeAnswer, WorkerAnswer};
use crate::error::Problem;
use crate::surface::Acting;
use crate::surface::query::{next_runs_page, runs_page};
use crate::surface::request::{IdPath, id};
use crate::view;
/// List the runs of a schedule
///
/// Newest nominal instant first.
#[utoipa::path(
    get,
    path = "/schedules/{id}/runs",
    tag = "runs",
    params(("id" = Uuid, Path, description = "Id of the schedule."), RunsPage),
    responses(
        (status = 200, body = Vec<RunAnswer>, description = "Its runs; none when it has not been due yet.", headers(
            ("Link" = String, description = "The next page (RFC 8288), when there is one: `<…>; rel=\"next\"`."),
        )),
        (status = 400, response = BadQuery),
        (status = 404, response = NoSchedule),
    ),
    operation_id = "list_runs",
)]
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
/// Show a run
///
/// With its attempts, as far as they are kept.
#[utoipa::path(
    get,
    path = "/runs/{id}",
    tag = "runs",
    params(("id" = Uuid, Path, description = "Id of the run.")),
    responses(
        (status = 200, body = RunWithAttempts, description = "The run."),
        (status = 404, response = NoRun),
    ),
    operation_id = "show_run",
)]
pub(super) async fn show(Acting(service): Acting, path: IdPath) -> Result<Json<Value>, Problem> {
    let (row, attempts) = service.run(id(path, "run")?).await?;
    let mut shown = view::run(&row);
    shown["attempts"] = attempts.iter().map(view::attempt).collect();
    Ok(Json(shown))
}
/// Show the next wake
///
/// The instant for which the workers have set their timers.
#[utoipa::path(
    get,
    path = "/wake",
    tag = "service",
    responses((status = 200, body = WakeAnswer, description = "The wake state.")),
    operation_id = "show_wake",
)]
pub(super) async fn wake(Acting(service): Acting) -> Result<Json<Value>, Problem> {
    Ok(Json(view::wake(service.wake().await?.as_ref())))
}
/// List the workers
///
/// Those that are there, by name, as each told over the bus within the last half minute: what it serves, how busy it is, and
/// the targets it leaves alone because nobody is there, or holds back because they answer too slowly. A key that is
/// limited to an application is told no targets.
#[utoipa::path(
    get,
    path = "/workers",
    tag = "service",
    responses((status = 200, body = Vec<WorkerAnswer>, description = "The workers; none when none is there.")),
    operation_id = "list_workers",
)]
pub(super) async fn workers(Acting(service): Acting) -> Result<Json<Vec<Value>>, Problem> {
    Ok(Json(service.workers().await?.iter().map(view::worker).collect()))
}
