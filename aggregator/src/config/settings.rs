//! The settings in force, from flags and file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidemark_promql::Features;
use tidemark_storage::WalSync;
use tidemark_storage::exemplars::EXEMPLARS_MAX;

use super::bytes::{self, SizeError};
use super::cgroup;
use super::file::{self, ConfigFile, Storage};
use super::flags::Flags;

/// Default of `--storage.retention.time`.
const RETENTION_DEFAULT: Duration = Duration::from_secs(15 * 24 * 3600);

/// A feature of `--enable-feature`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Experimental functions.
    ExperimentalFunctions,
    /// Arithmetic in duration literals.
    DurationExpressions,
    /// Metric names are dropped at the end of the evaluation.
    DelayedNameRemoval,
    /// `__type__` and `__unit__` labels.
    TypeAndUnitLabels,
    /// Exemplars are stored.
    ExemplarStorage,
    /// Statistics per step of a query.
    PerStepStats,
}

impl Feature {
    /// Parses Prometheus' name of a feature.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "promql-experimental-functions" => Self::ExperimentalFunctions,
            "promql-duration-expr" => Self::DurationExpressions,
            "promql-delayed-name-removal" => Self::DelayedNameRemoval,
            "type-and-unit-labels" => Self::TypeAndUnitLabels,
            "exemplar-storage" => Self::ExemplarStorage,
            "promql-per-step-stats" => Self::PerStepStats,
            _ => return None,
        })
    }
}

/// Why the settings are invalid.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The feature does not exist.
    #[error("--enable-feature: unknown feature {0:?}")]
    Feature(String),
    /// The interval is too short or too long.
    #[error("storage.wal_sync_interval: {0:?} is not between 1ms and 1m")]
    SyncInterval(Duration),
    /// The size in the file is invalid.
    #[error("storage.tsdb.retention.size")]
    Size(#[from] SizeError),
    /// The external URL can't be used in links.
    #[error("--web.external-url: {0:?} is neither a URL (http://host/path) nor a path")]
    ExternalUrl(String),
}

/// The settings in force for the length of the process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory for all data.
    pub storage_path: PathBuf,
    /// Retention; `None` keeps samples forever.
    pub retention: Option<Duration>,
    /// Retention by size; 0 is unlimited.
    pub retention_bytes: u64,
    /// Memory budget of the store.
    pub memory_budget_bytes: u64,
    /// When samples are synced to disk.
    pub wal_sync: WalSync,
    /// Most exemplars that are kept.
    pub exemplars_max: usize,
    /// Listen address of HTTP.
    pub web_listen: SocketAddr,
    /// Listen address for agents.
    pub quic_listen: SocketAddr,
    /// Enabled features.
    pub features: Vec<Feature>,
    /// Prefix of every HTTP path: empty, or `/x` without a trailing slash.
    pub route_prefix: String,
}

impl Settings {
    /// Combines flags, file and defaults, in this order of precedence.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn new(flags: &Flags, file: &ConfigFile) -> Result<Self, SettingsError> {
        let in_file = file.storage.tsdb.retention.clone().unwrap_or_default();
        let retention = flags
            .retention_time
            .or(in_file.time.map(|span| span.0))
            .unwrap_or(RETENTION_DEFAULT);
        let retention_bytes = match (flags.retention_size, in_file.size) {
            (Some(bytes), _) => bytes,
            (None, Some(text)) => bytes::parse(&text)?,
            (None, None) => 0,
        };
        let features = flags
            .enable_feature
            .iter()
            .filter(|name| !name.is_empty())
            .map(|name| {
                Feature::from_name(name).ok_or_else(|| SettingsError::Feature(name.clone()))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            storage_path: flags.storage_path.clone(),
            retention: Some(retention).filter(|time| !time.is_zero()),
            retention_bytes,
            memory_budget_bytes: flags.memory_budget.unwrap_or_else(default_memory_budget),
            wal_sync: wal_sync(&file.storage)?,
            exemplars_max: exemplars_max(&file.storage),
            web_listen: flags.web_listen_address,
            quic_listen: flags.quic_listen_address,
            features,
            route_prefix: route_prefix(&flags.external_url)?,
        })
    }

    /// Returns the enabled features of the query language.
    #[must_use]
    pub fn promql_features(&self) -> Features {
        Features {
            experimental_functions: self.has(Feature::ExperimentalFunctions),
            duration_expressions: self.has(Feature::DurationExpressions),
            delayed_name_removal: self.has(Feature::DelayedNameRemoval),
            type_and_unit_labels: self.has(Feature::TypeAndUnitLabels),
        }
    }

    /// Returns whether a feature is enabled.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }
}

