//! Watching runs: one subscription of the bus for all subscribers of a process, held while there is one. As
//! long as it is held, the workers are told every few seconds that somebody watches.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use reveille_shared::Context;
use reveille_shared::bus::stage::{INTEREST_EVERY, StageNews, StageWatch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The watchers of a process. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Watchers {
    context: Context,
    held: Arc<Mutex<Weak<Held>>>,
}

/// What all watchers share. It ends with the last of them.
struct Held {
    watch: StageWatch,
    _interest: DropGuard,
}

/// One watcher.
pub(super) struct Watcher {
    watch: StageWatch,
    _held: Arc<Held>,
}

impl Watchers {
    pub(crate) fn new(context: &Context) -> Self {
        Self { context: context.clone(), held: Arc::default() }
    }

    /// Watches from now on.
    pub(super) fn watch(&self) -> Watcher {
        let mut known = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = known.upgrade().unwrap_or_else(|| {
            let held = Arc::new(self.hold());
            *known = Arc::downgrade(&held);
            held
        });
        Watcher { watch: held.watch.another(), _held: held }
    }

    fn hold(&self) -> Held {
        let token = CancellationToken::new();
        let (context, ended) = (self.context.clone(), token.clone());
        self.context.lifecycle.spawn_attendant("stage interest", async move {
            let closing = context.lifecycle.closing().clone();
            tokio::select! {
                () = ended.cancelled() => {}
                () = closing.cancelled() => {}
                () = want_stages(&context) => {}
            }
        });
        Held { watch: self.context.bus.stages_watch(), _interest: token.drop_guard() }
    }
}

async fn want_stages(context: &Context) {
    loop {
        // Not told now, the workers are told the next time; the bus says by itself that it is away.
        let _ = context.bus.stages_want().await;
        context.clock.clock().sleep(INTEREST_EVERY).await;
    }
}

impl Watcher {
    /// What comes next; `None` when the process ends.
    pub(super) async fn next(&mut self) -> Option<StageNews> {
        self.watch.recv().await
    }
}
