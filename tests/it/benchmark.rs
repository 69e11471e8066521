//! The benchmark's counters, which no machine's speed changes.

use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_costs_what_it_may() {
    println!("{}", reveille_bench::smoke(Path::new(env!("CARGO_BIN_EXE_reveille"))).await.unwrap());
}