fn route_prefix(external_url: &str) -> Result<String, SettingsError> {
    let path = match external_url.split_once("://") {
        Some(("http" | "https", rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None if external_url.is_empty() || external_url.starts_with('/') => external_url,
        _ => return Err(SettingsError::ExternalUrl(external_url.to_owned())),
    };
    let path = path.trim_matches('/');
    if path.is_empty() {
        return Ok(String::new());
    }
    Ok(format!("/{path}"))
}

fn wal_sync(storage: &Storage) -> Result<WalSync, SettingsError> {
    let interval = storage.wal_sync_interval.0;
    if !(Duration::from_millis(1)..=Duration::from_secs(60)).contains(&interval) {
        return Err(SettingsError::SyncInterval(interval));
    }
    Ok(match storage.wal_sync {
        file::WalSync::Commit => WalSync::EveryCommit,
        file::WalSync::Interval => WalSync::Interval(interval),
    })
}

/// As in Prometheus, 0 keeps none.
fn exemplars_max(storage: &Storage) -> usize {
    let asked = storage.exemplars.as_ref().and_then(|one| one.max_exemplars);
    asked.map_or(EXEMPLARS_MAX, |max| {
        usize::try_from(max).unwrap_or(usize::MAX)
    })
}

/// Returns 60 % of the memory that this process may use: the smallest limit of its cgroup and its ancestors, or the machine's
/// memory.
fn default_memory_budget() -> u64 {
    const FALLBACK_BYTES: u64 = 2 << 30;
    const BUDGET_PERCENT: u64 = 60;
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let membership = read("/proc/self/cgroup").unwrap_or_default();
    let cgroup = cgroup::memory_limit(Path::new("/sys/fs/cgroup"), &membership);
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace()
            .nth(1)?
            .parse::<u64>()
            .ok()?
            .checked_mul(1024)
    });
    cgroup
        .into_iter()
        .chain(machine)
        .min()
        .unwrap_or(FALLBACK_BYTES)
        / 100
        * BUDGET_PERCENT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str], yaml: &str) -> Result<Settings, SettingsError> {
        let flags = Flags::from_args(["x"].iter().chain(args)).unwrap();
        Settings::new(
            &flags,
            &ConfigFile::parse(yaml, Path::new("c.yml")).unwrap(),
        )
    }

    #[test]
    fn flag_wins_over_file_and_file_over_default() {
        let yaml = "storage: {tsdb: {retention: {time: 3d, size: 1KB}}}";
        let hours = |settings: Settings| settings.retention.map(|r| r.as_secs() / 3600);
        assert_eq!(hours(settings(&[], "").unwrap()), Some(15 * 24));
        assert_eq!(hours(settings(&[], yaml).unwrap()), Some(72));
        assert_eq!(
            hours(settings(&["--storage.retention.time=2h"], yaml).unwrap()),
            Some(2)
        );
        assert_eq!(
            hours(settings(&["--storage.retention.time=0"], yaml).unwrap()),
            None
        );
        assert_eq!(settings(&[], yaml).unwrap().retention_bytes, 1024);
    }

    #[test]
    fn log_is_synced_at_every_commit_unless_the_file_says_otherwise() {
        let sync = |yaml| settings(&[], yaml).map(|settings| settings.wal_sync);
        assert_eq!(sync("").unwrap(), WalSync::EveryCommit);
        assert_eq!(
            sync("storage: {wal_sync: interval}").unwrap(),
            WalSync::Interval(Duration::from_secs(1))
        );
        let error = sync("storage: {wal_sync_interval: 5m}").unwrap_err();
        assert!(error.to_string().contains("storage.wal_sync_interval"));
        let exemplars = settings(&[], "storage: {exemplars: {max_exemplars: 7}}");
        assert_eq!(exemplars.unwrap().exemplars_max, 7);
    }

    #[test]
    fn unknown_feature_is_refused_by_name() {
        let error = settings(&["--enable-feature=promql-duration-expr,nope"], "").unwrap_err();
        assert_eq!(
            error.to_string(),
            "--enable-feature: unknown feature \"nope\""
        );
    }

    #[test]
    fn external_url_gives_the_prefix() {
        for (url, want) in [
            ("", ""),
            ("/", ""),
            ("/tm/", "/tm"),
            ("http://h:1", ""),
            ("https://h/a/b/", "/a/b"),
        ] {
            assert_eq!(route_prefix(url).unwrap(), want, "{url}");
        }
        assert!(route_prefix("ftp://x").is_err());
    }
}
