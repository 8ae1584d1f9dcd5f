//! The binary `tidemark-aggregator`.

use std::process::ExitCode;

use aggregator::config::{ConfigFile, Flags};
use aggregator::{allocator, logging, report, run};

fn main() -> ExitCode {
    allocator::bound_arenas();
    let flags = match Flags::from_args(std::env::args_os()) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    if let Err(error) = logging::init(&flags.log_level, &flags.log_format) {
        return fail("set up logging", &error);
    }
    let file = match flags.config_file.as_deref().map(ConfigFile::load) {
        None => ConfigFile::default(),
        Some(Ok(file)) => file,
        Some(Err(error)) => return fail("load configuration", &error),
    };
    let plan = match run::Plan::new(flags, file) {
        Ok(plan) => plan,
        Err(error) => return fail("check configuration", error.as_ref()),
    };
    if plan.check_only() {
        tracing::info!("configuration is valid");
        return ExitCode::SUCCESS;
    }
    match run::run(plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail("run", error.as_ref()),
    }
}

/// Prints the error with all causes to standard error, which works even if logging does not.
#[expect(clippy::print_stderr, reason = "logging may be what failed")]
fn fail(doing: &str, error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("tidemark-aggregator: {doing}: {}", report::chain(error));
    ExitCode::FAILURE
}
