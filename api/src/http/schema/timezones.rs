//! The answer that lists time zones.

use utoipa::ToSchema;

use super::answers::instant_or_null;

/// The time zones, and by which rules they are read.
#[derive(ToSchema)]
#[schema(as = Timezones)]
#[expect(dead_code, reason = "documentation")]
pub(in crate::http) struct TimezonesAnswer {
    /// Version of the rules (the IANA database).
    #[schema(example = "2026f")]
    version: String,
    /// Where they come from: `bundled`, or a folder of the machine.
    #[schema(example = "bundled")]
    origin: String,
    zones: Vec<TimezoneAnswer>,
}

/// A time zone.
#[derive(ToSchema)]
#[schema(as = Timezone)]
#[expect(dead_code, reason = "documentation")]
pub(super) struct TimezoneAnswer {
    #[schema(example = "America/Vancouver")]
    name: String,
    /// From UTC, at this moment.
    #[schema(example = "-07:00")]
    offset: String,
    /// When its offset changes next; null when no change is known.
    #[schema(schema_with = instant_or_null)]
    next_change_at: String,
    /// What it will be then.
    #[schema(required = true, example = "-08:00")]
    next_offset: Option<String>,
}
