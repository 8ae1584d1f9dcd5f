//! Configuration from the command line, the environment and a file, in this order of precedence.
//!
//! The file is YAML. Its keys are the names of flags, optionally nested at their dots:
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

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser};
use common::{bytes, duration, flags, listen};

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
    /// Configuration file (YAML); its keys are the names of these flags
    #[arg(long = "config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Checks flags and configuration file, and exits with 0 if they are valid, else 1
    #[arg(long = "check-config", action = ArgAction::SetTrue)]
    pub check_config: bool,
    /// Asks the agent that listens on --web.listen-address, and exits with 0 if it is, else 1
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
    /// Aggregator to send to; may be repeated, then the first that answers is used (but see --mirror)
    #[arg(long = "aggregator.address", value_name = "HOST:PORT", action = ArgAction::Append)]
    pub aggregator_addresses: Vec<String>,
    /// Sends everything to two aggregators at once: the first, third, ... address are alternatives for one, the second, fourth, ...
    /// for the other
    #[arg(long = "mirror", action = ArgAction::SetTrue)]
    pub mirror: bool,
    /// Ticks that have waited longer are sent after newer ones
    #[arg(long = "uplink.newest-first-after", value_name = "DUR", default_value = "2m", value_parser = duration::parse)]
    pub newest_first_after: Duration,
    /// How often to try QUIC again while TCP is in use because QUIC got no answer
    #[arg(long = "uplink.quic-probe-interval", value_name = "DUR", default_value = "10m", value_parser = duration::parse)]
    pub quic_probe_interval: Duration,
    /// Name of this node [default: $NODE_NAME, else the host's name]
    #[arg(long = "node.name", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Label `cluster` of every series; empty = none
    #[arg(long = "cluster.name", value_name = "NAME", default_value = "")]
    pub cluster_name: String,
    /// Interval between ticks, at least 1s
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
    /// Bearer token for the kubelet, read again when it changes
    #[arg(
        long = "kubelet.token-file",
        value_name = "FILE",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )]
    pub kubelet_token_file: PathBuf,
    /// CA certificates to verify the kubelet with
    #[arg(long = "kubelet.ca-file", value_name = "FILE")]
    pub kubelet_ca_file: Option<PathBuf>,
    /// The kubelet's own certificate (/var/lib/kubelet/pki/kubelet.crt), accepted as is, read again when it changes
    #[arg(long = "kubelet.pinned-cert-file", value_name = "FILE")]
    pub kubelet_pinned_cert_file: Option<PathBuf>,
    /// Accepts any certificate of the kubelet; any server that answers receives the token
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
    /// Directory that keeps ticks until an aggregator has them on disk
    #[arg(long = "spool.path", value_name = "DIR", default_value = "./spool")]
    pub spool_path: PathBuf,
    /// Size of the spool above which the oldest ticks are dropped
    #[arg(long = "spool.size", value_name = "BYTES", default_value = "256MiB", value_parser = bytes::parse)]
    pub spool_size: u64,
    /// Address of /metrics, /-/healthy and /-/ready; port 0 = any free port, which is logged
    #[arg(long = "web.listen-address", value_name = "ADDR", default_value = "127.0.0.1:9101", value_parser = listen::parse)]
    pub web_listen_address: SocketAddr,
    /// Token that authorizes a first certificate; if repeated, the second is for the mirror
    #[arg(long = "join.token-file", value_name = "FILE", action = ArgAction::Append)]
    pub join_token_files: Vec<PathBuf>,
    /// CA certificates to verify aggregators with, instead of the one that the token names; read again when trust fails
    #[arg(long = "tls.ca-file", value_name = "FILE")]
    pub tls_ca_file: Option<PathBuf>,
    /// Certificate issued elsewhere, read again when it changes
    #[arg(long = "tls.cert-file", value_name = "FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// Private key of --tls.cert-file
    #[arg(long = "tls.key-file", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// Longest time to send waiting ticks at shutdown
    #[arg(long = "shutdown.grace-period", value_name = "DUR", default_value = "10s", value_parser = duration::parse)]
    pub shutdown_grace_period: Duration,
    /// Lowest level that is logged: error, warn, info, debug or trace; or tracing directives
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Format of log lines
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt", value_parser = ["logfmt", "json"])]
    pub log_format: String,
    /// Flags of the collectors.
    #[command(flatten)]
    pub collectors: CollectorOptions,
}

/// Why the configuration was rejected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line, the environment or a value from the file is invalid. clap also reports help and version here.
    #[error(transparent)]
    Flags(#[from] clap::Error),
    /// The configuration file is invalid.
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

/// Returns whether the file may set a flag; `None` when the flag does not exist.
fn is_unset(command: &Command, matches: &ArgMatches, flag: &str) -> Option<bool> {
    let arg = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(flag))?;
    let source = matches.value_source(arg.get_id().as_str());
    Some(matches!(source, None | Some(ValueSource::DefaultValue)))
}

/// Returns the command line, with an environment variable for each flag.
fn command() -> Command {
    flags::with_environment(Config::command())
}

/// Parses the interval. Below a second, ticks would cost more than they are worth.
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
    fn file_sets_what_flags_do_not() {
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
