//! The file of the embedded database belongs to one process that runs everything on it: a second one would take over as
//! monitor, and the two would know nothing of each other's hints.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use reveille_shared::runtime::clock::{Clock, SystemClock};

/// How long a look at the lock may take, and how many are waited for.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: usize = 3;

/// The process that holds the database, if one does; `None` where the database is no file. Takes the lock for a moment.
pub(crate) fn holder(database: &str) -> Option<Option<String>> {
    let path = lock_path(database)?;
    let Ok(mut file) = File::open(path) else { return Some(None) };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).ok();
            Some(Some(holder.trim().to_owned()))
        }
        _ => Some(None),
    }
}

fn lock_path(database: &str) -> Option<String> {
    // One in memory has no file to lock; the store refuses it.
    let path = database.strip_prefix("sqlite:").filter(|path| !path.contains(":memory:"))?;
    Some(format!("{}.lock", path.strip_prefix("//").unwrap_or(path)))
}

/// The file of an embedded database that is not there yet; `None` where it is, or where the database is no file.
pub(crate) fn missing(database: &str) -> Option<PathBuf> {
    let path = Path::new(database.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path))?);
    // Parameters may follow the path; then nobody can say.
    let is_known = !database.contains('?') && !database.contains(":memory:");
    (is_known && !path.exists()).then(|| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

/// Holds the database for as long as the answer lives, `None` where it is no file. Commands that only look at it, or
/// write a row, need no lock.
///
/// # Errors
/// When another process holds it; which one.
pub(crate) async fn lock(database: &str) -> anyhow::Result<Option<File>> {
    let Some(path) = lock_path(database) else { return Ok(None) };
    let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = file.with_context(|| format!("cannot open {path}"))?;
    let clock = SystemClock::new();
    let mut tries = 0;
    while tries < LOOKS && matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        // A doctor may look at this moment.
        clock.sleep(LOOK).await;
        tries += 1;
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).ok();
            anyhow::bail!(
                "process {} serves {database} already; stop it first, or give this one another --data-dir",
                holder.trim()
            );
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("cannot lock {path}")),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Some(file))
}
