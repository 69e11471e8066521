//! The migrations of both databases, in the binary.
//!
//! By hand and not by `sqlx::migrate!`: for that macro alone the whole of sqlx, with a second SQLite, would be built once
//! more, for the compiler.

use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Version, description and text of each, in order. A test compares them with the folders.
macro_rules! migrations {
    ($folder:literal: $($version:literal $description:literal $file:literal),+ $(,)?) => {
        migrator(&[$(
            ($version, $description, include_str!(concat!("../../../migrations/", $folder, "/", $file))),
        )+])
    };
}

pub(crate) fn postgres() -> Migrator {
    migrations!("postgres":
        1 "core" "0001_core.sql",
        2 "history" "0002_history.sql",
        3 "api keys" "0003_api_keys.sql",
        4 "hot path" "0004_hot_path.sql",
        5 "failures" "0005_failures.sql",
        6 "zone rules" "0006_zone_rules.sql",
    )
}

pub(crate) fn sqlite() -> Migrator {
    migrations!("sqlite":
        1 "core" "0001_core.sql",
        2 "history" "0002_history.sql",
        3 "api keys" "0003_api_keys.sql",
        4 "hot path" "0004_hot_path.sql",
        5 "failures" "0005_failures.sql",
        6 "zone rules" "0006_zone_rules.sql",
    )
}

fn migrator(migrations: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migration = |&(version, description, text): &(i64, &'static str, &'static str)| {
        Migration::new(version, Cow::Borrowed(description), MigrationType::Simple, text.into_sql_str(), false)
    };
    Migrator::with_migrations(migrations.iter().map(migration).collect())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// What a folder holds, as sqlx reads it.
    async fn folder(name: &str) -> Migrator {
        Migrator::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(name)).await.unwrap()
    }

    #[tokio::test]
    async fn every_file_of_the_folders_is_in_the_binary() {
        for (name, ours) in [("postgres", postgres()), ("sqlite", sqlite())] {
            let facts = |migrator: &Migrator| -> Vec<(i64, String, Vec<u8>)> {
                let facts = |migration: &Migration| {
                    (migration.version, migration.description.to_string(), migration.checksum.to_vec())
                };
                migrator.iter().map(facts).collect()
            };
            assert_eq!(facts(&ours), facts(&folder(name).await), "{name}");
        }
    }
}
