//! What the operator asked for: command line, environment and configuration file, in this order of precedence.
//!
//! The file is YAML whose keys are the flags' names, nested at their dots or not, as one likes:
//!
//! ```yaml
//! interval: 10s
//! aggregator.address: [a.example:9443, b.example:9443]
//! spool:
//!   path: /var/lib/tidemark-agent
//! ```

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser};
use common::{bytes, duration, listen};

use crate::collectors::node::Roots;
use crate::collectors::{BuildContext, CollectorOptions};
use crate::inventory::InventoryFormat;
use crate::kube::KubeletData;
use crate::probe::Probe;

mod file;

pub use file::FileError;

/// Reads this machine's cgroups, /proc and kubelet, and streams them to an aggregator.
#[derive(Debug, Clone, Parser)]
#[command(name = "tidemark-agent", version, max_term_width = 110)]
pub struct Config {
    /// Configuration file (YAML); its keys are these flags' names
    #[arg(long = "config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Checks the configuration and the flags, and exits: 0 when good, 1 when not
    #[arg(long = "check-config", action = ArgAction::SetTrue)]
    pub check_config: bool,
    /// Asks the agent that listens on --web.listen-address, and exits: 0 when it is, 1 when not
    #[arg(long = "probe", value_name = "WHAT", value_enum)]
    pub probe: Option<Probe>,
    /// Prints this machine's CPU, memory, operating system, disks and sensors, and exits
    #[arg(
        long = "inventory",
        value_name = "FORMAT",
        value_enum,
        num_args(0..=1),
        require_equals = true,
        default_missing_value = "text"
    )]
    pub inventory: Option<InventoryFormat>,
    /// Aggregator to send to; given several times, the first that answers is used (but see --mirror)
    #[arg(long = "aggregator.address", value_name = "HOST:PORT", action = ArgAction::Append)]
    pub aggregator_addresses: Vec<String>,
    /// Sends everything to two aggregators at the same time: the addresses in odd places (first, third, ...) are tried in order for
    /// one, those in even places for the other
    #[arg(long = "mirror", action = ArgAction::SetTrue)]
    pub mirror: bool,
    /// Ticks that have waited for longer are sent behind newer ones
    #[arg(long = "uplink.newest-first-after", value_name = "DUR", default_value = "2m", value_parser = duration::parse)]
    pub newest_first_after: Duration,
    /// How often QUIC is tried again while everything goes over TCP, because nobody answered QUIC
    #[arg(long = "uplink.quic-probe-interval", value_name = "DUR", default_value = "10m", value_parser = duration::parse)]
    pub quic_probe_interval: Duration,
    /// Name of this node [default: $NODE_NAME, else the host's name]
    #[arg(long = "node.name", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Label `cluster` of every series; empty = none
    #[arg(long = "cluster.name", value_name = "NAME", default_value = "")]
    pub cluster_name: String,
    /// Time between ticks, 1s or longer
    #[arg(long = "interval", value_name = "DUR", default_value = "10s", value_parser = parse_interval)]
    pub interval: Duration,
    /// The host's /proc
    #[arg(long = "path.procfs", value_name = "DIR", default_value = "/proc")]
    pub path_procfs: PathBuf,
    /// The host's /sys
    #[arg(long = "path.sysfs", value_name = "DIR", default_value = "/sys")]
    pub path_sysfs: PathBuf,
    /// The host's cgroup hierarchies
    #[arg(
        long = "path.cgroupfs",
        value_name = "DIR",
        default_value = "/sys/fs/cgroup"
    )]
    pub path_cgroupfs: PathBuf,
    /// The host's root file system
    #[arg(long = "path.rootfs", value_name = "DIR", default_value = "/")]
    pub path_rootfs: PathBuf,
    /// URL of this node's kubelet (https://HOST_IP:10250); empty = no kubelet
    #[arg(long = "kubelet.url", value_name = "URL", default_value = "")]
    pub kubelet_url: String,
    /// Bearer token for the kubelet, read again as it changes
    #[arg(
        long = "kubelet.token-file",
        value_name = "FILE",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )]
    pub kubelet_token_file: PathBuf,
    /// Roots that the kubelet's certificate may be signed by
    #[arg(long = "kubelet.ca-file", value_name = "FILE")]
    pub kubelet_ca_file: Option<PathBuf>,
    /// The kubelet's own certificate (/var/lib/kubelet/pki/kubelet.crt), accepted exactly, read again as it changes
    #[arg(long = "kubelet.pinned-cert-file", value_name = "FILE")]
    pub kubelet_pinned_cert_file: Option<PathBuf>,
    /// Accepts any certificate: the token then goes to whoever answers
    #[arg(long = "kubelet.insecure-skip-verify", action = ArgAction::SetTrue)]
    pub kubelet_insecure_skip_verify: bool,
    /// Pod labels that become labels of kube_pod_labels, by name
    #[arg(
        long = "kubelet.pod-labels",
        value_name = "NAME,NAME",
        value_delimiter = ','
    )]
    pub kubelet_pod_labels: Vec<String>,
    /// Metric families of the kubelet's own /metrics to pass on, by name; empty = none
    #[arg(
        long = "kubelet.metrics",
        value_name = "NAME,NAME",
        value_delimiter = ',',
        default_value = crate::kube::metrics::FAMILIES
    )]
    pub kubelet_metrics: Vec<String>,
    /// Directory in which ticks wait until an aggregator has them on disk
    #[arg(long = "spool.path", value_name = "DIR", default_value = "./spool")]
    pub spool_path: PathBuf,
    /// Bytes of waiting ticks at which the oldest are dropped
    #[arg(long = "spool.size", value_name = "BYTES", default_value = "256MiB", value_parser = bytes::parse)]
    pub spool_size: u64,
    /// Address of /metrics, /-/healthy and /-/ready; port 0 = a free port, named in the log
    #[arg(long = "web.listen-address", value_name = "ADDR", default_value = "127.0.0.1:9101", value_parser = listen::parse)]
    pub web_listen_address: SocketAddr,
    /// Token with which a first certificate is asked for; given twice, the second is for the mirror
    #[arg(long = "join.token-file", value_name = "FILE", action = ArgAction::Append)]
    pub join_token_files: Vec<PathBuf>,
    /// Roots to trust aggregators by, instead of the one that the token names
    #[arg(long = "tls.ca-file", value_name = "FILE")]
    pub tls_ca_file: Option<PathBuf>,
    /// A certificate made elsewhere; read again as it changes
    #[arg(long = "tls.cert-file", value_name = "FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// The key of --tls.cert-file
    #[arg(long = "tls.key-file", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// How long shutdown may take to send what is still waiting
    #[arg(long = "shutdown.grace-period", value_name = "DUR", default_value = "10s", value_parser = duration::parse)]
    pub shutdown_grace_period: Duration,
    /// Least severity that is logged: error, warn, info, debug or trace; or tracing directives
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Form of log lines
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt", value_parser = ["logfmt", "json"])]
    pub log_format: String,
    /// Flags of the collectors.
    #[command(flatten)]
    pub collectors: CollectorOptions,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line, the environment or a value from the file; also help and version, as clap has it.
    #[error(transparent)]
    Flags(#[from] clap::Error),
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Config {
    /// Reads command line, environment and file.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_args<I, T>(args: I) -> Result<Self, ConfigError>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString>,
    {
        let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let command = command();
        let matches = command.clone().try_get_matches_from(&args)?;
        let file = matches.get_one::<PathBuf>("config_file");
        if let Some(file) = file {
            let unset = |flag: &str| is_unset(&command, &matches, flag);
            args.extend(
                file::arguments(file, unset)?
                    .into_iter()
                    .map(OsString::from),
            );
        }
        let matches = command.try_get_matches_from(args)?;
        Ok(Self::from_arg_matches(&matches)?)
    }

    /// What the collectors are built from, given the answers of the kubelet where one is configured.
    #[must_use]
    pub fn build_context<'a>(&'a self, kubelet: Option<&'a KubeletData>) -> BuildContext<'a> {
        BuildContext {
            options: &self.collectors,
            roots: Roots {
                proc: self.path_procfs.clone(),
                sys: self.path_sysfs.clone(),
                cgroup: self.path_cgroupfs.clone(),
                root: self.path_rootfs.clone(),
            },
            node_name: self.node_name.as_deref().unwrap_or_default(),
            kubelet,
            pod_labels: &self.kubelet_pod_labels,
        }
    }
}

/// Whether a flag may be set from the file; `None` when there is no such flag.
fn is_unset(command: &Command, matches: &ArgMatches, flag: &str) -> Option<bool> {
    let arg = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(flag))?;
    let source = matches.value_source(arg.get_id().as_str());
    Some(matches!(source, None | Some(ValueSource::DefaultValue)))
}

