//! What the history of a schedule is made of: the kinds of its entries.
//!
//! An entry is written in the commit of what it tells, by the store; this knows only its words.

use serde::{Deserialize, Serialize};

/// What an entry of the history tells. The discriminants are the database's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i16)]
pub enum HistoryKind {
    /// The schedule was registered for the first time.
    Registered = 0,
    /// It was registered or updated with another definition, or armed anew.
    Updated = 1,
    /// A run was dispatched for the first time.
    Executed = 2,
    /// A run was dispatched again: a retry, or after its worker died.
    Reexecuted = 3,
    /// A run ended without being dispatched: cancelled, outlived, or it took down too many workers.
    Dropped = 4,
    /// The schedule was paused.
    Paused = 5,
    /// It was resumed.
    Resumed = 6,
    /// It was fired by hand.
    Triggered = 7,
    /// It was deleted.
    Deleted = 8,
    /// Its armed run was moved, because the rules of its time zone changed.
    Rearmed = 9,
}

impl HistoryKind {
    /// All kinds, for decoding.
    pub const ALL: [Self; 10] = [
        Self::Registered,
        Self::Updated,
        Self::Executed,
        Self::Reexecuted,
        Self::Dropped,
        Self::Paused,
        Self::Resumed,
        Self::Triggered,
        Self::Deleted,
        Self::Rearmed,
    ];

    /// The kind of a database code, `None` for a code this version does not know.
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as i16 == code)
    }

    /// The kind of a word of the API.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The kind's word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Updated => "updated",
            Self::Executed => "executed",
            Self::Reexecuted => "reexecuted",
            Self::Dropped => "dropped",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Triggered => "triggered",
            Self::Deleted => "deleted",
            Self::Rearmed => "rearmed",
        }
    }
}
