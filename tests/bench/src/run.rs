//! One run of the benchmark: what takes part is found first, then the table is measured and written.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::measure;
use crate::options::{Options, Plan};
use crate::report::Report;
use crate::rig::deployment::Subject;
use crate::rig::peers::Peers;
use crate::rig::postgres::Server;
use crate::rig::{Rig, base};

/// Measures what the options ask for and writes the table to stdout.
pub async fn run(options: &Options) -> Result<ExitCode> {
    let ours = ours(options)?;
    if options.smoke {
        let counters = crate::smoke(&ours).await?;
        write!(std::io::stdout(), "{counters}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let plan = Plan::new(options);
    let mut rig = Rig::start(Server::durable().await?, ours).await?;
    add_base(&mut rig, options)?;
    add_peers(&mut rig, options);
    rig.left_out.iter().for_each(|what| crate::say(&format!("left out: {what}")));

    let mut report = Report::default();
    add_facts(&mut report, &rig, options);
    measure::table(&rig, &plan, &mut report, |report| report.write(&options.out)).await?;
    write!(std::io::stdout(), "{}", report.text())?;
    if let Some(docs) = &options.docs {
        report.write_docs(docs)?;
    }
    let is_sound = report.lost == 0 && report.early == 0;
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The binary that is judged.
fn ours(options: &Options) -> Result<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("reveille"));
    let ours = options.ours.clone().or_else(beside).context("where this program lies")?;
    ensure!(ours.is_file(), "there is no {}: build it (cargo build --release) or name it by --ours", ours.display());
    Ok(ours)
}

fn add_base(rig: &mut Rig, options: &Options) -> Result<()> {
    let cached = cache().as_deref().and_then(base::cached);
    let binary = match (&options.base, cached) {
        (Some(given), _) => Some(given.clone()),
        (None, Some(cached)) => Some(cached),
        (None, None) if options.build_base => Some(base::build(&cache().context("a cache folder")?)?),
        (None, None) => None,
    };
    match binary {
        Some(binary) => rig.base = Some(Subject { name: "base", binary }),
        None => {
            let commit = base::COMMIT;
            rig.left_out.push(format!("the base, commit {commit}: --build-base builds it, --base names its binary"));
        }
    }
    Ok(())
}

fn add_peers(rig: &mut Rig, options: &Options) {
    if options.no_peers {
        rig.left_out.push("the peers: --no-peers".to_owned());
        return;
    }
    match cache().context("a cache folder").and_then(|cache| Peers::install(&cache)) {
        Ok(peers) => rig.peers = Some(peers),
        Err(error) => rig.left_out.push(format!("the peers: {error:#}")),
    }
}

fn add_facts(report: &mut Report, rig: &Rig, options: &Options) {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    report.fact("machine", format!("{cores} cores, Linux {}", kernel()));
    report.fact("PostgreSQL", format!("{}, fsync, synchronous_commit and full_page_writes on", rig.server.version));
    report.fact("commit of the benchmark", commit().unwrap_or_else(|| "unknown".to_owned()));
    report.fact(
        "rounds",
        format!("{}{}", options.rounds, if options.quick { ", quick: no figures to quote" } else { "" }),
    );
    if !rig.left_out.is_empty() {
        report.fact("left out", rig.left_out.join("; "));
    }
}

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `$XDG_CACHE_HOME/reveille-bench`, or where that is by default.
fn cache() -> Option<PathBuf> {
    let given = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = given.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("reveille-bench"))
}