/// The command line: the fields of [`Config`], two switches for each collector, an environment variable for each.
fn command() -> Command {
    Config::command().mut_args(|arg| {
        let Some(long) = arg.get_long().map(str::to_owned) else {
            return arg;
        };
        if matches!(long.as_str(), "help" | "version") {
            return arg;
        }
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        let arg = arg.env(env_name(&long)).hide_env_values(true);
        if is_switch {
            arg.value_parser(BoolishValueParser::new())
        } else {
            arg
        }
    })
}

/// The environment variable of a flag.
fn env_name(flag: &str) -> &'static str {
    keep(format!(
        "TIDEMARK_{}",
        flag.replace(['.', '-'], "_").to_ascii_uppercase()
    ))
}

/// clap keeps names for the length of the process; there is one command line.
fn keep(name: String) -> &'static str {
    Box::leak(name.into_boxed_str())
}

/// A duration of a second or longer: shorter ticks would cost more than they tell.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = duration::parse(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_secs(1) || interval > Duration::from_secs(600) {
        return Err("must be between 1s and 10m".to_owned());
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, ConfigError> {
        Config::from_args([&["tidemark-agent"], args].concat())
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        for arg in command().get_arguments() {
            let long = arg.get_long().unwrap();
            if !matches!(long, "help" | "version") {
                let want = format!("TIDEMARK_{}", long.replace(['.', '-'], "_").to_uppercase());
                assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(&*want));
            }
        }
    }

    #[test]
    fn collectors_are_switched_as_in_node_exporter() {
        let config = parse(&[
            "--no-collector.cpu",
            "--collector.stat=false",
            "--collector.meminfo",
        ])
        .unwrap();
        let on = |name: &str| config.collectors.is_on(name);
        assert_eq!(
            [on("cpu"), on("stat"), on("meminfo"), on("vmstat")],
            [false, false, true, true]
        );
        assert!(parse(&["--no-collector.nonsense"]).is_err());
    }

    #[test]
    fn file_gives_what_flags_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.yml");
        let text = "interval: 5s\nspool:\n  path: /s\n  size: 1MiB\naggregator.address: [a:1, b:2]\nno-collector.cpu: true\ncheck-config: true\n";
        std::fs::write(&path, text).unwrap();
        let file = format!("--config.file={}", path.display());
        let config = parse(&[&file, "--spool.path=/t"]).unwrap();
        assert_eq!(
            (config.interval, config.spool_size),
            (Duration::from_secs(5), 1 << 20)
        );
        assert_eq!(config.spool_path, PathBuf::from("/t"));
        assert_eq!(config.aggregator_addresses, ["a:1", "b:2"]);
        assert!(!config.collectors.is_on("cpu") && config.check_config);
    }

    #[test]
    fn bad_input_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.yml");
        let file = format!("--config.file={}", path.display());
        let check = |text: &str, want: &str| {
            std::fs::write(&path, text).unwrap();
            let error = parse(&[&file]).unwrap_err().to_string();
            assert!(error.contains(want), "{text:?} gave {error}");
        };
        check("interval: 5\n", "interval");
        check(
            "spool:\n  nonsense: 1\n",
            "agent.yml:2: no setting \"spool.nonsense\"",
        );
        check("interval: [1s, 2s]\n", "interval");
        check("- a\n", "agent.yml");
        check("a: [\n", "agent.yml");
        let error = parse(&["--interval=10ms"]).unwrap_err().to_string();
        assert!(error.contains("between 1s and 10m"), "{error}");
        assert!(
            parse(&["--config.file=/nonexistent"])
                .unwrap_err()
                .to_string()
                .contains("/nonexistent")
        );
    }
}
