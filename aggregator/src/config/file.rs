//! The configuration file. Its Prometheus sections mean what they mean in prometheus.yml; sections that this version
//! does not support are refused by name and line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_saphyr::Spanned;

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not YAML, or has an unknown field or an invalid value.
    #[error("{}:{line}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 if the parser does not know it.
        line: u64,
        /// What is wrong.
        message: String,
    },
    /// The file has a section that this version does not support.
    #[error("{}:{line}: section {section:?} is not supported", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The section.
        section: &'static str,
    },
}

/// A duration in Prometheus' format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        common::duration::parse(&text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&common::duration::Display(self.0))
    }
}

/// `global`: defaults of the other sections.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Global {
    /// Time between scrapes.
    pub scrape_interval: Span,
    /// Longest time of a scrape.
    pub scrape_timeout: Span,
    /// Scrape protocols in order of preference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape_protocols: Option<Vec<String>>,
    /// Time between evaluations of a rule group.
    pub evaluation_interval: Span,
    /// How far in the past rules are evaluated by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_query_offset: Option<Span>,
    /// Labels added to alerts and other data sent to other systems.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub external_labels: BTreeMap<String, String>,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            scrape_interval: Span(Duration::from_secs(60)),
            scrape_timeout: Span(Duration::from_secs(10)),
            scrape_protocols: None,
            evaluation_interval: Span(Duration::from_secs(60)),
            rule_query_offset: None,
            external_labels: BTreeMap::new(),
        }
    }
}

/// `storage`: retention and durability.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// The time-series database.
    pub tsdb: Tsdb,
    /// Exemplars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exemplars: Option<Exemplars>,
    /// When samples are synced to disk.
    pub wal_sync: WalSync,
    /// With `wal_sync: interval`: how many seconds of samples a power loss may cost (1s; 1ms to 1m).
    pub wal_sync_interval: Span,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            tsdb: Tsdb::default(),
            exemplars: None,
            wal_sync: WalSync::default(),
            wal_sync_interval: Span(Duration::from_secs(1)),
        }
    }
}

/// `storage.wal_sync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WalSync {
    /// Before they are acknowledged: no acknowledged sample is lost.
    #[default]
    Commit,
    /// Within `wal_sync_interval`: a kill loses nothing, a power loss the samples acknowledged in that time.
    Interval,
}

/// `storage.tsdb`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tsdb {
    /// Accepted for compatibility: samples within the retention are stored in any order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_order_time_window: Option<Span>,
    /// Retention; the flags take precedence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// `storage.tsdb.retention`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// How long samples are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Span>,
    /// Bytes on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}

/// `storage.exemplars`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exemplars {
    /// Most exemplars that are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_exemplars: Option<u64>,
}

/// `limits`: bounds on requests and agents that no flag sets.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most queries that wait, besides those that run (64).
    pub query_queue_max: u32,
    /// Most series one query may touch (1,000,000).
    pub query_series_max: u64,
    /// Most bytes of a form body (10 MiB, as in Go's server).
    pub form_bytes_max: usize,
    /// Most samples one remote read may return (Prometheus: `--storage.remote.read-sample-limit`, 50,000,000).
    pub remote_read_samples_max: u64,
    /// Most series of one agent (100,000); further ones are refused and counted, and `/api/v1/status/tsdb` names the agent.
    pub series_per_agent_max: u32,
    /// Most series per minute from one agent that the store does not know (10,000), once the agent has sent as many as it may
    /// have; further ones are refused and counted, and stored in later minutes.
    pub new_series_per_agent_per_minute: u32,
    /// Most remote-write requests processed at a time (32); others wait with their bodies unread.
    pub write_concurrency_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            query_queue_max: 64,
            query_series_max: 1_000_000,
            form_bytes_max: 10 << 20,
            remote_read_samples_max: 50_000_000,
            series_per_agent_max: 100_000,
            new_series_per_agent_per_minute: 10_000,
            write_concurrency_max: 32,
        }
    }
}

/// `tls`: the identity of this aggregator in the certificates that it signs. Fixed once agents have joined, because a
/// certificate names the trust domain and the data centre.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// First part of every identity (`tidemark.local`).
    pub trust_domain: String,
    /// The data centre whose nodes join here (`default`): the label `idc` of their series.
    pub idc: String,
    /// The name of this aggregator within it (`aggregator`).
    pub name: String,
    /// An authority that several aggregators share. Without it, each creates its own in `DATA/pki`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<AuthorityFiles>,
}

/// Files of a certificate authority. The key must match the certificate, which must be allowed to sign.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityFiles {
    /// The certificate, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM (PKCS #8).
    pub key_file: PathBuf,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            trust_domain: "tidemark.local".to_owned(),
            idc: "default".to_owned(),
            name: "aggregator".to_owned(),
            authority: None,
        }
    }
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

type Section = Option<Spanned<serde_json::Value>>;

