//! The benchmark's counters, small: that a run costs no more statements and row versions than it does today, and that
//! the benchmark itself still runs. Nothing here depends on time.

use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn the_counters_of_the_benchmark_are_within_their_bounds() {
    let counters = reveille_bench::smoke(Path::new(env!("CARGO_BIN_EXE_reveille"))).await.expect("within bounds");
    println!("{counters}");
}
