//! The binary of the commit that "today" in the goals was measured with: given, found in the cache, or built there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The commit that the goals call "today".
pub(crate) const COMMIT: &str = "40529fd";

/// The cached binary, if it was built before.
pub(crate) fn cached(cache: &Path) -> Option<PathBuf> {
    Some(folder(cache).join("reveille")).filter(|binary| binary.is_file())
}

/// Builds it out of the history of the repository this is run in. Takes as long as a release build takes.
pub(crate) fn build(cache: &Path) -> Result<PathBuf> {
    let dir = folder(cache);
    let tree = dir.join("tree");
    fs::remove_dir_all(&tree).ok(); // left by a build that was interrupted
    fs::create_dir_all(&dir)?;
    let path = tree.to_string_lossy().into_owned();
    // By force: git may still know the folder of an interrupted build.
    run(Command::new("git").args(["worktree", "add", "--force", "--detach", &path, COMMIT]))?;
    let target = dir.join("target");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--bin", "reveille"]).current_dir(&tree);
    let built = run(cargo.env("CARGO_TARGET_DIR", &target));
    run(Command::new("git").args(["worktree", "remove", "--force", &path]))?;
    built?;
    let binary = dir.join("reveille");
    fs::copy(target.join("release/reveille"), &binary)?;
    fs::remove_dir_all(target).ok(); // gigabytes that nothing else is built from
    Ok(binary)
}

fn folder(cache: &Path) -> PathBuf {
    cache.join(format!("base-{COMMIT}"))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("run {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
