//! The peers: installed once at fixed versions into a cache folder outside the repository, run as they are run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reveille_testkit::Process;

use super::load::BODY;

const MANIFEST: &str = include_str!("../../peers/package.json");
const SCRIPTS: [(&str, &str); 4] = [
    ("common.mjs", include_str!("../../peers/common.mjs")),
    ("graphile.mjs", include_str!("../../peers/graphile.mjs")),
    ("pgboss.mjs", include_str!("../../peers/pgboss.mjs")),
    ("bullmq.mjs", include_str!("../../peers/bullmq.mjs")),
];
/// Registering 100 000 jobs is part of it.
const READY: Duration = Duration::from_secs(120);

/// The folder they are installed in.
pub(crate) struct Peers {
    dir: PathBuf,
}

/// Which one, and how it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    GraphileTuned,
    Graphile,
    PgBoss,
    BullMqAlways,
    BullMqEverySecond,
    BullMqVolatile,
}

/// What a peer's worker is to do.
pub(crate) struct Job<'a> {
    pub(crate) url: &'a str,
    pub(crate) sink: &'a str,
    pub(crate) jobs: usize,
    pub(crate) due_ms: i64,
    /// Whether this process registers the jobs; further workers only work.
    pub(crate) registers: bool,
}

impl Peers {
    /// Installs what is missing. An error says what this machine lacks.
    pub(crate) fn install(cache: &Path) -> Result<Self> {
        let dir = cache.join("peers");
        fs::create_dir_all(&dir)?;
        let stamp = dir.join("installed.json");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == MANIFEST) {
            return Self { dir }.with_scripts();
        }
        fs::write(dir.join("package.json"), MANIFEST)?;
        // No lock file: it would name the registry of this machine. The versions are fixed in the manifest.
        let output = Command::new("npm")
            .args(["install", "--no-package-lock", "--no-audit", "--no-fund"])
            .current_dir(&dir)
            .stdin(Stdio::null())
            .output()
            .context("npm is not installed")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "npm could not install the peers: {stderr}");
        let peers = Self { dir };
        let node = Command::new(peers.node()).arg("--version").output().context("the peers' node does not start")?;
        ensure!(node.status.success(), "the peers' node does not start");
        fs::write(stamp, MANIFEST)?;
        peers.with_scripts()
    }

    fn with_scripts(self) -> Result<Self> {
        for (name, script) in SCRIPTS {
            fs::write(self.dir.join(name), script)?; // beside their modules, which is where node looks
        }
        Ok(self)
    }

    fn node(&self) -> PathBuf {
        self.dir.join("node_modules/.bin/node")
    }

    /// A worker of `peer`; returns when it waits for its jobs.
    pub(crate) async fn start(&self, peer: Peer, job: &Job<'_>) -> Process {
        let process = Process::builder(self.node())
            .args([self.dir.join(peer.script())])
            .args([format!("url={}", job.url), format!("sink={}", job.sink), format!("jobs={}", job.jobs)])
            .args([format!("due={}", job.due_ms), format!("body={BODY}")])
            .args([format!("tuned={}", peer.is_tuned()), format!("registers={}", job.registers)])
            .start();
        process.wait_output("ready\n", READY).await;
        process
    }
}

impl Peer {
    pub(crate) const ALL: [Self; 6] = [
        Self::GraphileTuned,
        Self::Graphile,
        Self::PgBoss,
        Self::BullMqAlways,
        Self::BullMqEverySecond,
        Self::BullMqVolatile,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GraphileTuned => "graphile-worker 0.17.3, tuned",
            Self::Graphile => "graphile-worker 0.17.3",
            Self::PgBoss => "pg-boss 10.4.2, tuned",
            Self::BullMqAlways => "BullMQ 6.7.0, fsync always",
            Self::BullMqEverySecond => "BullMQ 6.7.0, fsync every second",
            Self::BullMqVolatile => "BullMQ 6.7.0, in memory",
        }
    }

    /// As they come, the others take one job per poll, or hours.
    pub(crate) fn is_tuned(self) -> bool {
        self != Self::Graphile
    }

    /// What its Redis does for durability; `None` for those that keep their jobs in PostgreSQL.
    pub(crate) fn redis_settings(self) -> Option<&'static [&'static str]> {
        match self {
            Self::BullMqAlways => Some(&["--appendonly", "yes", "--appendfsync", "always"]),
            Self::BullMqEverySecond => Some(&["--appendonly", "yes", "--appendfsync", "everysec"]),
            Self::BullMqVolatile => Some(&["--appendonly", "no"]),
            _ => None,
        }
    }

    /// Whether jobs are left in its tables.
    pub(crate) fn open_jobs(self) -> &'static str {
        match self {
            Self::GraphileTuned | Self::Graphile => "SELECT EXISTS (SELECT 1 FROM graphile_worker._private_jobs)",
            _ => "SELECT EXISTS (SELECT 1 FROM pgboss.job WHERE name = 'bench' AND state < 'completed')",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::GraphileTuned | Self::Graphile => "graphile.mjs",
            Self::PgBoss => "pgboss.mjs",
            Self::BullMqAlways | Self::BullMqEverySecond | Self::BullMqVolatile => "bullmq.mjs",
        }
    }
}
