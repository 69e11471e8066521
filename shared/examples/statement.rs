//! Prints a statement of the PostgreSQL store whole, as psql takes it:
//!
//! ```sh
//! cargo run -q -p reveille-shared --example statement              # their names
//! cargo run -q -p reveille-shared --example statement -- RUN_CLAIM | psql …
//! ```
//!
//! It is prepared under its name in small letters, with the planner's settings of the store; what follows is yours:
//! `EXPLAIN (ANALYZE, BUFFERS) EXECUTE run_claim (null, 10, 'me', 30000, ARRAY['default']);`, in a transaction that is
//! rolled back.

use std::io::Write;
use std::process::ExitCode;

use reveille_shared::store::postgres::{PLANNER, sql};

const STATEMENTS: &[(&str, &str)] = &[
    ("RUN_CLAIM", sql::RUN_CLAIM),
    ("RUN_SETTLE", sql::RUN_SETTLE),
    ("RUN_SETTLE_FREE", sql::RUN_SETTLE_FREE),
    ("RUN_SETTLED", sql::RUN_SETTLED),
    ("RUN_RENEW", sql::RUN_RENEW),
    ("SCHEDULE_UPSERT", sql::SCHEDULE_UPSERT),
    ("SCHEDULE_UPSERT_ONE", sql::SCHEDULE_UPSERT_ONE),
    ("SCHEDULE_UPDATE", sql::SCHEDULE_UPDATE),
    ("SCHEDULE_PAUSE", sql::SCHEDULE_PAUSE),
    ("SCHEDULE_RESUME", sql::SCHEDULE_RESUME),
    ("SCHEDULE_TRIGGER", sql::SCHEDULE_TRIGGER),
    ("WAKE_READ", sql::WAKE_READ),
    ("WAKE_FORECAST", sql::WAKE_FORECAST),
    ("PRUNE", sql::PRUNE),
];

fn main() -> std::io::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let Some(asked) = std::env::args().nth(1) else {
        STATEMENTS.iter().try_for_each(|(name, _)| writeln!(out, "{name}"))?;
        return Ok(ExitCode::SUCCESS);
    };
    let Some((name, text)) = STATEMENTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&asked)) else {
        writeln!(std::io::stderr(), "there is no statement {asked}; without an argument their names are printed")?;
        return Ok(ExitCode::FAILURE);
    };
    for (setting, value) in PLANNER {
        writeln!(out, "SET {setting} = {value};")?;
    }
    writeln!(out, "PREPARE {} AS\n{text};", name.to_lowercase())?;
    Ok(ExitCode::SUCCESS)
}
