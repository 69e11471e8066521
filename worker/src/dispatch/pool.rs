//! Connections that are kept between calls: one per endpoint, closed when idle, few in number.
//!
//! Invariant: a connection that failed is handed out to nobody who asks after that.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::destination::Endpoint;

/// A connection nobody used for this long is closed.
const IDLE: Duration = Duration::from_secs(300);

/// Connections kept at most. Beyond them the one that was used longest ago goes.
const KEPT: usize = 256;

/// Connections, or what else is worth keeping, by endpoint.
pub(crate) struct Pool<T> {
    held: Mutex<Held<T>>,
}

struct Held<T> {
    entries: HashMap<Endpoint, Entry<T>>,
    /// Number of the entry put in last.
    latest: u64,
}

struct Entry<T> {
    kept: T,
    number: u64,
    used_at: Duration,
}

/// Something kept, and which it is: the failure of an older one does not end a newer.
pub(crate) struct Kept<T> {
    pub(crate) value: T,
    number: u64,
}

impl<T: Clone> Pool<T> {
    pub(crate) fn new() -> Self {
        Self { held: Mutex::new(Held { entries: HashMap::new(), latest: 0 }) }
    }

    /// What is kept for this endpoint.
    pub(crate) fn get(&self, endpoint: &Endpoint, now: Duration) -> Option<Kept<T>> {
        let mut held = self.lock();
        let entry = held.entries.get_mut(endpoint)?;
        entry.used_at = now;
        Some(Kept { value: entry.kept.clone(), number: entry.number })
    }

    /// Keeps `value`; what was kept before goes.
    pub(crate) fn put(&self, endpoint: &Endpoint, value: T, now: Duration) -> Kept<T> {
        let mut held = self.lock();
        held.latest += 1;
        let number = held.latest;
        let entry = Entry { kept: value.clone(), number, used_at: now };
        held.entries.insert(endpoint.clone(), entry);
        held.close_idle(now);
        Kept { value, number }
    }

    /// Drops what failed.
    pub(crate) fn forget(&self, endpoint: &Endpoint, failed: &Kept<T>) {
        let mut held = self.lock();
        if held.entries.get(endpoint).is_some_and(|entry| entry.number == failed.number) {
            held.entries.remove(endpoint);
        }
    }

    /// Closes what nobody used for a while.
    pub(crate) fn close_idle(&self, now: Duration) {
        self.lock().close_idle(now);
    }

    fn lock(&self) -> MutexGuard<'_, Held<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Held<T> {
    fn close_idle(&mut self, now: Duration) {
        self.entries.retain(|_, entry| now.saturating_sub(entry.used_at) < IDLE);
        while self.entries.len() > KEPT {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used_at).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str) -> Endpoint {
        Endpoint::at(host)
    }

    #[test]
    fn what_failed_is_forgotten_and_a_newer_one_is_not() {
        let pool = Pool::new();
        let at = endpoint("a");
        let first = pool.put(&at, 1, Duration::ZERO);
        let second = pool.put(&at, 2, Duration::ZERO);
        pool.forget(&at, &first);
        assert_eq!(pool.get(&at, Duration::ZERO).map(|kept| kept.value), Some(2));
        pool.forget(&at, &second);
        assert!(pool.get(&at, Duration::ZERO).is_none());
    }

    #[test]
    fn what_is_idle_is_closed_and_what_is_used_is_kept() {
        let pool = Pool::new();
        pool.put(&endpoint("idle"), 1, Duration::ZERO);
        pool.put(&endpoint("used"), 2, Duration::ZERO);
        pool.get(&endpoint("used"), IDLE - Duration::from_secs(1));
        pool.close_idle(IDLE);
        assert!(pool.get(&endpoint("idle"), IDLE).is_none());
        assert!(pool.get(&endpoint("used"), IDLE).is_some());
    }

    #[test]
    fn not_more_than_a_few_are_kept() {
        let pool = Pool::new();
        for number in 0..=KEPT {
            let now = Duration::from_millis(number as u64);
            pool.put(&endpoint(&number.to_string()), number, now);
        }
        assert!(pool.get(&endpoint("0"), Duration::ZERO).is_none());
        assert!(pool.get(&endpoint("1"), Duration::ZERO).is_some());
    }
}
