//! Integration tests of the shared crate.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests may fail loudly, spawn and read clocks")]

mod wake_model;
