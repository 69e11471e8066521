//! The wake state and its transitions, as pure functions: what the in-process bus executes, what the
//! Redis scripts must equal, and what the exhaustive model checks.
//!
//! ```text
//! LOWER(n)      by registrars, retries, settles, after commit: since = min(since, n);
//!               n < next or no key: next = n, seq + 1, publish
//! MARK(token)   by the monitor before it reads the database: mark = token, since = +inf
//! SET(token, m) after it: refused if nonce or mark differ; next = min(m, since); changed: seq + 1, publish
//! ```

use serde::{Deserialize, Serialize};

use crate::model::UnixMs;

/// "Nothing is scheduled", in `next_ms` and `since_ms`.
pub const NEVER: UnixMs = 9_007_199_254_740_991; // 2^53 - 1, the largest integer Lua and JSON keep exact

/// The whole state, published every time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeState {
    /// Random identity of this life of the key; order by seq holds within one nonce.
    pub nonce: u64,
    /// The monitor's term.
    pub epoch: i64,
    /// Grows with every publish of something new.
    pub seq: u64,
    /// The next due instant as far as anyone told; [`NEVER`] when nothing is scheduled.
    pub next_ms: UnixMs,
    /// Token of the monitor that is reading the database, empty when none is.
    pub mark: String,
    /// The least instant lowered since that mark.
    pub since_ms: UnixMs,
    /// The database's clock when the monitor last beat; 0 before the first beat.
    pub db_ms: UnixMs,
}

impl WakeState {
    /// The next due instant, `None` when nothing is scheduled.
    pub fn next(&self) -> Option<UnixMs> {
        (self.next_ms < NEVER).then_some(self.next_ms)
    }
}
