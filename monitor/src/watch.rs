//! What the leading monitor knows about the next instants, and when it must look into the database
//! again. Pure: no clock, no bus, no store; every rule is testable by a table.
//!
//! ```text
//!              next due (or least lease) + 100 ms                  nothing late
//!   ┌─────────┐ ──────────────────────────────▶ ┌──────┐ ─────────────────────────▶ back to waiting
//!   │ waiting │  recheck · election · reconnect   │ look │
//!   └─────────┘  key changed · refused · retry     └──────┘ ── late ─▶ look and push again 0.25, 0.5,
//!        ▲                                                              1, 2, 4 … 30 s after it began
//!        └── a LOWER heard arms its instant without a look
//! ```
//!
//! Invariant: [`Watch::deadline`] is never later than the recheck period after the last look, so
//! whatever was lost on the way is found by then.

use std::time::Duration;

use reveille_shared::bus::wake::{NEVER, WakeState};
use reveille_shared::model::UnixMs;
use reveille_shared::store::WakeReading;

/// How long after a due instant the monitor looks whether workers claimed what was due. Runs that are
/// due for less are on their way, not late.
const CHECK_AFTER: Duration = Duration::from_millis(CHECK_AFTER_MS as u64);
const CHECK_AFTER_MS: i64 = 100;

/// When late runs are pushed again, counted from the moment they were found late; after the last one,
/// every [`LAST_PUSH`].
const PUSHES: [Duration; 8] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    LAST_PUSH,
];
const LAST_PUSH: Duration = Duration::from_secs(30);

const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The process's monotonic clock.
    pub at: Duration,
    /// The database's clock as this process knows it.
    pub db_ms: UnixMs,
}

impl Moment {
    /// The monotonic time at which the database's clock will show `instant`; now when it has passed.
    pub fn deadline(self, instant: UnixMs) -> Duration {
        let wait_ms = u64::try_from(instant.saturating_sub(self.db_ms)).unwrap_or(0);
        self.at.saturating_add(Duration::from_millis(wait_ms))
    }
}

/// Why the database is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A term begins.
    Election,
    /// The bus is back.
    Reconnect,
    /// The wake state went missing or is another one.
    KeyChanged,
    /// Something was due, or a lease ran out, a moment ago.
    Due,
    /// What was due is still unclaimed.
    Late,
    /// Nothing happened for the recheck period.
    Recheck,
    /// Another monitor marked in between.
    Refused,
    /// The last look failed.
    Retry,
    /// Somebody asks how much is waiting, and that may be another number by now.
    Asked,
}

impl Reason {
    /// The word in the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Election => "election",
            Self::Reconnect => "reconnect",
            Self::KeyChanged => "key_changed",
            Self::Due => "due",
            Self::Late => "late",
            Self::Recheck => "recheck",
            Self::Refused => "refused",
            Self::Retry => "retry",
            Self::Asked => "asked",
        }
    }
}

/// Why the workers are nudged after a look: what they are told to claim lies in the past, and the next
/// instant they are told lies ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// Due runs stay unclaimed.
    Overdue,
    /// A lease ran out.
    Lease,
}

/// The instant to tell after a reading. Normally the least due one; but a run that was left unclaimed for a
/// while must not stand in front of those to come, so then the least one ahead, and a nudge beside it.
pub fn to_tell(reading: &WakeReading) -> Option<UnixMs> {
    let overdue = reading.next_due.is_some_and(|due| is_late(due, reading.now));
    if overdue { reading.next_ahead } else { reading.next_due }
}

/// The planner of a term.
#[derive(Debug)]
pub struct Watch {
    recheck: Duration,
    not_before: Duration,
    wanted: Option<(Duration, Reason)>,
    recheck_at: Duration,
    check_at: Option<Duration>,
    late: Option<Late>,
    /// The wake state as this monitor knows it.
    seen: Seen,
}

/// Which wake state is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its nonce; 0 before the first look.
    pub nonce: u64,
    /// The highest seq under that nonce.
    pub seq: u64,
    /// What it says is next.
    pub next_ms: UnixMs,
}

/// Runs that stay unclaimed.
#[derive(Clone, Copy, Debug)]
struct Late {
    since: Duration,
    push_at: Duration,
    /// How many runs were overdue at the last look.
    overdue: i64,
    /// The expired lease that was least at the last look.
    lease: Option<UnixMs>,
}

impl Watch {
    /// A planner that wants its first look at once.
    pub fn new(recheck: Duration, now: Duration) -> Self {
        Self {
            recheck,
            not_before: now,
            wanted: Some((now, Reason::Election)),
            recheck_at: now + recheck,
            check_at: None,
            late: None,
            seen: Seen { nonce: 0, seq: 0, next_ms: NEVER },
        }
    }

