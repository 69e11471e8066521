//! Start and stop: two-step shutdown, and the only place that spawns tasks, so that every task is
//! waited for and a panic in one is a logged fault of the process, never a silent loss of a duty.
//!
//! Duties end first, attendants (what serves the duties: hints, subscriptions) after the last of them: a
//! run that settles during the drain still has its successor hinted.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by all tasks of a process. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    failed: CancellationToken,
    closing: CancellationToken,
    duties: TaskTracker,
    attendants: TaskTracker,
}

impl Lifecycle {
    /// A lifecycle in which nothing has begun to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fires when new work should no longer be taken.
    pub fn stopping(&self) -> &CancellationToken {
        &self.soft
    }

    /// Fires when what is still running must be given up.
    pub fn aborting(&self) -> &CancellationToken {
        &self.hard
    }

    /// Fires when a duty panicked: the process should end and be restarted.
    pub fn failed(&self) -> &CancellationToken {
        &self.failed
    }

    /// Fires when every duty has ended, or must be given up: attendants finish now, within a second.
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Asks everything to stop taking new work.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// Asks everything to end now.
    pub fn abort(&self) {
        self.soft.cancel();
        self.hard.cancel();
        self.closing.cancel();
    }

    /// Runs a duty until it ends. `name` stands in the log when it panics.
    pub fn spawn<F>(&self, name: &'static str, duty: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_in(&self.duties, name, duty);
    }

    /// Runs what serves the duties. It must end after [`Lifecycle::closing`], not before.
    pub fn spawn_attendant<F>(&self, name: &'static str, attendant: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_in(&self.attendants, name, attendant);
    }

    /// Waits until every spawned task has ended, duties before attendants. Call after [`Lifecycle::stop`].
    pub async fn drained(&self) {
        self.duties.close();
        self.duties.wait().await;
        self.closing.cancel();
        self.attendants.close();
        self.attendants.wait().await;
    }

    /// Runs what blocks its thread, on a thread for that. `None` when it panicked or the process is ending.
    pub async fn run_blocking<T, F>(&self, work: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        tokio::task::spawn_blocking(work).await.ok()
    }

    /// Drops a value whose end blocks its thread, on a thread for that.
    pub fn drop_blocking<T: Send + 'static>(&self, value: T) {
        // Outside of a runtime there is nobody to hold up.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(value));
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    fn spawn_in<F>(&self, tracker: &TaskTracker, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let this = self.clone();
        tracker.spawn(async move {
            let outcome = tokio::spawn(task).await;
            if let Err(error) = outcome
                && error.is_panic()
            {
                tracing::error!(task = name, "task panicked, the process will stop");
                this.failed.cancel();
                this.stop();
            }
        });
    }
}
