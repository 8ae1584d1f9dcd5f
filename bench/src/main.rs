//! `tidemark-bench`: the program behind `scripts/bench/*`.

use anyhow::Result;
use clap::Parser;

/// Measures Tidemark against its peers on this machine.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    /// Ingest, memory, bytes on disk, restart.
    Storage(bench::storage::Options),
    /// CPU time and latency of queries.
    Query(bench::query::Options),
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Storage(options) => bench::storage::run(options),
        Command::Query(options) => bench::query::run(options),
    }
}
