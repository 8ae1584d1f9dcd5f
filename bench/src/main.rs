//! `tidemark-bench`: the program behind `scripts/bench/*`.

use std::process::ExitCode;

use bench::report::progress;
use clap::Parser;

/// Measures Tidemark against its peers on this machine.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    /// Ingest, memory, bytes on disk, restart.
    Storage(bench::storage::Options),
    /// CPU time and latency of queries.
    Query(bench::query::Options),
    /// CPU time, memory and bytes of the node agent.
    Agent(bench::agent::Options),
    /// Latency and cost of notifications.
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
            // Where standard error is closed, the exit code is all that is left to say.
            progress(&format!("tidemark-bench: {error:#}")).ok();
            ExitCode::FAILURE
        }
    }
}
