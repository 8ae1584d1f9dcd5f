//! Command lines shared by all binaries: every flag has an environment variable.

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Command};

/// Adds the environment variable `TIDEMARK_FLAG_NAME` to every flag except `--help` and `--version`.
///
/// A switch accepts `true`, `yes`, `1` and their opposites there. Values never appear in the help text, since some are secret.
#[must_use]
pub fn with_environment(command: Command) -> Command {
    command.mut_args(|arg| {
        let Some(long) = arg.get_long().map(str::to_owned) else {
            return arg;
        };
        if matches!(long.as_str(), "help" | "version") {
            return arg;
        }
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        let arg = arg.env(variable(&long)).hide_env_values(true);
        if is_switch {
            arg.value_parser(BoolishValueParser::new())
        } else {
            arg
        }
    })
}

/// Returns the environment variable of a flag.
fn variable(flag: &str) -> &'static str {
    let name = flag.replace(['.', '-'], "_").to_ascii_uppercase();
    // clap needs names for the lifetime of the process, which has one command line.
    Box::leak(format!("TIDEMARK_{name}").into_boxed_str())
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn flags_but_not_help_have_a_variable() {
        let command = Command::new("x").arg(Arg::new("a").long("storage.memory-budget"));
        let mut command = with_environment(command);
        command.build();
        let variables: Vec<_> = command
            .get_arguments()
            .map(|arg| arg.get_env().and_then(|name| name.to_str()))
            .collect();
        assert_eq!(variables, [Some("TIDEMARK_STORAGE_MEMORY_BUDGET"), None]);
    }
}
