//! The command line. Each flag is also an environment variable: `TIDEMARK_` and the flag's name in capitals, with `_` for
//! dots and dashes. Order of precedence: flags, environment, configuration file, defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser};
use common::flags::with_environment;

use super::{bytes, listen};

/// Stores metrics from agents and remote write, answers PromQL queries, evaluates rules and sends alerts.
#[derive(Debug, Clone, Parser)]
#[command(name = "tidemark-aggregator", version, max_term_width = 110)]
pub struct Flags {
    /// Configuration file (YAML); an existing prometheus.yml works
    #[arg(long = "config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Check configuration and flags, then exit: 0 if valid, 1 if not
    #[arg(long = "check-config", action = ArgAction::SetTrue)]
    pub check_config: bool,
    /// Directory for all data
    #[arg(long = "storage.path", value_name = "DIR", default_value = "./data")]
    pub storage_path: PathBuf,
    /// How long samples are kept; 0 = forever [default: 15d]
    #[arg(long = "storage.retention.time", value_name = "DUR", value_parser = common::duration::parse)]
    pub retention_time: Option<Duration>,
    /// Total size of blocks above which the oldest are removed; 0 = unlimited [default: 0]
    #[arg(long = "storage.retention.size", value_name = "BYTES", value_parser = bytes::parse)]
    pub retention_size: Option<u64>,
    /// Memory budget of the store [default: 60 % of the memory that this process may use]
    #[arg(long = "storage.memory-budget", value_name = "BYTES", value_parser = bytes::parse)]
    pub memory_budget: Option<u64>,
    /// Address of the HTTP API; port 0 = any free port, which is logged
    #[arg(long = "web.listen-address", value_name = "ADDR", default_value = "127.0.0.1:9090", value_parser = listen::parse)]
    pub web_listen_address: SocketAddr,
    /// Address for agents: QUIC over UDP, and TLS over TCP on the same port
    #[arg(long = "quic.listen-address", value_name = "ADDR", default_value = "127.0.0.1:9443", value_parser = listen::parse)]
    pub quic_listen_address: SocketAddr,
    /// URL under which users reach this server; its path becomes the prefix of all paths
    #[arg(long = "web.external-url", value_name = "URL", default_value = "")]
    pub external_url: String,
    /// TLS and authentication of the HTTP API (exporter-toolkit's web.yml)
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config_file: Option<PathBuf>,
    /// Allow POST /-/reload and POST /-/quit
    #[arg(long = "web.enable-lifecycle", action = ArgAction::SetTrue)]
    pub enable_lifecycle: bool,
    /// Allow /api/v1/admin
    #[arg(long = "web.enable-admin-api", action = ArgAction::SetTrue)]
    pub enable_admin_api: bool,
    /// Most simultaneous HTTP connections
    #[arg(long = "web.max-connections", value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub web_max_connections: u32,
    /// Timeout for reading a request's headers, and for clients that stop reading
    #[arg(long = "web.read-timeout", value_name = "DUR", default_value = "1m", value_parser = common::duration::parse)]
    pub web_read_timeout: Duration,
    /// Features to enable, by Prometheus' names
    #[arg(
        long = "enable-feature",
        value_name = "NAME,NAME",
        value_delimiter = ','
    )]
    pub enable_feature: Vec<String>,
    /// How far an instant selector looks back for a sample
    #[arg(long = "query.lookback-delta", value_name = "DUR", default_value = "5m", value_parser = common::duration::parse)]
    pub query_lookback_delta: Duration,
    /// Longest time a query may take
    #[arg(long = "query.timeout", value_name = "DUR", default_value = "2m", value_parser = common::duration::parse)]
    pub query_timeout: Duration,
    /// Most queries evaluated at a time; others wait
    #[arg(long = "query.max-concurrency", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub query_max_concurrency: u32,
    /// Most samples one query may load
    #[arg(
        long = "query.max-samples",
        value_name = "N",
        default_value_t = 50_000_000
    )]
    pub query_max_samples: u64,
    /// Least time before an unchanged alert is sent again
    #[arg(long = "rules.alert.resend-delay", value_name = "DUR", default_value = "1m", value_parser = common::duration::parse)]
    pub rules_alert_resend_delay: Duration,
    /// Kubeconfig for the API server; default: the service account if running in a pod; none = off
    #[arg(long = "kubernetes.kubeconfig", value_name = "FILE")]
    pub kubeconfig: Option<String>,
    /// How often the aggregator stores its own metrics; 0 = never
    #[arg(long = "self.scrape-interval", value_name = "DUR", default_value = "0s", value_parser = common::duration::parse)]
    pub self_scrape_interval: Duration,
    /// How long shutdown may take before the remaining work is abandoned
    #[arg(long = "shutdown.grace-period", value_name = "DUR", default_value = "30s", value_parser = common::duration::parse)]
    pub shutdown_grace_period: Duration,
    /// Development mode: create a join token in DATA/join-token and print it; HTTP on loopback needs no authentication
    #[arg(long = "dev", action = ArgAction::SetTrue)]
    pub dev: bool,
    /// Log level: error, warn, info, debug or trace; or tracing directives
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Log format
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt", value_parser = ["logfmt", "json"])]
    pub log_format: String,
    /// Returns all flags with their values, for `/api/v1/status/flags`.
    #[arg(skip)]
    pub values: Vec<(String, String)>,
}

