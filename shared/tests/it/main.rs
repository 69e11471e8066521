//! Tests of the shared crate, one binary.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests fail loudly, and poll for what they wait for"
)]

mod bus_groups;
mod bus_hint;
mod bus_local;
mod bus_parity;
mod bus_redis;
mod bus_stages;
mod cron;
mod cron_oracle;
mod document;
mod lateness;
mod policy;
mod redis_server;
mod seal;
mod store_conformance;
mod store_cost;
mod store_explore;
mod store_faults;
mod store_gone;
mod store_history;
mod store_history_cost;
mod store_losses;
mod store_once;
mod store_parity;
mod store_pause;
mod store_postgres;
mod store_reseal;
mod store_symptoms;
mod store_upgrade;
mod store_world;
mod store_zones;
mod timing;
mod tls;
mod wake_model;
mod wake_waiter;
mod zone_rules;

use std::time::Duration;

use tokio::time::Instant;

/// Tries until there is an answer; fails after `limit`.
pub(crate) async fn eventually<T>(what: &str, limit: Duration, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = attempt().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
