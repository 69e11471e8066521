//! Reads the rules of time zones: the machine's, a folder's, or those in the binary.
//!
//! Where the version stands: the first line of `tzdata.zi` (`# version 2026f`), which every distribution of the database
//! has, or a file `+VERSION`.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use crate::model::zone::rules::{self, Rules, Version};

/// Where systems keep the database.
const SYSTEM: [&str; 3] = ["/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/usr/share/lib/zoneinfo"];

/// What holds the same zones once more, counted otherwise, or is the machine's own.
const NOT_ZONES: [&str; 4] = ["right", "posix", "localtime", "posixrules"];

/// A zone's table is smaller than this; the largest known has 4 KiB.
const LARGEST: u64 = 64 * 1024;

/// Which rules a process takes. The text of `--tzdata`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The newer of the machine's and those in the binary.
    Auto,
    /// The machine's.
    System,
    /// Those in the binary.
    Bundled,
    /// Those of a folder.
    Folder(PathBuf),
}

impl FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "system" => Self::System,
            "bundled" => Self::Bundled,
            path => Self::Folder(path.into()),
        })
    }
}

/// Why rules cannot be used: a sentence for whoever starts the process.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RulesError(String);

/// Reads the rules of a source.
///
/// # Errors
/// When a folder that was named, or the system's, has none, or a broken table.
pub fn open(source: &Source) -> Result<Rules, RulesError> {
    match source {
        Source::Bundled => Ok(Rules::bundled()),
        Source::Folder(path) => read(path),
        Source::System => {
            let none = || RulesError(format!("this machine has no time zones in {}", SYSTEM.join(", ")));
            read(&system().ok_or_else(none)?)
        }
        Source::Auto => {
            let bundled = Rules::bundled();
            match system().filter(|path| version_of(path).is_some_and(|version| version > bundled.version())) {
                // A system that is being upgraded is read at the next look.
                Some(path) => Ok(read(&path).unwrap_or(bundled)),
                None => Ok(bundled),
            }
        }
    }
}

/// Which version a source has at this moment, without reading its tables; `None` when it has none.
pub fn version_at(source: &Source) -> Option<Version> {
    let bundled = Rules::bundled().version();
    match source {
        Source::Bundled => Some(bundled),
        Source::Folder(path) => version_of(path),
        Source::System => version_of(&system()?),
        Source::Auto => system().and_then(|path| version_of(&path)).max(Some(bundled)),
    }
}

fn read(root: &Path) -> Result<Rules, RulesError> {
    let shown = root.display();
    let Some(version) = version_of(root) else {
        return Err(RulesError(format!(
            "{shown} is no time zone database: it has neither a tzdata.zi nor a +VERSION that names one"
        )));
    };
    let mut tables = HashMap::new();
    read_below(root, "", &mut tables)
        .map_err(|error| RulesError(format!("the time zones in {shown} cannot be read: {error}")))?;
    Rules::of(version, shown.to_string(), tables).map_err(RulesError)
}

fn system() -> Option<PathBuf> {
    SYSTEM.iter().map(PathBuf::from).find(|path| version_of(path).is_some())
}

fn version_of(root: &Path) -> Option<Version> {
    let beginning = |name: &str| {
        let mut text = String::new();
        std::fs::File::open(root.join(name)).ok()?.take(64).read_to_string(&mut text).ok()?;
        text.lines().next().map(str::to_owned)
    };
    let in_source = beginning("tzdata.zi").and_then(|line| line.strip_prefix("# version ")?.parse().ok());
    in_source.or_else(|| beginning("+VERSION")?.parse().ok())
}

/// Every TZif file, by its path.
fn read_below(dir: &Path, prefix: &str, tables: &mut HashMap<String, Vec<u8>>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(file) = entry.file_name().into_string() else { continue };
        let name = format!("{prefix}{file}");
        // Links are followed: many names are links to others. One that leads nowhere is no zone.
        let Ok(facts) = std::fs::metadata(entry.path()) else { continue };
        if NOT_ZONES.contains(&name.as_str()) {
            continue;
        }
        if facts.is_dir() && prefix.len() < 64 {
            read_below(&entry.path(), &format!("{name}/"), tables)?;
        } else if facts.is_file()
            && facts.len() <= LARGEST
            && file.starts_with(|letter: char| letter.is_ascii_alphabetic())
        {
            let table = std::fs::read(entry.path())?;
            if table.starts_with(b"TZif") {
                tables.insert(name, table);
            }
        }
    }
    Ok(())
}

/// How often the version on disk is looked at. What is new is read at the look after: an upgrade is not one step.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// For how long after new rules came something computed by those before may still be on its way to the store.
const ON_ITS_WAY: Duration = Duration::from_secs(20);

/// Takes new rules as they appear, until `stop`: an upgraded package, another image's folder. What cannot be read stays as
/// it is; the next look tries again.
pub async fn follow(source: Source, clock: Arc<dyn Clock>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = look(&source, clock.as_ref()) => {}
    }
}

async fn look(source: &Source, clock: &dyn Clock) {
    let mut seen = None;
    loop {
        clock.sleep(LOOK_EVERY).await;
        let before = rules::current();
        let found = version_at(source).filter(|version| *version != before.version());
        if found.is_none() || std::mem::replace(&mut seen, found) != found {
            seen = found;
            continue;
        }
        match open(source) {
            Ok(after) if after.version() == before.version() => {}
            Ok(after) => {
                let (from, to) = (before.version(), after.version());
                tracing::info!(%from, %to, origin = after.origin(), "the rules of time zones changed");
                rules::set_current(Arc::new(after));
                clock.sleep(ON_ITS_WAY).await;
                rules::settle();
            }
            Err(error) => tracing::warn!(error = %error, "new rules of time zones cannot be read, those before stay"),
        }
    }
}
