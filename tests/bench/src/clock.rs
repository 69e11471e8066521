//! The clocks that lateness is measured with. Everything measured runs on this machine, so the wall clock of the
//! process, of the database and of the peers is one.

use std::time::{Duration, SystemTime};

/// Microseconds since 1970.
pub(crate) fn wall_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970.
pub(crate) fn wall_ms() -> i64 {
    wall_us() / 1000
}

/// Returns at the wall clock's `at_ms`; at once when that has passed.
pub(crate) async fn sleep_until_ms(at_ms: i64) {
    let left = at_ms * 1000 - wall_us();
    tokio::time::sleep(Duration::from_micros(u64::try_from(left).unwrap_or(0))).await;
}

/// The document's form of an instant, in UTC.
pub(crate) fn date(at_ms: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at_ms).unwrap_or_default();
    at.format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

/// An instant in 2090: what is due then is not due while anything is measured.
pub(crate) const FAR_FUTURE_MS: i64 = 3_786_912_060_000;
