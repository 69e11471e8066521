//! Tests of the monitor: its planners by tables, the whole of it on real stores and buses.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a failing test panics, and idleness is watched for a while by the real clock"
)]

mod cluster;
mod election;
mod leading;
mod outlook;
mod succession;
mod sweep;
mod watch;
