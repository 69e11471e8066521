//! Fault points: named places in the code where a test can make the process die or an error appear.
//! They exist in debug builds only; a release build has none of them.

use std::sync::{Arc, Mutex, PoisonError};

/// The fault points armed in this process. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    armed: Arc<Mutex<Vec<Fault>>>,
}

#[derive(Clone, Debug)]
struct Fault {
    point: String,
    action: FaultAction,
    /// Passes that do nothing before the fault strikes.
    after: u32,
}

/// What happens at an armed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAction {
    /// The process ends at once, as by SIGKILL.
    Abort,
    /// The task that passes stops there for good, as if its process had been stopped.
    Hang,
}

impl Faults {
    /// No faults.
    pub fn none() -> Self {
        Self::default()
    }

    /// Parses `point=abort` or `point=hang`, comma separated, with an optional `:n` for "at the n-th pass".
    ///
    /// # Errors
    /// A sentence that names the part it could not read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut armed = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (point, rest) = part.split_once('=').ok_or_else(|| format!("`{part}` is not point=action"))?;
            let (action, after) = match rest.split_once(':') {
                Some((action, pass)) => {
                    let pass: u32 = pass.parse().map_err(|_| format!("`{pass}` is not a number"))?;
                    (action, pass.saturating_sub(1))
                }
                None => (rest, 0),
            };
            let action = match action {
                "abort" => FaultAction::Abort,
                "hang" => FaultAction::Hang,
                other => return Err(format!("`{other}` is not abort or hang")),
            };
            armed.push(Fault { point: point.to_owned(), action, after });
        }
        Ok(Self { armed: Arc::new(Mutex::new(armed)) })
    }

    /// Arms one point, once.
    pub fn arm(&self, point: &str, action: FaultAction) {
        let fault = Fault { point: point.to_owned(), action, after: 0 };
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// Passes the point called `point`: nothing happens unless a test armed it.
    pub async fn pass(&self, point: &str) {
        if !cfg!(debug_assertions) {
            return;
        }
        match self.strike(point) {
            None => {}
            Some(FaultAction::Abort) => std::process::abort(),
            Some(FaultAction::Hang) => std::future::pending::<()>().await,
        }
    }

    fn strike(&self, point: &str) -> Option<FaultAction> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let at = armed.iter().position(|fault| fault.point == point)?;
        if armed[at].after > 0 {
            armed[at].after -= 1;
            return None;
        }
        Some(armed.remove(at).action)
    }
}
