//! The command line, and the sizes that follow from it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Runs the table of performance goals: the product beside its limits and its peers, in the same rounds.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Options {
    /// Counters only, small numbers, no peers: what a test can gate on. Exits with 1 when one is off
    #[arg(long)]
    pub smoke: bool,
    /// Smaller loads and shorter windows: to see that it works, not for figures
    #[arg(long)]
    pub quick: bool,
    /// Lines to measure, separated by commas: `P4,P5`
    #[arg(long, value_delimiter = ',', value_name = "LINES")]
    pub only: Vec<String>,
    /// Rounds of each line
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    pub rounds: usize,
    /// The binary that is judged; without it `reveille` beside this program
    #[arg(long, value_name = "PATH")]
    pub ours: Option<PathBuf>,
    /// The binary of the commit that the goals call today
    #[arg(long, value_name = "PATH")]
    pub base: Option<PathBuf>,
    /// Build that binary in the cache folder, out of this repository's history
    #[arg(long)]
    pub build_base: bool,
    /// Leave the peers out
    #[arg(long)]
    pub no_peers: bool,
    /// Where the machine-readable copy and the picture go
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    pub out: PathBuf,
    /// Also write the figures into `benchmarks.md` in this folder
    #[arg(long, value_name = "DIR")]
    pub docs: Option<PathBuf>,
}

/// Sizes of what is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    only: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) burst: usize,
    pub(crate) large_burst: Option<usize>,
    /// Timers whose lateness is taken.
    pub(crate) timers: usize,
    pub(crate) samples: usize,
    /// Of what is done one at a time with pauses.
    pub(crate) samples_alone: usize,
    /// Schedules of every second.
    pub(crate) sustained: Vec<usize>,
    pub(crate) sustained_window: Duration,
    /// What many future schedules are.
    pub(crate) many: i64,
    pub(crate) idle_schedules: i64,
    /// From the last run to a window in which nothing is to happen.
    pub(crate) settle: Duration,
    pub(crate) idle_window: Duration,
    is_quick: bool,
}

impl Plan {
    pub(crate) fn new(options: &Options) -> Self {
        let quick = options.quick;
        Self {
            only: options.only.iter().map(|id| id.trim().to_uppercase()).collect(),
            rounds: options.rounds.max(1),
            burst: if quick { 2_000 } else { 10_000 },
            large_burst: (!quick).then_some(100_000),
            timers: if quick { 100 } else { 500 },
            samples: if quick { 50 } else { 200 },
            samples_alone: if quick { 20 } else { 100 },
            sustained: if quick { vec![500] } else { vec![3_000, 6_000] },
            sustained_window: Duration::from_secs(if quick { 5 } else { 20 }),
            many: if quick { 50_000 } else { 1_000_000 },
            idle_schedules: if quick { 5_000 } else { 100_000 },
            settle: Duration::from_secs(5),
            idle_window: Duration::from_secs(if quick { 10 } else { 60 }),
            is_quick: quick,
        }
    }

    /// Connections, and how many registrations go over them together.
    pub(crate) fn registrations(&self) -> [(usize, usize); 2] {
        if self.is_quick { [(1, 200), (32, 960)] } else { [(1, 2_000), (32, 9_600)] }
    }

    pub(crate) fn includes(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == id)
    }
}