    /// Asks for a look at `at`, or earlier if one was asked for already.
    pub fn want(&mut self, at: Duration, reason: Reason) {
        if self.wanted.is_none_or(|(wanted_at, _)| at < wanted_at) {
            self.wanted = Some((at, reason));
        }
    }

    /// Another monitor marked while this one read: it is let finish, then this one looks again.
    pub fn on_refused(&mut self, now: Duration) {
        self.not_before = now + REFUSED_PAUSE;
        self.want(now, Reason::Refused);
    }

    /// Why a look is due now, if one is.
    pub fn due(&self, now: Duration) -> Option<Reason> {
        if now < self.not_before {
            return None;
        }
        self.plans().into_iter().flatten().find(|(at, _)| *at <= now).map(|(_, reason)| reason)
    }

    /// When the next look is due.
    pub fn deadline(&self) -> Duration {
        let planned_at = self.plans().into_iter().flatten().map(|(at, _)| at).min();
        planned_at.unwrap_or(self.recheck_at).max(self.not_before)
    }

    /// Takes in what a look found: the reading and the wake state that was set from it. Answers why
    /// the workers are to be nudged, if they are.
    pub fn on_reading(&mut self, now: Moment, reading: &WakeReading, set: &WakeState) -> Option<Push> {
        self.wanted = None;
        self.recheck_at = now.at + self.recheck;
        self.seen = Seen { nonce: set.nonce, seq: set.seq, next_ms: set.next_ms };
        let told = to_tell(reading);
        let ahead = [told, reading.next_lease].into_iter().flatten().filter(|at| !is_late(*at, reading.now));
        // A state below the reading is a hint that came during it; what it speaks of may be gone by now.
        let hinted = set.next().filter(|next| told.is_none_or(|told| *next < told));
        self.check_at = ahead.chain(hinted).min().map(|at| check_time(now, at));

        let lease = reading.next_lease.filter(|lease| is_late(*lease, reading.now));
        let overdue =
            if reading.next_due.is_some_and(|due| is_late(due, reading.now)) { reading.overdue.max(1) } else { 0 };
        if overdue == 0 && lease.is_none() {
            self.late = None;
            return None;
        }
        let before = self.late.unwrap_or(Late {
            since: now.at.saturating_sub(CHECK_AFTER),
            push_at: now.at,
            overdue: 0,
            lease: None,
        });
        // What is late for long is pushed at ever longer intervals; what is newly late, at once.
        let newly_late = overdue > before.overdue || lease.is_some() && lease != before.lease;
        let pushes = newly_late || now.at >= before.push_at;
        let push_at = if pushes { next_push(before.since, now.at) } else { before.push_at };
        self.late = Some(Late { push_at, overdue, lease, ..before });
        match (pushes, overdue) {
            (false, _) => None,
            (true, 0) => Some(Push::Lease),
            (true, _) => Some(Push::Overdue),
        }
    }

    /// Takes in the state a heartbeat met: another nonce says that the key was lost meanwhile, and the
    /// hints in it.
    pub fn on_beat(&mut self, now: Moment, state: &WakeState) {
        if self.seen.nonce != 0 && state.nonce != self.seen.nonce {
            self.want(now.at, Reason::KeyChanged);
        }
        self.on_state(now, state);
    }

    /// Takes in a state that was heard. A lower one needs no look: its instant is armed.
    pub fn on_state(&mut self, now: Moment, state: &WakeState) {
        let same_key = state.nonce == self.seen.nonce;
        if same_key && state.seq < self.seen.seq {
            return; // published before the last look, which knew more
        }
        if same_key {
            self.seen.seq = state.seq;
        }
        if state.next_ms < self.seen.next_ms {
            self.seen.next_ms = state.next_ms;
            let check_at = check_time(now, state.next_ms);
            self.check_at = Some(self.check_at.map_or(check_at, |planned| planned.min(check_at)));
        }
    }

    /// The wake state as this monitor knows it.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// Plans in the order in which they name the reason when several are due.
    fn plans(&self) -> [Option<(Duration, Reason)>; 4] {
        [
            self.wanted,
            self.late.map(|late| (late.push_at, Reason::Late)),
            self.check_at.map(|at| (at, Reason::Due)),
            Some((self.recheck_at, Reason::Recheck)),
        ]
    }
}

fn is_late(instant: UnixMs, now: UnixMs) -> bool {
    instant.saturating_add(CHECK_AFTER_MS) <= now
}

fn check_time(now: Moment, instant: UnixMs) -> Duration {
    now.deadline(instant.saturating_add(CHECK_AFTER_MS))
}

fn next_push(since: Duration, now: Duration) -> Duration {
    if let Some(push_at) = PUSHES.into_iter().map(|step| since + step).find(|push_at| *push_at > now) {
        return push_at;
    }
    now + LAST_PUSH
}
