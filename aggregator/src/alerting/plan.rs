//! The configuration of rules and notifications.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::model::Labels;
use common::{glob, yaml};
use tidemark_alerting::notify::config::{Config, ConfigError};
use tidemark_alerting::rules::file::{FileError, RuleFile};
use tidemark_alerting::{external, rules};
use tidemark_promql::Features;

use crate::config::ConfigFile;

/// Everything that a reload replaces at once.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The rule files.
    pub rules: Vec<RuleFile>,
    /// The notifier's configuration, if there is one.
    pub notifier: Option<Arc<Config>>,
    /// External Alertmanagers.
    pub external: external::Alerting,
    /// `global.evaluation_interval`
    pub interval: Duration,
    /// `global.rule_query_offset`
    pub query_offset: Duration,
    /// `global.external_labels`
    pub external_labels: Labels,
}

/// Why rules or notifications are invalid.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The configuration file can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Rule files are invalid.
    #[error("{}", list(.0))]
    Rules(Vec<FileError>),
    /// The sections `alerting` or `alertmanager` are invalid.
    #[error("{}: {issues}", path.display())]
    Sections {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        issues: String,
    },
    /// The file that `alertmanager` names is invalid.
    #[error("{}", path.display())]
    Notifier {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
    },
    /// `global.external_labels` is not a valid label set.
    #[error("global.external_labels")]
    Labels(#[from] common::model::LabelsError),
}

fn list(errors: &[FileError]) -> String {
    let lines: Vec<String> = errors
        .iter()
        .map(|error| crate::report::chain(error))
        .collect();
    lines.join("\n")
}

/// Checks the syntax of an expression with the enabled features.
pub fn syntax(features: Features) -> impl Fn(&str) -> Result<(), String> {
    move |expr| {
        tidemark_promql::parse(expr, features)
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

/// The expression as Prometheus prints it in its API and in links: parsed, on one line.
#[must_use]
pub fn query_text(expr: &str, features: Features) -> String {
    tidemark_promql::parse(expr, features)
        .map_or_else(|_| expr.to_owned(), |parsed| parsed.to_string())
}

impl Plan {
    /// Reads everything that `file`, read from `path`, refers to.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn load(
        file: &ConfigFile,
        path: Option<&Path>,
        features: Features,
    ) -> Result<Self, PlanError> {
        let folder = path
            .and_then(Path::parent)
            .unwrap_or_else(|| Path::new("."));
        let patterns = file.rule_files.iter().map(|pattern| folder.join(pattern));
        let paths: Vec<PathBuf> = patterns
            .flat_map(|pattern| glob::expand(&pattern))
            .collect();
        let rules = rules::file::load(&paths, &syntax(features)).map_err(PlanError::Rules)?;
        let (notifier, external) = match path {
            Some(path) => sections(path, folder)?,
            None => (None, external::Alerting::default()),
        };
        Ok(Self {
            rules,
            notifier: notifier.map(Arc::new),
            external,
            interval: file.global.evaluation_interval.0,
            query_offset: file
                .global
                .rule_query_offset
                .map_or(Duration::ZERO, |span| span.0),
            external_labels: Labels::from_pairs(file.global.external_labels.clone())?,
        })
    }
}

/// Reads the sections `alertmanager` and `alerting`, reporting the position of each mistake.
fn sections(path: &Path, folder: &Path) -> Result<(Option<Config>, external::Alerting), PlanError> {
    let text = std::fs::read_to_string(path).map_err(|source| PlanError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let bad = |issues: String| PlanError::Sections {
        path: path.to_path_buf(),
        issues,
    };
    let Some(document) = yaml::read_tree(&text).map_err(|issue| bad(issue.to_string()))? else {
        return Ok((None, external::Alerting::default()));
    };
    let mut issues = yaml::Issues::new();
    let mut fields = yaml::Fields::new(&document, "config", &mut issues);
    let external = fields
        .take("alerting")
        .map_or_else(external::Alerting::default, |node| {
            external::read(node, folder, &mut issues)
        });
    if !issues.is_empty() {
        let lines: Vec<String> = issues.iter().map(ToString::to_string).collect();
        return Err(bad(lines.join("\n")));
    }
    let notifier = match fields.take("alertmanager") {
        None => None,
        Some(node) => Some(match node.text() {
            Some(name) => {
                let path = folder.join(name);
                Config::load(&path).map_err(|source| PlanError::Notifier { path, source })?
            }
            None => Config::from_node(node, folder).map_err(|source| PlanError::Notifier {
                path: path.to_path_buf(),
                source,
            })?,
        }),
    };
    Ok((notifier, external))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_text_is_parsed_on_one_line() {
        for (expr, want) in [
            ("n > 1e9", "n > 1000000000"),
            ("up{job='v'}", "up{job=\"v\"}"),
            ("a\n  * on()\n  b", "a * on () b"),
            ("bad(", "bad("),
        ] {
            assert_eq!(query_text(expr, Features::default()), want);
        }
    }
}
