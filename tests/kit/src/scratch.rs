//! One scratch folder per test process, and the watchdog that empties it.
//!
//! Invariant: when the test process is gone, for whatever reason (end, panic, ctrl-C, kill -9), so are the
//! children it registered and the folder. `Drop` cannot give that: statics are never dropped, and a killed
//! process drops nothing. So a shell waits on a pipe whose other end only this process holds.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

/// `live/` holds one file per running child: its name is the process id, its content the signal that
/// ends it. Signals first and waits afterwards, so that the servers stop at the same time.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
PATH=/usr/bin:/bin:$PATH
read -r _
cd "$1/live" || exit
for pid in *; do kill -s "$(cat "$pid")" "$pid"; done
for pid in *; do
  left=100
  while [ "$left" -gt 0 ] && kill -0 "$pid"; do left=$((left - 1)); sleep 0.05; done
  [ "$left" -gt 0 ] || kill -s KILL "$pid"
done
cd / && rm -rf "$1"
"#;

struct Scratch {
    root: PathBuf,
    names: AtomicU32,
    _watchdog: Child,
}

/// A new empty folder that goes away with the test process.
pub fn scratch_dir(name: &str) -> PathBuf {
    let scratch = scratch();
    let number = scratch.names.fetch_add(1, Ordering::Relaxed);
    let dir = scratch.root.join(format!("{name}-{number}"));
    fs::create_dir(&dir).expect("create a scratch folder");
    dir
}

/// Has the watchdog end `pid` with `signal` when this process is gone.
pub(crate) fn watch(pid: u32, signal: &str) {
    fs::write(live_entry(pid), signal).expect("register a child with the watchdog");
}

/// Forgets `pid`. To be called before it is waited for: afterwards the number may be somebody else's.
pub(crate) fn unwatch(pid: u32) {
    fs::remove_file(live_entry(pid)).ok();
}

fn live_entry(pid: u32) -> PathBuf {
    scratch().root.join("live").join(pid.to_string())
}

fn scratch() -> &'static Scratch {
    static SCRATCH: OnceLock<Scratch> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let root = create_root();
        let watchdog = start_watchdog(&root);
        Scratch { root, names: AtomicU32::new(0), _watchdog: watchdog }
    })
}

fn create_root() -> PathBuf {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    // The process id alone comes round again; a folder left by a killed watchdog must not be reused.
    let name = format!("reveille-test-{}-{:x}", std::process::id(), since_epoch.as_micros());
    let root = std::env::temp_dir().join(name);
    fs::create_dir_all(root.join("live")).expect("create the scratch folder");
    root
}

fn start_watchdog(root: &Path) -> Child {
    Command::new("/bin/sh")
        .args(["-c", WATCHDOG, "reveille-test-watchdog"])
        .arg(root)
        .stdin(Stdio::piped())
        // Inherited pipes would keep `cargo test | tail` waiting for the watchdog.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0) // ctrl-C in a terminal reaches the foreground group
        .spawn()
        .expect("start the watchdog shell")
}
