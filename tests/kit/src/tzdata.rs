//! Releases of the time zone database, as files: out of a package that carries one each, kept in a cache folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::scratch::scratch_dir;

/// The folder of a release: `2025.2` has 2025b, `2026.6` has 2026f.
pub fn tzdata(package: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let home = || PathBuf::from(env::var_os("HOME").expect("a home folder")).join(".cache");
    let cache = env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("reveille-tools");
    let dir = cache.join(format!("tzdata-{package}"));
    let zones = dir.join("tzdata/zoneinfo");
    if zones.is_dir() {
        return zones;
    }
    fs::create_dir_all(&cache).expect("make the cache folder");
    // Of two tests that fetch it at once one wins.
    let draft = scratch_dir("tzdata");
    let venv = draft.join("venv");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    let target = cache.join(format!(".tzdata-{package}.{}", std::process::id()));
    let package = format!("tzdata=={package}");
    run(Command::new(venv.join("bin/pip"))
        .args(["install", "--quiet", "--no-deps", "--target"])
        .arg(&target)
        .arg(package));
    if fs::rename(&target, &dir).is_err() {
        fs::remove_dir_all(&target).ok();
    }
    assert!(zones.is_dir(), "there is no {}", zones.display());
    zones
}

/// A copy of a release, to be replaced under a process that reads it.
pub fn copy_zones(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("make a folder");
    for entry in fs::read_dir(from).expect("read a folder") {
        let entry = entry.expect("an entry");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_zones(&source, &target);
        } else {
            fs::copy(&source, &target).expect("copy a file");
        }
    }
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}; run ./ci/test"));
    assert!(status.success(), "{command:?}: {status}");
}
