//! The only place that reads a clock or sleeps. Roles take a [`Clock`]; tests inject [`TestClock`].
//!
//! Processes never compare wall clocks: they keep the offset between the database's clock and their own
//! monotonic one ([`DbClock`]) and sleep differences.

#![expect(clippy::disallowed_methods, reason = "the one module that may read clocks and sleep")]

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::UnixMs;

/// A future that ends when a sleep is over.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A monotonic clock that can be slept on.
pub trait Clock: Send + Sync + 'static {
    /// Time since an arbitrary fixed moment; never goes back, does not follow wall-clock changes.
    fn monotonic(&self) -> Duration;

    /// Ends at `deadline` of [`Clock::monotonic`] or after; at once when it has passed.
    fn sleep_until(&self, deadline: Duration) -> Sleep;

    /// Ends after `duration`.
    fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.monotonic().saturating_add(duration))
    }
}

/// The machine's clock.
#[derive(Clone, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose zero is now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep_until(&self, deadline: Duration) -> Sleep {
        // tokio overflows on absurd deadlines; a day is for ever to a loop that re-arms every minute.
        let deadline = deadline.min(self.start.elapsed() + Duration::from_secs(24 * 3600));
        Box::pin(tokio::time::sleep_until(self.start + deadline))
    }
}

/// The wall clock of this machine: for log lines and identities, never for a due decision.
pub fn wall_ms() -> UnixMs {
    chrono::Utc::now().timestamp_millis()
}

/// The same as the traces have it.
pub(super) fn wall() -> SystemTime {
    SystemTime::now()
}

/// A clock that moves only when a test says so.
#[derive(Clone, Debug)]
pub struct TestClock {
    now: Arc<watch::Sender<Duration>>,
}

impl TestClock {
    /// A clock that shows zero.
    pub fn new() -> Self {
        Self { now: Arc::new(watch::Sender::new(Duration::ZERO)) }
    }

    /// Moves it on and wakes the sleepers whose time has come.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now += by);
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TestClock {
    fn monotonic(&self) -> Duration {
        *self.now.borrow()
    }

    fn sleep_until(&self, deadline: Duration) -> Sleep {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            if now.wait_for(|now| *now >= deadline).await.is_err() {
                std::future::pending::<()>().await; // the clock is gone: nobody will advance it
            }
        })
    }
}

/// The database's clock as this process knows it: an offset to its own monotonic clock.
///
/// Learned from statements (`now` captured by the server, received a moment later) and from heartbeats,
/// so the estimate is behind the database by the time the answer took, never ahead of it.
#[derive(Clone)]
pub struct DbClock {
    clock: Arc<dyn Clock>,
    known: Arc<Mutex<Option<Known>>>,
    set_back: Counter,
}

#[derive(Clone, Copy)]
struct Known {
    offset: i64,
    /// When it was observed or confirmed last.
    at: Duration,
}

/// A statement's answer that is further behind than this tells of a clock that was set back, the time left aside
/// that the statement took.
const STEP_MS: i64 = 1000;

/// A clock that is set back by more than this is told of: everything that is due waits for it.
const NOTABLE_STEP_MS: i64 = 10_000;

/// An answer that is not further behind than this confirms what is known: that is not further ahead of the database.
const CONFIRMS_MS: i64 = 20;

