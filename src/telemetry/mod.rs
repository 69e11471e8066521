//! What the process says about itself while it runs: the log, installed once, by the binary, on stderr; and the
//! [`traces`].

mod lines;
mod traces;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

pub(crate) use self::lines::{Lines, dropped};
pub(crate) use self::traces::Traces;
use crate::config::{LogFormat, Settings};

/// What PostgreSQL says about a `CREATE … IF NOT EXISTS` is no news to anybody.
const NOISE: &str = "sqlx::postgres::notice=warn";

/// Installs the log; answers what it is written to. Everything before it is silent.
///
/// # Errors
/// When one was installed already.
pub(crate) fn init(settings: &Settings) -> anyhow::Result<Lines> {
    let lines = Lines::to_stderr()?;
    let filter = EnvFilter::try_new(format!("{NOISE},{}", settings.log_level))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines.clone());
    match settings.log {
        LogFormat::Json => log.json().flatten_event(true).finish().try_init()?,
        LogFormat::Text => log.with_target(false).with_ansi(std::io::stderr().is_terminal()).finish().try_init()?,
    }
    Ok(lines)
}
