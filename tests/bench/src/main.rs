//! `cargo run --release -p reveille-bench`: see `docs/benchmarks.md`.

use std::process::ExitCode;

use clap::Parser;
use reveille_bench::Options;

fn main() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(reveille_bench::run(&Options::parse()))
}
