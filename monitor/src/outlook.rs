//! What the leading monitor knows of how much is waiting and coming, and when that must be counted again for whoever
//! asks. Pure: no clock, no bus, no store.
//!
//! Nothing is counted for a question while the answer cannot be another one: nothing was waiting, running or coming,
//! nothing was hinted and no instant passed since. So a scaler that polls an idle cluster costs no statement.

use std::time::Duration;

use reveille_shared::store::Backlog;

/// How long a count answers every question: at most so old is what a scaler is told of a registration or a drain.
const FRESH: Duration = Duration::from_secs(2);

/// After how long a count of what comes is another one by the passing of time alone (or by a deletion, which hints
/// nothing): a sixth of the minute that is counted.
const SLIDES: Duration = Duration::from_secs(10);

/// The last count of a term.
#[derive(Debug, Default)]
pub struct Outlook {
    counted: Option<(Duration, Backlog)>,
    /// A look, or a hint, came after the count.
    has_moved: bool,
}

impl Outlook {
    /// Takes in a count.
    pub fn on_count(&mut self, now: Duration, backlog: Backlog) {
        self.counted = Some((now, backlog));
        self.has_moved = false;
    }

    /// Something became due, or was hinted, and was not counted.
    pub fn on_move(&mut self) {
        self.has_moved = true;
    }

    /// What may be told at `now` without counting again, and since when it has held; `None`: count. `hinted`: something
    /// was registered or armed since the last look.
    pub fn standing(&self, now: Duration, hinted: bool) -> Option<(Backlog, Duration)> {
        let (counted_at, backlog) = self.counted?;
        let age = now.saturating_sub(counted_at);
        if age < FRESH {
            return Some((backlog, counted_at));
        }
        // Claims and settles are told to nobody.
        let is_moving = hinted || self.has_moved || backlog.overdue_runs > 0 || backlog.running_runs > 0;
        let slides = backlog.due_next_five_minutes > 0 && age >= SLIDES;
        (!is_moving && !slides).then_some((backlog, now))
    }
}
