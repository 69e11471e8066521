//! The ready file: by which whoever started this process learns that it is ready, and where it listens.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Where the process listens.
pub(crate) struct Addresses {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) ops: Option<SocketAddr>,
}

/// Removes the file of an earlier process: it would announce what is not there yet.
///
/// # Errors
/// When there is one that cannot be removed.
pub(crate) fn withdraw(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove the old --ready-file {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes the file in one step: whoever sees it sees it whole.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn announce(path: &Path, addresses: &Addresses) -> anyhow::Result<()> {
    // Where no health is served of its own, it is served with the API.
    let ops = addresses.ops.or(addresses.listen);
    let content = serde_json::json!({
        "listen": addresses.listen.map(|address| address.to_string()),
        "ops_listen": ops.map(|address| address.to_string()),
        "pid": std::process::id(),
    });
    write(path, &content.to_string()).with_context(|| format!("cannot write --ready-file {}", path.display()))
}

fn write(path: &Path, content: &str) -> std::io::Result<()> {
    let mut unfinished = PathBuf::from(path).into_os_string();
    unfinished.push(format!(".{}", std::process::id()));
    let mut file = std::fs::File::create(&unfinished)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(unfinished, path)
}
