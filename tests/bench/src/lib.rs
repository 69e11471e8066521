//! The benchmark: every goal of performance, measured beside its limit, its base and its peers in the same rounds.
//!
//! Knows the product as its users do: a binary, its API and the tables it keeps. So the same program measures every
//! version of it. Absolute times mean nothing on a shared machine; ratios within a round and counters do.

#![expect(
    clippy::disallowed_methods,
    reason = "it stands outside the product: real clocks, plain spawns, and its own environment"
)]

mod clock;
mod http;
mod measure;
mod options;
mod proc;
mod report;
mod rig;
mod run;
mod smoke;
mod stats;

use std::io::Write;

pub use options::Options;
pub use run::run;
pub use smoke::smoke;

/// Progress, for whoever watches: not on stdout, which is the table's.
pub(crate) fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok();
}
