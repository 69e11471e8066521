//! Fault points: named places in the code where a test can make the process die or an error appear.
//! They exist in debug builds only; a release build has none of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The fault points armed in this process. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    armed: Arc<Mutex<Vec<Fault>>>,
}

#[derive(Clone, Debug)]
struct Fault {
    point: String,
    strike: Strike,
    /// Passes that do nothing before the fault strikes.
    after: u32,
}

#[derive(Clone, Debug)]
enum Strike {
    Once(FaultAction),
    Hold(Arc<watch::Sender<Gate>>),
}

#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    /// How many came to it.
    reached: usize,
    is_open: bool,
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
            armed.push(Fault { point: point.to_owned(), strike: Strike::Once(action), after });
        }
        Ok(Self { armed: Arc::new(Mutex::new(armed)) })
    }

    /// Arms one point, once.
    pub fn arm(&self, point: &str, action: FaultAction) {
        self.lock().push(Fault { point: point.to_owned(), strike: Strike::Once(action), after: 0 });
    }

    /// Stops all that pass the point called `point` until the answer is dropped.
    pub fn hold(&self, point: &str) -> Held {
        let gate = Arc::new(watch::Sender::default());
        self.lock().push(Fault { point: point.to_owned(), strike: Strike::Hold(gate.clone()), after: 0 });
        Held { faults: self.clone(), gate }
    }

    /// Passes the point called `point`: nothing happens unless a test armed it.
    pub async fn pass(&self, point: &str) {
        if !cfg!(debug_assertions) {
            return;
        }
        match self.strike(point) {
            None => {}
            Some(Strike::Once(FaultAction::Abort)) => std::process::abort(),
            Some(Strike::Once(FaultAction::Hang)) => std::future::pending::<()>().await,
            Some(Strike::Hold(gate)) => {
                gate.send_modify(|gate| gate.reached += 1);
                let _ = gate.subscribe().wait_for(|gate| gate.is_open).await;
            }
        }
    }

    fn strike(&self, point: &str) -> Option<Strike> {
        let mut armed = self.lock();
        let at = armed.iter().position(|fault| fault.point == point)?;
        if armed[at].after > 0 {
            armed[at].after -= 1;
            return None;
        }
        match &armed[at].strike {
            Strike::Once(_) => Some(armed.remove(at).strike),
            hold @ Strike::Hold(_) => Some(hold.clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A point where everybody stops as long as this is kept.
#[derive(Debug)]
pub struct Held {
    faults: Faults,
    gate: Arc<watch::Sender<Gate>>,
}

impl Held {
    /// Waits until so many in all have come to the point.
    pub async fn reached(&self, count: usize) {
        let _ = self.gate.subscribe().wait_for(|gate| gate.reached >= count).await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let is_other = |fault: &Fault| !matches!(&fault.strike, Strike::Hold(gate) if Arc::ptr_eq(gate, &self.gate));
        self.faults.lock().retain(is_other);
        self.gate.send_modify(|gate| gate.is_open = true);
    }
}
