//! What a caller of the API may do.

use serde::Serialize;

/// What a key lets its holder do; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See schedules, runs and history.
    Read,
    /// Register, change, delete, pause, resume and trigger schedules.
    Write,
    /// Everything.
    Admin,
}

impl Scope {
    /// The scope's word in the database and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    /// The scope of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Read, Self::Write, Self::Admin].into_iter().find(|scope| scope.as_str() == word)
    }
}
