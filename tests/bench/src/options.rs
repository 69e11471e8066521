//! The command line, and the sizes that follow from it.

use std::path::PathBuf;

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
}

impl Plan {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            only: options.only.iter().map(|id| id.trim().to_uppercase()).collect(),
            rounds: options.rounds.max(1),
            burst: if options.quick { 2_000 } else { 10_000 },
            large_burst: (!options.quick).then_some(100_000),
        }
    }

    pub(crate) fn includes(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == id)
    }
}
