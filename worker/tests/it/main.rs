//! The worker as its users meet it: a real store, a real bus, a real HTTP server as the target.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests: real clocks, plain spawns, and a panic is how a test fails"
)]

mod breaker;
mod bulkhead;
mod connections;
mod delivery;
mod faults;
mod fixture;
#[cfg(feature = "kafka")]
mod kafka_target;
mod lateness;
mod lease;
mod load;
mod redis_target;
mod rest;
mod retry;
mod secrets;
mod shutdown;
mod stages;
mod tls;
mod unreliable;
mod wake;
