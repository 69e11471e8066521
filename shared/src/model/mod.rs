//! The pure heart: values and functions of values and `now`. No I/O, no clock, no randomness of its
//! own, and no import from the rest of this crate, so every rule here is testable by a table.

pub mod access;
pub mod brokers;
pub mod cron;
pub mod document;
pub mod history;
pub mod late_cause;
pub mod lateness;
pub mod policy;
pub mod redis_url;
pub mod run;
pub mod schedule;
pub mod secret;
pub mod task;
pub(crate) mod text;
pub mod timing;
pub mod traceparent;
pub mod zone;

/// An instant in unix milliseconds, the unit of every `*_at` and `*_ms` in the product.
pub type UnixMs = i64;

/// Identity of a schedule; UUIDv7, made by the process that registers it.
pub type ScheduleId = uuid::Uuid;

/// Identity of a run, the same over all its attempts: the idempotency key a target sees.
pub type RunId = uuid::Uuid;

/// Whether a field says nothing, so that it need not be written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
