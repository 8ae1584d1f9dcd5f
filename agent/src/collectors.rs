//! Everything the agent reads: the node, its cgroups, the kubelet.
//!
//! [`COLLECTORS`] has one row per collector. Flags, help, the order of running, and docs/series.md all derive from it.

use std::io;

use crate::collect::Collectors;
use crate::kube::KubeletData;

pub mod cgroup;
pub mod kubelet;
pub mod kubelet_metrics;
pub mod machine;
pub mod node;
mod options;
pub mod own;
mod registry;
pub mod series_cache;
#[cfg(test)]
pub(crate) mod testing;
pub mod up;

use self::node::Roots;
pub use self::options::{CollectorOptions, Switches};
pub use self::registry::{COLLECTORS, CollectorSpec, KUBELET_METRICS};

/// What the build functions of [`COLLECTORS`] work from.
#[derive(Debug)]
pub struct BuildContext<'a> {
    /// Flags of the collectors.
    pub options: &'a CollectorOptions,
    /// The host's file trees.
    pub roots: Roots,
    /// Name of this node; empty if unknown.
    pub node_name: &'a str,
    /// Answers of the node's kubelet; `None` without `--kubelet.url`.
    pub kubelet: Option<&'a KubeletData>,
    /// Pod labels that become labels of `kube_pod_labels`.
    pub pod_labels: &'a [String],
}

/// Why collectors could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A flag's regular expression is not valid.
    #[error("--{flag}")]
    Regex {
        /// The flag.
        flag: &'static str,
        /// What the parser reported.
        source: regex::Error,
    },
    /// No cgroup hierarchy.
    #[error("--path.cgroupfs")]
    Cgroup(#[source] io::Error),
}

/// Builds every collector that is switched on and that this configuration has a source for.
///
/// # Errors
/// See [`BuildError`].
pub fn build(context: &BuildContext<'_>) -> Result<Collectors, BuildError> {
    let mut collectors = Collectors::default();
    for spec in COLLECTORS {
        if !context.options.is_on(spec.name) {
            continue;
        }
        if let Some(collector) = spec.build(context, collectors.errors_mut())? {
            collectors.add(spec.name, spec.tier, collector);
        }
    }
    Ok(collectors)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use common::report;

    use super::*;
    use crate::config::Config;
    use crate::read_errors::ReadErrors;

    fn config(args: &[&str]) -> Config {
        Config::from_args([&["tidemark-agent", "--node.name=n"], args].concat())
            .map_err(|error| report::chain(&error))
            .unwrap()
    }

    #[test]
    fn every_row_builds_and_names_are_unique() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.controllers"), "cpu\n").unwrap();
        let cgroups = format!("--path.cgroupfs={}", dir.path().display());
        let config = config(&["--collector.textfile.directory=/nonexistent", &cgroups]);
        let data = KubeletData::default();
        let context = config.build_context(Some(&data));
        let mut names = HashSet::new();
        for spec in COLLECTORS {
            assert!(names.insert(spec.name), "{} is listed twice", spec.name);
            let built = spec.build(&context, &mut ReadErrors::default()).unwrap();
            assert!(built.is_some(), "{}", spec.name);
            assert!(spec.is_on_by_default && !spec.help.is_empty() && !spec.source.is_empty());
        }
    }

    #[test]
    fn every_row_has_a_flag_that_switches_it_on_and_off() {
        for spec in COLLECTORS {
            let is_on = |flag: String| config(&[&flag]).collectors.is_on(spec.name);
            assert!(is_on(format!("--collector.{}", spec.name)));
            assert!(!is_on(format!("--collector.{}=false", spec.name)));
            assert!(!is_on(format!("--no-collector.{}", spec.name)));
        }
    }

    #[test]
    fn collector_that_is_off_is_not_built() {
        let flags: Vec<String> = COLLECTORS
            .iter()
            .filter(|spec| !["cpu", "stat"].contains(&spec.name))
            .map(|spec| format!("--no-collector.{}", spec.name))
            .collect();
        let flags: Vec<&str> = flags.iter().map(|flag| &**flag).collect();
        let built = build(&config(&flags).build_context(None)).unwrap();
        assert_eq!(format!("{built:?}"), r#"["cpu", "stat"]"#);
    }

    #[test]
    fn bad_regular_expression_names_its_flag() {
        let config = config(&["--collector.netdev.device-exclude=("]);
        let error = build(&config.build_context(None)).unwrap_err();
        let text = report::chain(&error);
        assert!(
            text.starts_with("--collector.netdev.device-exclude: "),
            "{text}"
        );
    }
}
