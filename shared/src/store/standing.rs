//! Whether the database serves, by what became of the calls so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::StoreError;
use crate::runtime::clock::{Clock, SystemClock};

/// For how long calls have failed, if they do.
#[derive(Debug, Default)]
pub(super) struct Standing {
    clock: SystemClock,
    /// Milliseconds on this clock, and one more; 0 while calls succeed.
    failing_since: AtomicU64,
}

impl Standing {
    /// Takes note of how a call ended, and hands it on.
    pub(super) fn noted<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        match &outcome {
            Err(error) if error.is_of_the_database() => {
                let now = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
                // Only the first of a row counts.
                let _ = self.failing_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
            }
            _ => self.failing_since.store(0, Ordering::Relaxed),
        }
        outcome
    }

    /// Since the first failure after which nothing succeeded.
    pub(super) fn failing_for(&self) -> Option<Duration> {
        let since = self.failing_since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.clock.monotonic().saturating_sub(Duration::from_millis(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fails_from_the_first_failure_to_the_next_success() {
        let standing = Standing::default();
        let away = || Err::<(), _>(StoreError::Unavailable(sqlx::Error::PoolTimedOut));
        assert_eq!(standing.failing_for(), None);
        assert!(standing.noted(away()).is_err());
        let first = standing.failing_since.load(Ordering::Relaxed);
        assert!(standing.failing_for().is_some() && standing.noted(away()).is_err());
        assert_eq!(standing.failing_since.load(Ordering::Relaxed), first);
        let refused = standing.noted(Err::<(), _>(StoreError::NotFound));
        assert!(refused.is_err() && standing.failing_for().is_none(), "it answered");
    }
}
