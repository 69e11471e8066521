//! `/timezones`: the zones by name, and by which rules they are read.

use axum::Json;
use reveille_shared::model::zone::rules;
use serde_json::{Value, json};

use super::schema::TimezonesAnswer;
use crate::error::Problem;
use crate::surface::Acting;
use crate::view::rfc3339;

/// List the time zones
///
/// Every name that `timezone` may have, with its offset at this moment and its next change, and the version of the rules by
/// which this process reads them.
#[utoipa::path(
    get,
    path = "/timezones",
    tag = "service",
    responses((status = 200, body = TimezonesAnswer, description = "The zones, by name.")),
    operation_id = "list_timezones",
)]
pub(super) async fn list(Acting(service): Acting) -> Result<Json<Value>, Problem> {
    let now_s = service.now()?.div_euclid(1000);
    let rules = rules::current();
    let zones: Vec<Value> = rules
        .names()
        .iter()
        .filter_map(|name| {
            let zone = rules.table_of(name)?;
            let change = zone.next_change(now_s);
            Some(json!({
                "name": name,
                "offset": offset(zone.offset_at(now_s)?),
                "next_change_at": change.map(|(at_s, _)| rfc3339(at_s * 1000)),
                "next_offset": change.map(|(_, after)| offset(after)),
            }))
        })
        .collect();
    Ok(Json(json!({"version": rules.version().to_string(), "origin": rules.origin(), "zones": zones})))
}

/// Seconds east of UTC as RFC 3339 writes them, to the minute below.
fn offset(east_s: i32) -> String {
    let sign = if east_s < 0 { '-' } else { '+' };
    let minutes = east_s.unsigned_abs() / 60;
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}
