//! The query of a history: filters, order, page, form. Refuses what it does not know: a misspelt filter would show
//! more than was meant.

use axum::http::{HeaderMap, header};
use chrono::DateTime;
use reveille_shared::model::history::HistoryKind;
use reveille_shared::model::run::OutcomeCode;
use reveille_shared::model::{ScheduleId, UnixMs};
use reveille_shared::store::HistoryFilter;
use uuid::Uuid;

use crate::error::Problem;
use crate::surface::query::{cursor_pair, limit, parameters};

const JSON: &str = "application/json";
const CSV: &str = "text/csv";

/// In which form the history is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
}

/// What a history is asked for.
#[derive(Debug)]
pub(super) struct HistoryQuery {
    pub(super) filter: HistoryFilter,
    pub(super) after: Option<(UnixMs, i64)>,
    pub(super) ascending: bool,
    pub(super) limit: Option<i64>,
    pub(super) format: Format,
}

impl HistoryQuery {
    /// Reads the query; `schedule`: the one the path names.
    pub(super) fn parse(query: &str, headers: &HeaderMap, schedule: Option<ScheduleId>) -> Result<Self, Problem> {
        let mut asked = Self {
            filter: HistoryFilter::default(),
            after: None,
            ascending: false,
            limit: None,
            format: accepted(headers),
        };
        let parameters = parameters(query)?;
        if let Some(format) = parameters.get("format").filter(|format| !format.is_empty()) {
            asked.format = match format.as_ref() {
                "json" => Format::Json,
                "csv" => Format::Csv,
                _ => return Err(Problem::bad_query("format", "format is json or csv")),
            };
        }
        for (name, value) in &parameters {
            let is_path = name == "schedule_id" && schedule.is_some();
            if is_path || !asked.takes(name, value)? {
                let detail = format!(
                    "`{name}` is no parameter of this history; filters are application, group, key, operation, type, \
                     schedule_id, run_id, kind, outcome, from, to; the others are order, limit, cursor, format"
                );
                return Err(Problem::bad_query(name, detail));
            }
        }
        Ok(asked)
    }

    /// Takes a parameter; an empty one is any. Answers whether it is one.
    fn takes(&mut self, name: &str, value: &str) -> Result<bool, Problem> {
        let given = !value.is_empty();
        let filter = &mut self.filter;
        let field = match name {
            "application" => &mut filter.application,
            "group" => &mut filter.group,
            "key" => &mut filter.key,
            "operation" => &mut filter.operation,
            "type" => &mut filter.client_type,
            "schedule_id" if given => return uuid(name, value, &mut filter.schedule_id),
            "run_id" if given => return uuid(name, value, &mut filter.run_id),
            "kind" if given => {
                filter.kind =
                    Some(word(name, value, HistoryKind::from_word, &HistoryKind::ALL.map(HistoryKind::as_str))?);
                return Ok(true);
            }
            "outcome" if given => {
                let words = OutcomeCode::ALL.map(OutcomeCode::as_str);
                filter.outcome = Some(word(name, value, OutcomeCode::from_word, &words)?);
                return Ok(true);
            }
            "from" if given => return instant(name, value, &mut filter.from),
            "to" if given => return instant(name, value, &mut filter.to),
            "order" if given => {
                self.ascending = match value {
                    "asc" => true,
                    "desc" => false,
                    _ => return Err(Problem::bad_query(name, "order is asc or desc")),
                };
                return Ok(true);
            }
            "limit" if given => {
                self.limit = Some(match self.format {
                    Format::Json => limit(value)?,
                    Format::Csv => whole_limit(value)?,
                });
                return Ok(true);
            }
            "cursor" if given => {
                self.after = Some(cursor_pair(value)?);
                return Ok(true);
            }
            "schedule_id" | "run_id" | "kind" | "outcome" | "from" | "to" | "order" | "limit" | "cursor" | "format" => {
                return Ok(true);
            }
            _ => return Ok(false),
        };
        if value.contains('\0') {
            return Err(Problem::bad_query(name, "a filter cannot contain the NUL character"));
        }
        *field = given.then(|| value.to_owned());
        Ok(true)
    }
}

/// CSV when it is named, and before JSON.
fn accepted(headers: &HeaderMap) -> Format {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut named = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
    match named.find(|range| range.eq_ignore_ascii_case(CSV) || range.eq_ignore_ascii_case(JSON)) {
        Some(range) if range.eq_ignore_ascii_case(CSV) => Format::Csv,
        _ => Format::Json,
    }
}

fn uuid(name: &str, value: &str, field: &mut Option<Uuid>) -> Result<bool, Problem> {
    let id = Uuid::try_parse(value).map_err(|_| Problem::bad_query(name, format!("{name} is a UUID")))?;
    *field = Some(id);
    Ok(true)
}

fn word<T>(name: &str, value: &str, read: fn(&str) -> Option<T>, words: &[&str]) -> Result<T, Problem> {
    read(value).ok_or_else(|| Problem::bad_query(name, format!("{name} is one of {}", words.join(", "))))
}

fn instant(name: &str, value: &str, field: &mut Option<UnixMs>) -> Result<bool, Problem> {
    // A plus sign that was not encoded arrives as a space, where no instant has one.
    let at = DateTime::parse_from_rfc3339(&value.replace(' ', "+"))
        .map_err(|_| Problem::bad_query(name, format!("{name} is an instant as in RFC 3339: 2027-01-15T08:00:00Z")))?;
    *field = Some(at.timestamp_millis());
    Ok(true)
}

fn whole_limit(text: &str) -> Result<i64, Problem> {
    let limit = text.parse().ok().filter(|limit| *limit >= 1);
    limit.ok_or_else(|| Problem::bad_query("limit", "limit is a number from 1 up"))
}
