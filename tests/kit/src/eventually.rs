//! Waiting for a condition, never for luck.

use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Returns as soon as `condition` holds; panics with `what` when it did not within `deadline`.
///
/// The condition is tried once more after the deadline, so a machine that stalls does not fail the test.
#[track_caller]
pub fn eventually<F>(deadline: Duration, what: &str, mut condition: impl FnMut() -> F) -> impl Future<Output = ()>
where
    F: Future<Output = bool>,
{
    eventually_some(deadline, what, move || {
        let holds = condition();
        async move { holds.await.then_some(()) }
    })
}

/// As [`eventually`], for a condition that yields a value.
#[track_caller]
pub fn eventually_some<T, F>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) -> impl Future<Output = T>
where
    F: Future<Output = Option<T>>,
{
    let caller = Location::caller();
    async move {
        let give_up = Instant::now() + deadline;
        let mut pause = FIRST_PAUSE;
        loop {
            let last_try = Instant::now() >= give_up;
            if let Some(value) = condition().await {
                return value;
            }
            assert!(!last_try, "waited {deadline:?} in vain at {caller}: {what}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
