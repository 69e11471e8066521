//! The secret keys of this process: from the settings, or from the file that `serve` makes for itself.
//!
//! Never prints a key, and never replaces a key file that is there: what is sealed under it would be lost.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reveille_shared::model::secret::SecretHeaders;
use reveille_shared::runtime::seal::{Sealer, SealingKey};

use crate::config::Settings;

const KEY_FILE: &str = "secret.key";

/// The sealer of a process; with `make`, under a key that is made where there is none.
///
/// # Errors
/// When a key file is there and cannot be used, or cannot be made.
pub(crate) fn sealer(settings: &Settings, make: bool) -> anyhow::Result<Sealer> {
    let headers = SecretHeaders::default().and(settings.secret_headers.iter().cloned());
    if !settings.secret_key.is_empty() {
        let keys = read(settings.secret_key.iter().map(String::as_str)).context("--secret-key cannot be used")?;
        return Ok(Sealer::new(keys, headers));
    }
    let path = settings.data_dir.join(KEY_FILE);
    if make && !path.exists() {
        make_key(&settings.data_dir, &path).with_context(|| format!("cannot make {}", path.display()))?;
        let path = path.display();
        tracing::info!(%path, "made a key that seals the secrets of documents; keep it apart from the database's backup");
    }
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Sealer::new(Vec::new(), headers)),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let texts = text.split(|char: char| char == ',' || char.is_whitespace()).filter(|text| !text.is_empty());
    let keys = read(texts).with_context(|| format!("{} cannot be used", path.display()))?;
    anyhow::ensure!(!keys.is_empty(), "{} is empty", path.display());
    Ok(Sealer::new(keys, headers))
}

fn read<'a>(texts: impl Iterator<Item = &'a str>) -> anyhow::Result<Vec<SealingKey>> {
    texts.map(|text| text.parse().map_err(anyhow::Error::msg)).collect()
}

/// A key file appears whole or not at all, and of two that are made at once one wins.
fn make_key(dir: &Path, path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let key = SealingKey::generate().map_err(anyhow::Error::msg)?;
    let draft: PathBuf = dir.join(format!(".{KEY_FILE}.{}", std::process::id()));
    let written = write_private(&draft, &key).and_then(|()| match std::fs::hard_link(&draft, path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let _ = std::fs::remove_file(&draft);
    written?;
    // As durable as what will be sealed under it.
    Ok(std::fs::File::open(dir)?.sync_all()?)
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}
