//! Start and stop: two-step shutdown, and the only place that spawns tasks, so that every task is
//! waited for and a panic in one is a logged fault of the process, never a silent loss of a duty.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by all tasks of a process. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    failed: CancellationToken,
    tasks: TaskTracker,
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

    /// Asks everything to stop taking new work.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// Asks everything to end now.
    pub fn abort(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Runs a duty until it ends. `name` stands in the log when it panics.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, duty: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let this = self.clone();
        self.tasks.spawn(async move {
            let outcome = tokio::spawn(duty).await;
            if let Err(error) = outcome
                && error.is_panic()
            {
                tracing::error!(task = name, "task panicked, the process will stop");
                this.failed.cancel();
                this.stop();
            }
        });
    }

    /// Waits until every spawned task has ended. Call after [`Lifecycle::stop`].
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
