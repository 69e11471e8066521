//! Tests of the monitor: its planners by tables, the whole of it on real stores and buses.
#![expect(clippy::unwrap_used, reason = "a failing test panics")]

mod election;
mod sweep;
mod watch;
