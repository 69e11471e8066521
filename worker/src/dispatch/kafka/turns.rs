//! Turns: of those who want the same thing made, one makes it, and the others wait for what comes of it.
//!
//! Invariant: whoever waits for one key delays nobody of another, and a failure is shared by all who waited for it:
//! were each to try in turn, the last would wait for the sum of all timeouts.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reveille_shared::model::run::Outcome;
use reveille_shared::runtime::clock::Clock;

/// Who is at it, by what is made.
pub(super) struct Turns<K> {
    places: Mutex<HashMap<K, Arc<Place>>>,
}

/// Held while something is made: when that last failed, and how.
type Place = tokio::sync::Mutex<Option<(Duration, Outcome)>>;

impl<K: Clone + Eq + Hash> Turns<K> {
    pub(super) fn new() -> Self {
        Self { places: Mutex::new(HashMap::new()) }
    }

    /// Waits for the turn and does the work, unless it failed for somebody else while this one waited. The work must
    /// look first whether it was done meanwhile.
    ///
    /// # Errors
    /// Those of the work, also of another's.
    pub(super) async fn take<T>(
        &self,
        key: &K,
        clock: &dyn Clock,
        work: impl Future<Output = Result<T, Outcome>>,
    ) -> Result<T, Outcome> {
        let asked_at = clock.monotonic();
        let place = self.lock().entry(key.clone()).or_default().clone();
        let mut failed = place.lock().await;
        if let Some((failed_at, outcome)) = &*failed
            && *failed_at > asked_at
        {
            return Err(outcome.clone());
        }
        let result = work.await;
        *failed = result.as_ref().err().map(|outcome| (clock.monotonic(), outcome.clone()));
        result
    }

    /// Forgets whom nobody waits for.
    pub(super) fn tidy(&self) {
        self.lock().retain(|_, place| Arc::strong_count(place) > 1);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;
    use futures_util::poll;
    use reveille_shared::model::run::OutcomeCode;
    use reveille_shared::runtime::clock::SystemClock;

    use super::*;

    const WHILE: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_failure_is_shared_by_all_who_waited_and_by_nobody_later() {
        let (turns, clock, tries) = (Turns::new(), SystemClock::new(), AtomicU32::new(0));
        let fail = || async {
            tries.fetch_add(1, Ordering::Relaxed);
            clock.sleep(WHILE).await;
            Err::<(), _>(Outcome::new(OutcomeCode::Connect, "away"))
        };
        let all = join_all((0..10).map(|_| turns.take(&"a", &clock, fail()))).await;
        assert!(all.iter().all(Result::is_err));
        assert_eq!(tries.load(Ordering::Relaxed), 1);
        assert!(turns.take(&"a", &clock, fail()).await.is_err());
        assert_eq!(tries.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn one_who_is_given_up_leaves_the_turn_to_the_next_and_others_are_not_waited_for() {
        let (turns, clock) = (Turns::new(), SystemClock::new());
        let mut endless = Box::pin(turns.take(&"a", &clock, std::future::pending::<Result<(), Outcome>>()));
        assert!(poll!(&mut endless).is_pending());
        assert_eq!(turns.take(&"b", &clock, async { Ok(1) }).await, Ok(1));
        let mut next = Box::pin(turns.take(&"a", &clock, async { Ok(2) }));
        assert!(poll!(&mut next).is_pending());
        drop(endless);
        assert_eq!(next.await, Ok(2));
        turns.tidy();
        assert!(turns.lock().is_empty());
    }
}