/// A whole configuration file.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigFile {
    /// Defaults.
    pub global: Global,
    /// Storage.
    pub storage: Storage,
    /// Limits.
    pub limits: Limits,
    /// The identity of this aggregator.
    pub tls: Tls,
    #[serde(skip_serializing)]
    runtime: Section,
    /// Patterns of rule files, relative to the file's folder.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub rule_files: Vec<String>,
    #[serde(skip_serializing)]
    scrape_config_files: Section,
    #[serde(skip_serializing)]
    scrape_configs: Section,
    // Read by `alerting::plan`, which reports the position of each mistake.
    #[serde(skip_serializing, rename = "alerting")]
    _alerting: Section,
    #[serde(skip_serializing, rename = "alertmanager")]
    _alertmanager: Section,
    #[serde(skip_serializing)]
    remote_write: Section,
    #[serde(skip_serializing)]
    remote_read: Section,
    #[serde(skip_serializing)]
    tracing: Section,
    #[serde(skip_serializing)]
    otlp: Section,
    #[serde(skip_serializing)]
    agents: Section,
    #[serde(skip_serializing)]
    federation: Section,
    #[serde(skip_serializing)]
    auth: Section,
    #[serde(skip_serializing)]
    heapster: Section,
}

impl ConfigFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a file; `path` is for messages.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Option<Self> = common::yaml::from_str(text).map_err(|error| {
            let bare = error.without_snippet();
            ConfigError::Parse {
                path: path.to_owned(),
                line: bare.location().map_or(0, |location| location.line()),
                message: first_line(&bare.to_string()),
            }
        })?;
        let config = config.unwrap_or_default();
        config.refuse_unsupported(path)?;
        Ok(config)
    }

    fn refuse_unsupported(&self, path: &Path) -> Result<(), ConfigError> {
        let sections = [
            ("scrape_config_files", &self.scrape_config_files),
            ("scrape_configs", &self.scrape_configs),
            ("remote_write", &self.remote_write),
            ("remote_read", &self.remote_read),
            ("tracing", &self.tracing),
            ("otlp", &self.otlp),
            ("agents", &self.agents),
            ("federation", &self.federation),
            ("auth", &self.auth),
            ("heapster", &self.heapster),
        ];
        for (section, value) in sections {
            match value {
                Some(spanned) if !is_empty(&spanned.value) => {
                    return Err(ConfigError::Unsupported {
                        path: path.to_owned(),
                        line: spanned.referenced.line(),
                        section,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the settings of the file that have no effect here, for the log.
    #[must_use]
    pub fn without_effect(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        if self.runtime.is_some() {
            names.push("runtime (this server has no garbage collector)");
        }
        names
    }

    /// Returns the configuration as YAML with all defaults.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).unwrap_or_else(|error| format!("# {error}\n"))
    }
}

fn is_empty(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Array(list) => list.is_empty(),
        serde_json::Value::Object(map) => map.values().all(is_empty),
        _ => false,
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(yaml: &str, want: Result<(), &str>) {
        let got = ConfigFile::parse(yaml, Path::new("c.yml"))
            .map(|_| ())
            .map_err(|e| e.to_string());
        match (got, want) {
            (Ok(()), Ok(())) => {}
            (Err(got), Err(want)) => assert!(got.contains(want), "{got:?} lacks {want:?}"),
            (got, want) => panic!("{yaml:?}: got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn good_files_load() {
        check("", Ok(()));
        check("# only a comment\n", Ok(()));
        check(
            "global:\n  scrape_interval: 15s\n  external_labels: {dc: a}\n",
            Ok(()),
        );
        check(
            "scrape_configs: []\nrule_files:\nalerting:\n  alertmanagers: []\n",
            Ok(()),
        );
        check(
            "storage:\n  tsdb:\n    out_of_order_time_window: 30m\n    retention: {time: 3d, size: 1GB}\n",
            Ok(()),
        );
    }

    #[test]
    fn comments_are_ignored_wherever_yaml_allows_them() {
        let many = "# one of many\n".repeat(300);
        let text = format!(
            "# first\n{many}---\nglobal: # after a key\n{many}  scrape_interval: 15s # after a value\n\
             {many}  external_labels: # after a key\n  # before a nested key\n    dc: a\n\
             rule_files: # after a key\n{many}  # before an item\n  - a.yml # after an item\n# last\n"
        );
        check(&text, Ok(()));
    }

    #[test]
    fn refusals_name_line_and_reason() {
        check("global:\n  no_such: 1\n", Err("c.yml:2: "));
        check("global:\n  scrape_interval: 15\n", Err("c.yml:2: "));
        check("global: [\n", Err("c.yml:"));
        check(
            "global: {}\n\ntracing:\n  endpoint: x\n",
            Err("section \"tracing\" is not supported"),
        );
        check("a: 1\n", Err("unknown field"));
    }

    #[test]
    fn yaml_of_a_configuration_loads_again() {
        let yaml =
            "global:\n  external_labels: {dc: a}\nstorage: {tsdb: {retention: {time: 3d}}}\n";
        let config = ConfigFile::parse(yaml, Path::new("c.yml")).unwrap();
        let again = ConfigFile::parse(&config.to_yaml(), Path::new("d.yml")).unwrap();
        assert_eq!(config.to_yaml(), again.to_yaml());
        assert_eq!(
            again.global.external_labels.get("dc").map(String::as_str),
            Some("a")
        );
    }
}
