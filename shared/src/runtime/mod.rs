//! What every role runs on: clock, lifecycle, telemetry, fault points.

pub mod backoff;
pub mod clock;
pub mod fault;
pub mod lifecycle;
pub mod seal;
pub mod telemetry;
pub mod trace;
pub mod tzdata;
