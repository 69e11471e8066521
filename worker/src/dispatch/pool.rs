//! Connections that are kept between calls: one per endpoint, closed when idle, few in number.
//!
//! Invariant: a connection that failed is handed out to nobody who asks after that.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A connection nobody used for this long is closed.
const IDLE: Duration = Duration::from_secs(300);

/// Connections kept at most, unless its user says otherwise. Beyond them the one that was used longest ago goes.
const KEPT: usize = 256;

/// Connections, or what else is worth keeping, by what they serve.
pub(crate) struct Pool<K, T> {
    held: Mutex<Held<K, T>>,
}

struct Held<K, T> {
    limit: usize,
    entries: HashMap<K, Entry<T>>,
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

impl<K: Clone + Eq + Hash, T: Clone> Pool<K, T> {
    pub(crate) fn new() -> Self {
        Self::keeping(KEPT)
    }

    /// A pool of `limit` connections at most.
    pub(crate) fn keeping(limit: usize) -> Self {
        Self { held: Mutex::new(Held { limit, entries: HashMap::new(), latest: 0 }) }
    }

    /// What is kept for this key.
    pub(crate) fn get(&self, key: &K, now: Duration) -> Option<Kept<T>> {
        let mut held = self.lock();
        let entry = held.entries.get_mut(key)?;
        entry.used_at = now;
        Some(Kept { value: entry.kept.clone(), number: entry.number })
    }

    /// Keeps `value`; what was kept before goes.
    pub(crate) fn put(&self, key: &K, value: T, now: Duration) -> Kept<T> {
        let mut held = self.lock();
        held.latest += 1;
        let number = held.latest;
        let entry = Entry { kept: value.clone(), number, used_at: now };
        held.entries.insert(key.clone(), entry);
        held.close_idle(now);
        Kept { value, number }
    }

    /// Drops what failed.
    pub(crate) fn forget(&self, key: &K, failed: &Kept<T>) {
        let mut held = self.lock();
        if held.entries.get(key).is_some_and(|entry| entry.number == failed.number) {
            held.entries.remove(key);
        }
    }

    /// Closes what nobody used for a while.
    pub(crate) fn close_idle(&self, now: Duration) {
        self.lock().close_idle(now);
    }

    fn lock(&self) -> MutexGuard<'_, Held<K, T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash, T> Held<K, T> {
    fn close_idle(&mut self, now: Duration) {
        self.entries.retain(|_, entry| now.saturating_sub(entry.used_at) < IDLE);
        while self.entries.len() > self.limit {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used_at).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_forgotten_and_a_newer_one_is_not() {
        let pool = Pool::new();
        let at = "a";
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
        pool.put(&"idle", 1, Duration::ZERO);
        pool.put(&"used", 2, Duration::ZERO);
        pool.get(&"used", IDLE - Duration::from_secs(1));
        pool.close_idle(IDLE);
        assert!(pool.get(&"idle", IDLE).is_none());
        assert!(pool.get(&"used", IDLE).is_some());
    }

    #[test]
    fn not_more_than_a_few_are_kept() {
        let pool = Pool::new();
        for number in 0..=KEPT {
            let now = Duration::from_millis(number as u64);
            pool.put(&number, number, now);
        }
        assert!(pool.get(&0, Duration::ZERO).is_none());
        assert!(pool.get(&1, Duration::ZERO).is_some());
    }
}
