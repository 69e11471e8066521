//! The test kit is tested against real servers too: a kit that cannot fail proves nothing.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests read real clocks and fail by panicking")]

mod eventually;
mod lifetime;
mod postgres;
mod process;
mod receiver;
mod redis;

use std::time::Duration;

/// Long enough for a loaded machine; no test waits for it unless it fails.
const DEADLINE: Duration = Duration::from_secs(20);
