//! `/history` and the history of a schedule: a page as JSON, or the whole selection as CSV.
//!
//! CSV is read and written a chunk at a time, however long it is. Invariant: what is not whole never looks whole;
//! when the store goes away in the middle, so does the connection.

use std::io;

use axum::Json;
use axum::body::Body;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use reveille_shared::model::ScheduleId;
use reveille_shared::store::{HistoryPage, HistoryRow};
use serde_json::Value;

use super::csv;
use super::history_query::{Format, HistoryQuery};
use super::schedules::link_next;
use super::schema::{BadQuery, ClientFilter, HistoryEntry, HistoryFilter, HistoryForm, HistoryOf, NoSchedule};
use crate::Service;
use crate::error::Problem;
use crate::surface::Acting;
use crate::surface::query::with_cursor;
use crate::surface::request::{IdPath, id};
use crate::view;

/// Entries read from the store at a time.
const CHUNK: i64 = 500;

/// Show the history
///
/// Of schedules whose task has `history_check`, newest entry first. A parameter that is no filter is refused: a
/// misspelt one would show more than was meant.
#[utoipa::path(
    get,
    path = "/history",
    tag = "history",
    params(ClientFilter, HistoryOf, HistoryFilter, HistoryForm),
    responses(
        (
            status = 200,
            description = "A page of entries as JSON, or all of them as CSV.",
            content(([HistoryEntry] = "application/json"), (String = "text/csv")),
            headers(
                ("Link" = String, description = "The next page (RFC 8288), when there is one: `<…>; rel=\"next\"`."),
            ),
        ),
        (status = 400, response = BadQuery),
    ),
    operation_id = "list_history",
)]
pub(super) async fn list(
    Acting(service): Acting,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    answer(service, None, &query.unwrap_or_default(), &headers).await
}

/// Show the history of a schedule
///
/// Also of one that is gone, for as long as its history is kept.
#[utoipa::path(
    get,
    path = "/schedules/{id}/history",
    tag = "history",
    params(("id" = Uuid, Path, description = "Id of the schedule."), ClientFilter, HistoryFilter, HistoryForm),
    responses(
        (
            status = 200,
            description = "A page of entries as JSON, or all of them as CSV.",
            content(([HistoryEntry] = "application/json"), (String = "text/csv")),
            headers(
                ("Link" = String, description = "The next page (RFC 8288), when there is one: `<…>; rel=\"next\"`."),
            ),
        ),
        (status = 400, response = BadQuery),
        (status = 404, response = NoSchedule),
    ),
    operation_id = "list_schedule_history",
)]
pub(super) async fn of_schedule(
    Acting(service): Acting,
    path: IdPath,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = id(path, "schedule")?;
    answer(service, Some(id), &query.unwrap_or_default(), &headers).await
}

async fn answer(
    service: Service,
    schedule: Option<ScheduleId>,
    query: &str,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let asked = HistoryQuery::parse(query, headers, schedule)?;
    let selection = Selection { service, schedule, asked };
    match selection.asked.format {
        Format::Json => selection.page(query).await,
        Format::Csv => selection.whole().await,
    }
}

/// What is asked for, and what of it was not read yet.
struct Selection {
    service: Service,
    schedule: Option<ScheduleId>,
    asked: HistoryQuery,
}

impl Selection {
    async fn read(&self, limit: i64) -> Result<Vec<HistoryRow>, Problem> {
        let page = HistoryPage { limit, after: self.asked.after, ascending: self.asked.ascending };
        match self.schedule {
            Some(id) => self.service.schedule_history(id, &self.asked.filter, &page).await,
            None => self.service.history(&self.asked.filter, &page).await,
        }
    }

    async fn page(self, query: &str) -> Result<Response, Problem> {
        let limit = self.asked.limit.unwrap_or(crate::surface::query::RUNS_DEFAULT);
        let mut rows = self.read(limit + 1).await?; // one more tells whether there is a next page
        let more = rows.len() > usize::try_from(limit).unwrap_or_default();
        if more {
            rows.pop();
        }
        let shown: Vec<Value> = rows.iter().map(view::history).collect();
        let mut response = Json(shown).into_response();
        if let (true, Some(last)) = (more, rows.last()) {
            let next = with_cursor(query, &format!("{}_{}", last.at, last.id));
            let path = self.schedule.map_or_else(|| "/history".to_owned(), |id| format!("/schedules/{id}/history"));
            link_next(&mut response, &format!("{path}?{next}"));
        }
        Ok(response)
    }

    async fn whole(mut self) -> Result<Response, Problem> {
        // Read before anything is answered: a refusal must be one.
        let first = self.next_chunk().await?;
        let mut head = String::new();
        csv::line(&mut head, view::HISTORY_COLUMNS);
        let body = stream::try_unfold(Some((self, first, head)), write_chunk);
        let mut response = Body::from_stream(body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8; header=present"));
        let disposition = HeaderValue::from_static("attachment; filename=\"history.csv\"");
        headers.insert(header::CONTENT_DISPOSITION, disposition);
        Ok(response)
    }

    /// The next entries; none after the last.
    async fn next_chunk(&mut self) -> Result<Vec<HistoryRow>, Problem> {
        let wanted = self.asked.limit.map_or(CHUNK, |left| left.min(CHUNK));
        let rows = if wanted > 0 { self.read(wanted).await? } else { Vec::new() };
        let read = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        // A short chunk was the last one.
        self.asked.limit = if read < wanted { Some(0) } else { self.asked.limit.map(|left| left - read) };
        self.asked.after = rows.last().map(|row| (row.at, row.id)).or(self.asked.after);
        Ok(rows)
    }
}

/// What is left to write: the selection, the entries at hand, and what stands before them.
type Rest = Option<(Selection, Vec<HistoryRow>, String)>;

async fn write_chunk(rest: Rest) -> Result<Option<(String, Rest)>, io::Error> {
    let Some((mut selection, rows, mut text)) = rest else { return Ok(None) };
    for row in &rows {
        csv::line(&mut text, view::history_cells(row));
    }
    let next = selection.next_chunk().await.map_err(|problem| io::Error::other(problem.detail))?;
    let rest = (!next.is_empty()).then(|| (selection, next, String::new()));
    Ok(Some((text, rest)))
}
