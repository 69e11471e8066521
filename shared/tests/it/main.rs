//! Tests of the shared crate, one binary.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests may fail loudly, spawn and read clocks")]

mod cron;
mod cron_oracle;
mod policy;
mod timing;
mod wake_model;