impl Flags {
    /// Parses command line and environment.
    ///
    /// # Errors
    /// An unknown flag or an invalid value; also if help or version was requested, as clap does.
    pub fn from_args<I, T>(args: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let command = command();
        let matches = command.clone().try_get_matches_from(args)?;
        let mut flags = Self::from_arg_matches(&matches)?;
        flags.values = values(&command, &matches);
        Ok(flags)
    }
}

/// Returns the command line, with an environment variable for each flag.
fn command() -> Command {
    with_environment(Flags::command())
}

fn values(command: &Command, matches: &ArgMatches) -> Vec<(String, String)> {
    let mut values: Vec<_> = command
        .get_arguments()
        .filter_map(|arg| Some((arg.get_long()?.to_owned(), value_of(arg, matches))))
        .filter(|(name, _)| name != "help" && name != "version")
        .collect();
    values.sort();
    values
}

fn value_of(arg: &Arg, matches: &ArgMatches) -> String {
    let id = arg.get_id().as_str();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return matches.get_flag(id).to_string();
    }
    let raw = matches.get_raw(id).into_iter().flatten();
    let texts: Vec<_> = raw.map(|value| value.to_string_lossy()).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_an_environment_variable() {
        for arg in command().get_arguments() {
            let Some(long) = arg.get_long().filter(|l| !matches!(*l, "help" | "version")) else {
                continue;
            };
            let env = arg.get_env().and_then(|env| env.to_str()).unwrap_or("");
            assert_eq!(
                env,
                format!("TIDEMARK_{}", long.replace(['.', '-'], "_").to_uppercase())
            );
        }
    }

    #[test]
    fn flags_take_prometheus_forms() {
        let args = [
            "x",
            "--storage.retention.time=0",
            "--storage.retention.size",
            "1GB",
            "--web.listen-address=:0",
        ];
        let flags = Flags::from_args(args).unwrap();
        assert_eq!(flags.retention_time, Some(Duration::ZERO));
        assert_eq!(flags.retention_size, Some(1 << 30));
        assert_eq!(flags.web_listen_address.to_string(), "0.0.0.0:0");
        let shown = flags
            .values
            .iter()
            .find(|(n, _)| n == "storage.retention.size");
        assert_eq!(shown.unwrap().1, "1GB");
    }

    #[test]
    fn bad_values_name_flag_and_reason() {
        let error = Flags::from_args(["x", "--query.timeout=5"]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("query.timeout") && text.contains("not a valid duration"),
            "{text}"
        );
        assert!(Flags::from_args(["x", "--no-such-flag"]).is_err());
    }
}
