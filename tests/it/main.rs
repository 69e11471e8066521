//! Tests of the whole: the binary as a process, and the rules of the architecture over the source tree.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test that cannot set itself up fails by panicking"
)]

mod bench;
mod binary;
mod bulk;
mod canary;
mod cluster;
mod config;
mod embedded;
mod keys;
mod loopback;
mod manifests;
mod observability;
mod readme;
mod surroundings;
mod targets;
mod tidy;
mod traces;
