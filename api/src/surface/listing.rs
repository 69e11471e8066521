//! Lists of schedules: what the store holds, page by page, as one page of an answer or as the whole of it.
//!
//! Holds two pages of the store in memory at most, however long the list. Invariant: a list that is not
//! whole never looks whole; when the store goes away in the middle, so does the connection.

use std::io;

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use reveille_shared::model::ScheduleId;
use reveille_shared::store::{Page, ScheduleFilter};
use serde_json::value::RawValue;

use crate::Service;
use crate::error::Problem;
use crate::view::{self, Status};

/// Rows read from the store at a time.
const CHUNK: usize = 500;

/// A document as it is shown, by its schedule's id.
type Shown = (ScheduleId, Box<RawValue>);

/// What matches a list's query and was not read yet.
pub(crate) struct Listing {
    service: Service,
    filter: ScheduleFilter,
    status: Option<Status>,
    name: Option<String>,
    after: Option<ScheduleId>,
    chunk: usize,
    exhausted: bool,
}

impl Listing {
    pub(crate) fn new(
        service: Service,
        filter: ScheduleFilter,
        status: Option<Status>,
        after: Option<ScheduleId>,
    ) -> Self {
        Self { service, filter, status, name: None, after, chunk: CHUNK, exhausted: false }
    }

    /// Of these only the schedules of this name. No index knows it: everything else that matches is read for it.
    pub(crate) fn named(self, name: String) -> Self {
        Self { name: Some(name), ..self }
    }

    /// At most `limit` documents, and after which id the next page starts when there is one.
    pub(crate) async fn page(mut self, limit: usize) -> Result<(Vec<Box<RawValue>>, Option<ScheduleId>), Problem> {
        let wanted = limit + 1; // one more tells whether there is a next page
        if self.status.is_none() && self.name.is_none() {
            self.chunk = wanted.min(CHUNK);
        }
        let mut documents: Vec<Shown> = Vec::new();
        while documents.len() < wanted
            && let Some(more) = self.next_chunk().await?
        {
            documents.extend(more);
        }
        let has_next = documents.len() > limit;
        documents.truncate(limit);
        let next = documents.last().filter(|_| has_next).map(|(id, _)| *id);
        Ok((documents.into_iter().map(|(_, document)| document).collect(), next))
    }

    /// The whole list as an answer; `None` when it is empty.
    pub(crate) async fn whole(mut self) -> Result<Option<Response>, Problem> {
        let Some(first) = self.next_chunk().await? else { return Ok(None) };
        if self.exhausted {
            let documents: Vec<Box<RawValue>> = first.into_iter().map(|(_, document)| document).collect();
            return Ok(Some(Json(documents).into_response()));
        }
        let mut response = Body::from_stream(stream::try_unfold(Some((self, first, '[')), write_chunk)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Some(response))
    }

    /// The next documents that match, never none of them; `None` after the last.
    async fn next_chunk(&mut self) -> Result<Option<Vec<Shown>>, Problem> {
        while !self.exhausted {
            let page = Page { after: self.after, limit: i64::try_from(self.chunk).unwrap_or(i64::MAX) };
            let rows = self.service.schedules(&self.filter, &page).await?;
            self.exhausted = rows.len() < self.chunk;
            self.after = rows.last().map(|row| row.id).or(self.after);
            let mut matching = Vec::with_capacity(rows.len());
            for row in &rows {
                let schedule = view::schedule(row)?;
                let is_named = self.name.as_ref().is_none_or(|name| *name == schedule.name);
                if is_named && self.status.is_none_or(|status| status == schedule.status) {
                    matching.push((row.id, schedule.json));
                }
            }
            if !matching.is_empty() {
                return Ok(Some(matching));
            }
        }
        Ok(None)
    }
}

/// What is left of a list: its documents, those at hand, and what stands before the first of them.
type Rest = Option<(Listing, Vec<Shown>, char)>;

/// Writes the documents at hand, and ends the array when there are no more.
async fn write_chunk(rest: Rest) -> Result<Option<(String, Rest)>, io::Error> {
    let Some((mut listing, documents, mut before)) = rest else { return Ok(None) };
    let mut text = String::new();
    for (_, document) in documents {
        text.push(before);
        text.push_str(document.get());
        before = ',';
    }
    let next = listing.next_chunk().await.map_err(|problem| io::Error::other(problem.detail))?;
    if next.is_none() {
        text.push(']');
    }
    Ok(Some((text, next.map(|documents| (listing, documents, ',')))))
}