impl DbClock {
    /// Knows nothing yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, known: Arc::default(), set_back: Counter::default() }
    }

    /// How often it was seen to be set back by more than ten seconds.
    pub fn set_back(&self) -> Counter {
        self.set_back.clone()
    }

    /// Learns that the database's clock shows `db_ms` at this moment or a little earlier.
    pub fn observe(&self, db_ms: UnixMs) {
        let known = Known { offset: db_ms - self.monotonic_ms(), at: self.clock.monotonic() };
        let before = self.known.lock().unwrap_or_else(PoisonError::into_inner).replace(known);
        let back_ms = before.map_or(0, |before| before.offset - known.offset);
        if back_ms > NOTABLE_STEP_MS {
            self.set_back.inc();
            let by_s = back_ms / 1000;
            tracing::warn!(by_s, "the database's clock was set back: what is due waits until it shows that time again");
        }
    }

    /// Learns from a statement, sent at `sent_at`, that answered with its `now`. A large claim or settle is answered
    /// tens of milliseconds after that; taken as it is, it would make the next wake as late, and arm what is
    /// registered for an instant that has passed. So an answer may put the clock on, not back. One that is further
    /// behind than a moment does not confirm it either: a small step back looks the same, and must not stay unseen.
    pub fn learn(&self, now: UnixMs, sent_at: Duration) {
        let took = self.clock.monotonic().saturating_sub(sent_at);
        let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        let behind_ms = self.now_ms() - now;
        let is_only_late = (0..=took_ms.saturating_add(STEP_MS)).contains(&behind_ms);
        if !self.is_known() || !is_only_late {
            return self.observe(now);
        }
        if behind_ms <= CONFIRMS_MS
            && let Some(known) = &mut *self.known.lock().unwrap_or_else(PoisonError::into_inner)
        {
            known.at = self.clock.monotonic();
        }
    }

    /// The database's now as estimated; the machine's wall clock before the first observation.
    pub fn now_ms(&self) -> UnixMs {
        self.known().map_or_else(wall_ms, |known| known.offset + self.monotonic_ms())
    }

    /// Whether the database's clock has been observed.
    pub fn is_known(&self) -> bool {
        self.known().is_some()
    }

    /// Whether it was observed or confirmed within this time.
    pub fn is_fresh(&self, within: Duration) -> bool {
        self.known().is_some_and(|known| self.clock.monotonic() < known.at.saturating_add(within))
    }

    fn known(&self) -> Option<Known> {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The monotonic deadline at which the database's clock will have reached `at`; zero when it has. (Not
    /// the present: that would lie after a `now` the caller read a moment ago, for ever to come.)
    pub fn deadline(&self, at: UnixMs) -> Duration {
        let wait_ms = u64::try_from(at.saturating_sub(self.now_ms())).unwrap_or(0);
        if wait_ms == 0 {
            return Duration::ZERO;
        }
        self.clock.monotonic().saturating_add(Duration::from_millis(wait_ms))
    }

    /// The clock below.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn monotonic_ms(&self) -> i64 {
        i64::try_from(self.clock.monotonic().as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_puts_the_clock_on_and_back_only_by_a_step() {
        let test_clock = TestClock::new();
        let clock = DbClock::new(Arc::new(test_clock.clone()));
        let check = |told: UnixMs, shown: UnixMs| {
            clock.learn(told, test_clock.monotonic());
            assert_eq!(clock.now_ms(), shown, "told {told}");
        };
        check(50_000, 50_000);
        check(49_900, 50_000);
        check(49_000, 50_000);
        check(50_001, 50_001);
        check(49_000, 49_000);
        // A slow statement's answer is older, and no step.
        let sent_at = test_clock.monotonic();
        test_clock.advance(Duration::from_secs(5));
        clock.learn(49_000, sent_at);
        assert_eq!(clock.now_ms(), 54_000);
        clock.learn(47_999, sent_at);
        assert_eq!((clock.now_ms(), clock.set_back().get()), (47_999, 0));
        clock.observe(37_998);
        assert_eq!((clock.now_ms(), clock.set_back().get()), (37_998, 1));
    }

    #[test]
    fn what_was_confirmed_lately_is_fresh() {
        let test_clock = TestClock::new();
        let clock = DbClock::new(Arc::new(test_clock.clone()));
        let within = Duration::from_secs(10);
        assert!(!clock.is_fresh(within));
        clock.learn(50_000, test_clock.monotonic());
        test_clock.advance(Duration::from_millis(9999));
        assert!(clock.is_fresh(within));
        clock.learn(59_979, test_clock.monotonic()); // behind, and a confirmation all the same
        test_clock.advance(Duration::from_millis(9999));
        assert!(clock.is_fresh(within));
        clock.learn(69_977, test_clock.monotonic()); // late, or set back by a little
        test_clock.advance(Duration::from_millis(1));
        assert!(!clock.is_fresh(within));
    }
}
