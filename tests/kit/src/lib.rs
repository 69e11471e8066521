//! What the tests of every crate stand on: throwaway servers, a receiver that records what reaches it,
//! processes that can be killed, and waiting for a condition.
//!
//! Depends on no crate of the product, so that every one of them can use it. Nothing it starts outlives
//! the test process, whichever way that ends (see `scratch.rs`). A missing server is a failed test with a
//! sentence that says how to install it, never a skipped one.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test support: real clocks, plain spawns, and a panic is how a test fails"
)]

mod child;
mod eventually;
mod kafka;
mod pgbouncer;
mod port;
mod postgres;
mod process;
mod receiver;
mod redis;
mod relay;
mod scratch;
mod subscriber;
mod tzdata;

pub use eventually::{eventually, eventually_some};
pub use kafka::Kafka;
pub use pgbouncer::PgBouncer;
pub use port::free_port;
pub use postgres::Postgres;
pub use process::{Process, ProcessBuilder, Ready};
pub use receiver::answer::Answer;
pub use receiver::{Delivery, Receiver};
pub use redis::Redis;
pub use relay::Relay;
pub use scratch::scratch_dir;
pub use subscriber::{Heard, Subscriber};
pub use tzdata::{copy_zones, tzdata};
