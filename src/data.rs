//! The file of the embedded database belongs to one process that runs everything on it: a second one would take over as
//! monitor, and the two would know nothing of each other's hints.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};

use anyhow::Context;

/// Holds the database for as long as the answer lives, `None` where it is no file. Commands that only look at it, or
/// write a row, need no lock.
///
/// # Errors
/// When another process holds it; which one.
pub(crate) fn lock(database: &str) -> anyhow::Result<Option<File>> {
    let Some(path) = database.strip_prefix("sqlite:") else { return Ok(None) };
    let path = format!("{}.lock", path.strip_prefix("//").unwrap_or(path));
    let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = file.with_context(|| format!("cannot open {path}"))?;
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
