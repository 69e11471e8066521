//! Tests of the API on a real SQLite store and the in-process bus, one binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contract;
mod hostile;
mod pages;
mod reregistration;
mod secrets;
mod status;
mod support;
