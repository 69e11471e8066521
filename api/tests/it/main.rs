//! Tests of the API on a real SQLite store and the in-process bus, one binary.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests: a test fails by panicking, and a variable asks for a file to be written anew"
)]

mod access;
mod contract;
mod described;
mod documentation;
mod graphql;
mod hints;
mod history;
mod hostile;
mod metrics;
mod pages;
mod registrar;
mod reregistration;
mod secrets;
mod shelter;
mod status;
mod support;
mod unreadable;
