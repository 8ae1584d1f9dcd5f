//! The binary `tidemarkctl`: queries an aggregator, and checks files.

mod agents;
mod alerts;
mod args;
mod cert;
mod check;
mod client;
mod lint;
mod output;
mod query;
mod rules;
mod silence;
mod storage;
mod top;

use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Args, Command, Test};
use self::client::Client;
use self::output::{Failure, Output};

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let output = Output::new(args.output);
    let client = || Client::new(&args.connection);
    match args.command {
        Command::Query { command } => query::run(&client()?, &output, command),
        Command::Top { command } => top::run(&client()?, &output, &command),
        Command::Agents => agents::run(&client()?, &output),
        Command::Test {
            command: Test::Rules { files },
        } => rules::test(&files),
        Command::Alerts => alerts::run(&client()?, &output),
        Command::Silence { command } => silence::run(&client()?, &output, &command),
        Command::Check { command } => check::run(client, command),
        Command::Cert { command } => cert::run(&command),
        Command::Storage { command } => storage::run(client, output, command),
    }
}
