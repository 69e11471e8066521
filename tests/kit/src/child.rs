//! A child process that ends with its handle, and with the test process at the latest.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::scratch;

/// How long a child may take to obey before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(2);

/// Invariant: registered with the watchdog exactly while it is not waited for.
pub(crate) struct GuardedChild {
    child: Child,
    ended: Option<ExitStatus>,
    end: End,
}

/// The signal that ends a child for good.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// Nothing is worth a goodbye.
    Kill,
    /// PostgreSQL's immediate shutdown: as a crash, but the shared memory is given back.
    Quit,
}

impl GuardedChild {
    pub(crate) fn spawn(command: &mut Command, end: End) -> Self {
        let child = command
            .process_group(0) // ctrl-C is the test's; the watchdog ends the children in order
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {:?}: {error}", command.get_program()));
        scratch::watch(child.id(), end.name());
        Self { child, ended: None, end }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The pipes of stdout and stderr, where the command asked for them.
    pub(crate) fn pipes(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("ask for the child's state");
            if self.ended.is_some() {
                scratch::unwatch(self.child.id());
            }
        }
        self.ended
    }

    /// Sends `signal`, unless it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            // Not waited for yet, so the number is still this child's.
            kill_process(Pid::from_child(&self.child), signal).expect("signal the child");
        }
    }

    /// Ends it and waits for that.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(self.end.signal());
        let patience_over = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            if Instant::now() > patience_over {
                self.signal(Signal::KILL);
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for GuardedChild {
    fn drop(&mut self) {
        self.stop();
    }
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Quit => "QUIT",
        }
    }

    fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::KILL,
            Self::Quit => Signal::QUIT,
        }
    }
}
