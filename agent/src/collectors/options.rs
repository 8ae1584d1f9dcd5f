//! The collectors' flags: two switches per row of the registry, and the options of single collectors.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::node::{filesystem, netdev};
use super::registry::COLLECTORS;

/// The collectors' part of the command line.
#[derive(Debug, Clone, Args)]
pub struct CollectorOptions {
    /// Directory whose *.prom files are exported
    #[arg(long = "collector.textfile.directory", value_name = "DIR")]
    pub textfile_directory: Option<PathBuf>,
    /// File systems to exclude, by mountpoint
    #[arg(long = "collector.filesystem.mount-points-exclude", value_name = "REGEX",
        default_value = filesystem::MOUNTPOINTS_EXCLUDE)]
    pub filesystem_mountpoints_exclude: String,
    /// File systems to exclude, by type
    #[arg(long = "collector.filesystem.fs-types-exclude", value_name = "REGEX",
        default_value = filesystem::TYPES_EXCLUDE)]
    pub filesystem_types_exclude: String,
    /// Network interfaces to exclude
    #[arg(long = "collector.netdev.device-exclude", value_name = "REGEX",
        default_value = netdev::DEVICES_EXCLUDE)]
    pub netdev_exclude: String,
    /// Which collectors run.
    #[command(flatten)]
    pub switches: Switches,
}

impl CollectorOptions {
    /// Whether the collector `name` runs.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.switches.on.contains(&name)
    }
}

/// The collectors that run, after `--collector.NAME` and `--no-collector.NAME`.
#[derive(Debug, Clone)]
pub struct Switches {
    on: Vec<&'static str>,
}

impl Args for Switches {
    fn augment_args(command: Command) -> Command {
        COLLECTORS.iter().fold(command, |command, spec| {
            let off = switch("no-collector", spec.name, "Switches the collector off");
            command
                .arg(switch("collector", spec.name, spec.help))
                .arg(off.hide(true))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Switches {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let get = |prefix, name| {
            matches
                .get_one::<bool>(&format!("{prefix}.{name}"))
                .copied()
        };
        let on = COLLECTORS.iter().filter(|spec| {
            get("no-collector", spec.name)
                .map(|off| !off)
                .or_else(|| get("collector", spec.name))
                .unwrap_or(spec.is_on_by_default)
        });
        Ok(Self {
            on: on.map(|spec| spec.name).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Accepts `--collector.cpu` and `--collector.cpu=false`, as node_exporter does.
fn switch(prefix: &str, name: &str, help: &'static str) -> Arg {
    // clap keeps names for the life of the process; there is one command line.
    let long: &'static str = Box::leak(format!("{prefix}.{name}").into_boxed_str());
    Arg::new(long)
        .long(long)
        .help(help)
        .value_name("BOOL")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser(BoolishValueParser::new())
}
