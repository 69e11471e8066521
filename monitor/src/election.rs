//! When a standby stands for monitor. Pure; the bus decides who wins.
//!
//! ```text
//!            heartbeat: ttl + 0–500 ms from now          won
//!   ┌─────────┐ ────────────────────────────▶ stand ──────────▶ term
//!   │ standby │   resigned, lost: 0–50 ms        │               │
//!   └─────────┘   connected: 0–500 ms            │ another leads │ lost · gave up (holds off 10 s)
//!        ▲ ◀─────────────────────────────────────┴───────────────┘
//! ```
//!
//! A standby sends nothing while it hears heartbeats: neither to the database nor to the bus. Two
//! leaders at once are harmless (see `shared::bus::wake`), so this is about promptness, not safety.

use std::time::Duration;

use reveille_shared::bus::BusEvent;

/// How long a monitor that could not use its database leaves the field to the others.
pub const HOLD_OFF: Duration = Duration::from_secs(10);

const PROMPT: Duration = Duration::from_millis(50);
const SPREAD: Duration = Duration::from_millis(500);

/// The planner of a standby.
#[derive(Debug)]
pub struct Candidacy {
    ttl: Duration,
    random: fastrand::Rng,
    /// `None` while the bus is away: standing could not succeed.
    stand_at: Option<Duration>,
    hold_until: Duration,
}

impl Candidacy {
    /// A standby that has not reached the bus yet.
    pub fn new(ttl: Duration, random: fastrand::Rng) -> Self {
        Self { ttl, random, stand_at: None, hold_until: Duration::ZERO }
    }

    /// Takes in what was heard.
    pub fn on_event(&mut self, now: Duration, event: &BusEvent) {
        match event {
            // Whether somebody leads is unknown, and the key may be gone with a restarted Redis: ask.
            BusEvent::Connected(_) => self.stand_within(now, SPREAD),
            BusEvent::Heartbeat(_) => self.on_led(now),
            BusEvent::Wake(_)
            | BusEvent::Nudge(_)
            | BusEvent::Soon(_)
            | BusEvent::StagesWanted
            | BusEvent::BacklogWanted => {}
            BusEvent::Resigned => self.stand_within(now, PROMPT),
            BusEvent::Disconnected => self.stand_at = None,
        }
    }

    /// Another monitor leads: its silence will be noticed.
    pub fn on_led(&mut self, now: Duration) {
        self.stand_at = Some(now + self.ttl + self.spread(SPREAD));
    }

    /// The bus did not answer; if the connection broke, [`BusEvent::Connected`] will follow.
    pub fn on_failed(&mut self, now: Duration) {
        self.stand_at = Some(now + SPREAD + self.spread(SPREAD));
    }

    /// A term ended because the key was gone: perhaps nobody holds it.
    pub fn on_lost(&mut self, now: Duration) {
        self.stand_within(now, PROMPT);
    }

    /// A term ended because the database could not be used: let another process try.
    pub fn on_gave_up(&mut self, now: Duration) {
        self.hold_until = now + HOLD_OFF;
        self.stand_within(now, SPREAD);
    }

    /// When to stand; `None` while that makes no sense.
    pub fn stand_at(&self) -> Option<Duration> {
        self.stand_at.map(|at| at.max(self.hold_until))
    }

    fn stand_within(&mut self, now: Duration, window: Duration) {
        self.stand_at = Some(now + self.spread(window));
    }

    fn spread(&mut self, window: Duration) -> Duration {
        window.mul_f64(self.random.f64())
    }
}
