//! Query strings: filters, states, pages.

use std::borrow::Cow;
use std::collections::BTreeMap;

use reveille_shared::model::schedule::{ClientKey, ScheduleState};
use reveille_shared::model::{ScheduleId, UnixMs};
use url::form_urlencoded;
use uuid::Uuid;

use crate::error::Problem;
use crate::view::Status;

/// Most items of a page.
pub(crate) const PAGE_MAX: i64 = 200;
/// Items of a page of runs or of history that names no limit.
pub(crate) const RUNS_DEFAULT: i64 = 50;

/// What a list of schedules is asked for.
#[derive(Debug, Default)]
pub(crate) struct ListQuery {
    pub(crate) client: ClientKey,
    pub(crate) states: Vec<ScheduleState>,
    pub(crate) status: Option<Status>,
    /// `None`: everything.
    pub(crate) limit: Option<usize>,
    pub(crate) cursor: Option<ScheduleId>,
}

impl ListQuery {
    /// Reads a list's query. A parameter nobody knows is refused: ignoring a misspelt filter would show everything.
    pub(crate) fn parse(query: &str) -> Result<Self, Problem> {
        let mut asked = Self::default();
        for (name, value) in parameters(query)? {
            let is_filter = filter(&mut asked.client, &name, &value)?;
            match name.as_ref() {
                _ if is_filter => {}
                "state" | "limit" | "cursor" if value.is_empty() => {}
                "state" => asked.select(&value)?,
                "limit" => asked.limit = Some(usize::try_from(limit(&value)?).unwrap_or_default()),
                "cursor" => asked.cursor = Some(cursor_id(&value)?),
                _ => {
                    let detail = format!(
                        "`{name}` is not a parameter; there are application, group, key, operation, type, state, limit, cursor"
                    );
                    return Err(Problem::bad_query(&name, detail));
                }
            }
        }
        if asked.cursor.is_some() && asked.limit.is_none() {
            asked.limit = usize::try_from(PAGE_MAX).ok();
        }
        Ok(asked)
    }

    /// `state` takes the schedule's state or its status word; without it finished ones are left out.
    fn select(&mut self, word: &str) -> Result<(), Problem> {
        (self.states, self.status) = selected(word)?;
        Ok(())
    }

    /// The query of the page that starts after `last`.
    pub(crate) fn next_page(query: &str, last: ScheduleId) -> String {
        with_cursor(query, &last.to_string())
    }
}

/// Which states, and which status among them, the word of a list's `state` selects.
pub(crate) fn selected(word: &str) -> Result<(Vec<ScheduleState>, Option<Status>), Problem> {
    use ScheduleState::{Active, Finished, Paused};
    let states = match word {
        "active" | "processing" => vec![Active],
        "paused" => vec![Paused],
        "finished" | "done" | "invalidity" => vec![Finished],
        "idle" => vec![Active, Paused],
        "failed" => vec![Active, Finished], // waiting for a retry, or over
        "all" => vec![Active, Paused, Finished],
        _ => {
            let detail = "state is one of active, paused, finished, all, idle, processing, failed, done, invalidity";
            return Err(Problem::bad_query("state", detail));
        }
    };
    Ok((states, Status::from_word(word)))
}

/// The filter of a deletion. A parameter nobody knows is refused here: ignoring a misspelt filter would
/// delete more than was meant.
pub(crate) fn deletion(query: &str) -> Result<ClientKey, Problem> {
    let mut client = ClientKey::default();
    for (name, value) in parameters(query)? {
        if !filter(&mut client, &name, &value)? {
            let detail = format!("`{name}` is not a filter; filters are application, group, key, operation, type");
            return Err(Problem::bad_query(&name, detail));
        }
    }
    if client == ClientKey::default() {
        return Err(Problem::bad_query("application", "a deletion needs at least one filter that is not empty"));
    }
    Ok(client)
}

/// The page of a list of runs: after which run, how many. A parameter nobody knows is refused, as everywhere.
pub(crate) fn runs_page(query: &str) -> Result<(Option<(UnixMs, i64)>, i64), Problem> {
    let mut page = (None, RUNS_DEFAULT);
    for (name, value) in parameters(query)? {
        match name.as_ref() {
            "limit" | "cursor" if value.is_empty() => {}
            "limit" => page.1 = limit(&value)?,
            "cursor" => page.0 = Some(cursor_pair(&value)?),
            _ => {
                let detail = format!("`{name}` is not a parameter; there are limit and cursor");
                return Err(Problem::bad_query(&name, detail));
            }
        }
    }
    Ok(page)
}

/// The query of the page of runs that starts after this one.
pub(crate) fn next_runs_page(query: &str, (nominal_at, series): (UnixMs, i64)) -> String {
    with_cursor(query, &format!("{nominal_at}_{series}"))
}

pub(crate) fn with_cursor(query: &str, cursor: &str) -> String {
    let kept = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "cursor");
    form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).append_pair("cursor", cursor).finish()
}

/// The parameters by name. What a client cannot have meant is refused, not guessed: a filter that is half
/// understood would select, and delete, something else.
pub(crate) fn parameters(query: &str) -> Result<BTreeMap<Cow<'_, str>, Cow<'_, str>>, Problem> {
    let is_sent = query.to_ascii_uppercase().contains("%EF%BF%BD");
    let mut parameters = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let is_replaced = |text: &str| text.contains(char::REPLACEMENT_CHARACTER) && !is_sent;
        if is_replaced(&name) || is_replaced(&value) {
            return Err(Problem::bad_query(&name, "the query is not percent-encoded UTF-8"));
        }
        if parameters.contains_key(&name) {
            return Err(Problem::bad_query(&name, "this parameter is given twice"));
        }
        parameters.insert(name, value);
    }
    Ok(parameters)
}

/// Takes a parameter that is a field of the client key.
fn filter(client: &mut ClientKey, name: &str, value: &str) -> Result<bool, Problem> {
    let field = match name {
        "application" => &mut client.application,
        "group" => &mut client.group,
        "key" => &mut client.key,
        "operation" => &mut client.operation,
        "type" => &mut client.kind,
        _ => return Ok(false),
    };
    if value.contains('\0') {
        return Err(Problem::bad_query(name, "a filter cannot contain the NUL character"));
    }
    value.clone_into(field);
    Ok(true)
}

pub(crate) fn limit(text: &str) -> Result<i64, Problem> {
    let limit = text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
    limit.ok_or_else(|| Problem::bad_query("limit", format!("limit is a number from 1 to {PAGE_MAX}")))
}

pub(crate) fn cursor_id(text: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(text).map_err(|_| bad_cursor())
}

/// A cursor of two numbers: an instant and what orders the items of one instant.
pub(crate) fn cursor_pair(text: &str) -> Result<(UnixMs, i64), Problem> {
    let (at, number) = text.split_once('_').ok_or_else(bad_cursor)?;
    // As a cursor is written: `parse` alone would take signs and any number of zeros.
    let is_written = |part: &str| part.len() <= 15 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_written(at) || !is_written(number) {
        return Err(bad_cursor());
    }
    Ok((at.parse().map_err(|_| bad_cursor())?, number.parse().map_err(|_| bad_cursor())?))
}

fn bad_cursor() -> Problem {
    Problem::bad_query("cursor", "the cursor is one that a Link header of an earlier page named")
}
