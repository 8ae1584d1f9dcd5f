//! The binary `tidemark-agent`.

use std::io::Write as _;
use std::process::ExitCode;

use agent::config::{Config, ConfigError};
use agent::inventory::{Inventory, InventoryFormat};
use agent::{run, sys};
use common::{logging, report};

fn main() -> ExitCode {
    sys::keep_memory_small();
    let config = match Config::from_args(std::env::args_os()) {
        Ok(config) => config,
        Err(ConfigError::Flags(error)) => error.exit(),
        Err(error) => return fail("load configuration", &error),
    };
    if let Some(probe) = config.probe {
        return match probe.ask(config.web_listen_address) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail("probe", &error),
        };
    }
    if let Some(format) = config.inventory {
        return match print_inventory(format) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail("inventory", error.as_ref()),
        };
    }
    if let Err(error) = logging::init(&config.log_level, &config.log_format) {
        return fail("set up logging", &error);
    }
    let plan = match run::Plan::new(config) {
        Ok(plan) => plan,
        Err(error) => return fail("check configuration", error.as_ref()),
    };
    if plan.check_only() {
        tracing::info!("configuration is good");
        return ExitCode::SUCCESS;
    }
    match run::run(plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail("run", error.as_ref()),
    }
}

fn print_inventory(format: InventoryFormat) -> anyhow::Result<()> {
    let text = Inventory::read()?.render(format)?;
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// Prints the error with all causes to standard error, which works even if logging does not.
#[expect(clippy::print_stderr, reason = "logging may be what failed")]
fn fail(doing: &str, error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("tidemark-agent: {doing}: {}", report::chain(error));
    ExitCode::FAILURE
}
