//! Values as GraphQL writes them.

use async_graphql::ID;
use chrono::{DateTime, Utc};
use reveille_shared::model::UnixMs;
use uuid::Uuid;

use crate::error::Problem;

/// A time; `None` beyond the range of representable dates.
pub(super) fn instant(at: UnixMs) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(at)
}

/// GraphQL's Int has 32 bits; milliseconds are exact in a Float for some 285 000 years.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
pub(super) fn number(value: i64) -> f64 {
    value as f64
}

/// The id an argument names; what is not one names nothing.
pub(super) fn uuid(id: &ID, what: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(id).map_err(|_| Problem::not_found(format!("there is no {what} with this id")))
}
