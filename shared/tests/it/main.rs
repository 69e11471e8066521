//! Tests of the shared crate, one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails by panicking")]

mod cron;
mod cron_oracle;
mod document;
mod policy;
mod timing;
