//! `tidemark-bench`, the program that `scripts/bench/*` runs.

use std::process::ExitCode;

use bench::report::progress;
use clap::Parser;

/// Compares Tidemark with its peers on this machine.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    /// Measures ingest, memory, size on disk, and restart.
    Storage(bench::storage::Options),
    /// Measures CPU time and latency of queries.
    Query(bench::query::Options),
    /// Measures CPU time, memory and bytes of the agent.
    Agent(bench::agent::Options),
    /// Measures latency and cost of notifications.
    Notify(bench::notify::Options),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Storage(options) => bench::storage::run(options),
        Command::Query(options) => bench::query::run(options),
        Command::Agent(options) => bench::agent::run(options),
        Command::Notify(options) => bench::notify::run(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed, only the exit code remains.
            progress(&format!("tidemark-bench: {error:#}")).ok();
            ExitCode::FAILURE
        }
    }
}
