//! Who asks: what a caller may do, and whose schedules he may see.

/// What a caller may do; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// See schedules, runs and history.
    Read,
    /// Register, change, delete, pause, resume and trigger schedules.
    Write,
    /// Everything, of every application.
    Admin,
}

/// A caller of the API, as its credentials say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What he may do.
    pub scope: Scope,
    /// The application he is limited to; `None`: all.
    pub application: Option<String>,
}

impl Caller {
    /// Whoever operates the service: may do everything.
    pub fn operator() -> Self {
        Self { scope: Scope::Admin, application: None }
    }
}
