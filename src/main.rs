//! The binary: one executable, the role by argument. Reads the configuration, installs what belongs to
//! the process (log, TLS, signals), and hands over to the role.

mod config;
mod data;
mod doctor;
mod door;
mod echo;
mod exposition;
mod http;
mod key;
mod ops;
mod ready;
mod reseal;
mod roles;
mod sealing;
mod signals;
mod telemetry;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{Command, Config};
use crate::roles::Role;

fn main() -> ExitCode {
    let config = match Config::read(std::env::args_os()) {
        Ok(config) => config,
        Err(error) => error.exit(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let outcome = runtime.block_on(run(&config));
        // What still blocks a thread (a broker that does not answer, a name that is being resolved) has had its time.
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    });
    outcome.unwrap_or_else(|error| {
        // Not the log: its format is for machines, and nobody else says why the process ended.
        let _ = writeln!(std::io::stderr(), "reveille: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let log = telemetry::init(&config.settings)?;
    reveille_worker::install_tls();
    let outcome = execute(config).await;
    tokio::task::block_in_place(|| log.flush());
    outcome
}

async fn execute(config: &Config) -> anyhow::Result<ExitCode> {
    let settings = &config.settings;
    match &config.command {
        Command::Serve => roles::run(Role::Serve, settings).await,
        Command::Api => roles::run(Role::Api, settings).await,
        Command::Monitor => roles::run(Role::Monitor, settings).await,
        Command::Worker => roles::run(Role::Worker, settings).await,
        Command::Migrate => roles::migrate(settings).await,
        Command::Reseal => reseal::reseal(settings).await,
        Command::Doctor { json } => doctor::run(settings, *json).await,
        Command::Key { action } => key::run(settings, action).await,
        Command::Echo { status } => echo::run(settings, *status).await,
        Command::Config { markdown } => {
            std::io::stdout().write_all(config::print(config, *markdown).as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
