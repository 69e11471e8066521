//! The product's own binary as a child process: started, waited for, killed, and its output kept.

use std::ffi::OsStr;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;

use crate::child::{End, GuardedChild};
use crate::scratch::scratch_dir;
use crate::{eventually, eventually_some};

/// How to start a process.
pub struct ProcessBuilder {
    command: Command,
    name: String,
    ready_file: Option<PathBuf>,
}

impl ProcessBuilder {
    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        for arg in args {
            if self.name.is_empty() {
                self.name = arg.as_ref().to_string_lossy().into_owned();
            }
            self.command.arg(arg);
        }
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Adds `--ready-file` with a path of its own, for [`Process::wait_ready`].
    #[must_use]
    pub fn with_ready_file(mut self) -> Self {
        let path = scratch_dir("process").join("ready.json");
        self.command.arg("--ready-file").arg(&path);
        self.ready_file = Some(path);
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Process {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = GuardedChild::spawn(&mut self.command, End::Kill);
        let stdout = Captured::read(child.pipes().stdout.take());
        let stderr = Captured::read(child.pipes().stderr.take());
        Process { name: self.name, ready_file: self.ready_file, stdout, stderr, child: Mutex::new(child) }
    }
}

/// A child process that is killed with this value, and with the test process at the latest. Its output is
/// printed when the test that holds it panics.
pub struct Process {
    name: String,
    ready_file: Option<PathBuf>,
    stdout: Captured,
    stderr: Captured,
    child: Mutex<GuardedChild>,
}

/// What a process wrote into its ready file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Ready {
    /// Address of the API, where the process serves it.
    pub listen: Option<String>,
    /// Address of health and metrics.
    pub ops_listen: Option<String>,
    /// Its process id.
    pub pid: u32,
}

impl Process {
    /// A process of the executable `path`, for the `reveille` binary `env!("CARGO_BIN_EXE_reveille")`.
    /// `REVEILLE_*` variables of the caller are not handed on.
    pub fn builder(path: impl AsRef<OsStr>) -> ProcessBuilder {
        let mut command = Command::new(path);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REVEILLE_")) {
            command.env_remove(name);
        }
        ProcessBuilder { command, name: String::new(), ready_file: None }
    }

    /// What it wrote into its ready file, as soon as it did. Panics when it ends instead.
    pub async fn wait_ready(&self, deadline: Duration) -> Ready {
        let path = self.ready_file.as_ref().expect("start it with_ready_file to wait for that");
        let what = format!("`{}` is ready", self.name);
        eventually_some(deadline, &what, || async {
            if let Some(status) = self.child().ended() {
                panic!("`{}` ended before it was ready: {status}", self.name);
            }
            let content = std::fs::read(path).ok()?;
            serde_json::from_slice(&content).ok() // half written is not ready
        })
        .await
    }

    /// How it ended, as soon as it did.
    pub async fn wait_exit(&self, deadline: Duration) -> ExitStatus {
        let what = format!("`{}` ends", self.name);
        eventually_some(deadline, &what, || async { self.child().ended() }).await
    }

    /// Returns as soon as its stderr or stdout contains `text`.
    pub async fn wait_output(&self, text: &str, deadline: Duration) {
        let what = format!("`{}` says {text:?}", self.name);
        eventually(deadline, &what, || async { self.stderr().contains(text) || self.stdout().contains(text) }).await;
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child().pid()
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.child().ended().is_none()
    }

    /// kill -9; returns when it is gone.
    pub fn kill9(&self) {
        self.child().stop();
    }

    /// Asks it to end. See [`Process::wait_exit`].
    pub fn sigterm(&self) {
        self.child().signal(Signal::TERM);
    }

    /// Freezes it.
    pub fn sigstop(&self) {
        self.child().signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn sigcont(&self) {
        self.child().signal(Signal::CONT);
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    fn child(&self) -> MutexGuard<'_, GuardedChild> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (name, pid) = (&self.name, self.pid());
            eprintln!("--- `{name}` ({pid}) stdout\n{}--- stderr\n{}---", self.stdout(), self.stderr());
        }
    }
}

/// What came out of a pipe so far. Read by a thread, so that a full pipe never blocks the process,
/// whatever the test is doing.
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn read(pipe: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let mut pipe = pipe.expect("a pipe was asked for");
        let sink = Arc::clone(&bytes);
        std::thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..length]);
            }
        });
        Self(bytes)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}
