//! The notification configuration, alertmanager.yml.

mod redact;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::default_templates;
use super::inhibit::{self, InhibitRule};
use super::interval::{self, TimeIntervals};
use super::receiver::{self, Global, Receiver};
use super::route::{self, Routes};
use crate::template::{Set, notification};
use common::yaml::{self, Fields, Issue, Issues, Node};

/// A loaded notification configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The global defaults and the resolve timeout.
    pub global: Global,
    /// The routing tree.
    pub routes: Routes,
    /// The inhibition rules.
    pub inhibit_rules: Vec<InhibitRule>,
    /// Receivers by name.
    pub receivers: HashMap<String, Receiver>,
    /// The names of the receivers in file order.
    pub receiver_names: Vec<String>,
    /// Time intervals by name.
    pub intervals: HashMap<String, TimeIntervals>,
    /// The default templates and those from template files.
    pub templates: Set,
    /// The file as shown by the API, without secrets.
    pub original: String,
}

/// An error while loading a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The configuration has issues.
    #[error("{}", list(.0))]
    Bad(Issues),
    /// A template file cannot be used.
    #[error("template file {}: {reason}", path.display())]
    Template {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

fn list(issues: &Issues) -> String {
    let lines: Vec<String> = issues.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

impl Config {
    /// Returns the configuration of a server without alertmanager.yml. It keeps alerts and silences but sends nothing.
    #[must_use]
    pub fn without_receivers() -> Self {
        let receiver = Receiver {
            name: "none".to_owned(),
            labels: BTreeMap::new(),
            integrations: Vec::new(),
        };
        Self {
            global: Global::default(),
            routes: Routes::to_receiver(&receiver.name),
            inhibit_rules: Vec::new(),
            receiver_names: vec![receiver.name.clone()],
            receivers: HashMap::from([(receiver.name.clone(), receiver)]),
            intervals: HashMap::new(),
            templates: default_templates::set(),
            original: "# The server has no alertmanager section: no notification is sent.\n\
                       route:\n  receiver: none\nreceivers:\n  - name: none\n"
                .to_owned(),
        }
    }

    /// Loads a file. Paths are relative to its folder.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        Self::parse(&text, path.parent().unwrap_or_else(|| Path::new(".")))
    }

    /// Parses a text. Paths are relative to `folder`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, ConfigError> {
        let document = yaml::read_tree(text).map_err(|issue| ConfigError::Bad(vec![issue]))?;
        let Some(document) = document else {
            let issue = Issue::new(
                yaml::Position { line: 1, column: 1 },
                "no route provided in config",
            );
            return Err(ConfigError::Bad(vec![issue]));
        };
        Self::from_node(&document, folder)
    }

    /// Reads a parsed document. Paths are relative to `folder`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_node(document: &Node, folder: &Path) -> Result<Self, ConfigError> {
        let mut issues = Issues::new();
        let (mut config, patterns) = read(document, folder, &mut issues)?;
        if !issues.is_empty() {
            return Err(ConfigError::Bad(issues));
        }
        for pattern in patterns {
            for path in common::glob::expand(&folder.join(pattern)) {
                // As in Alertmanager, a pattern without a match is valid, even if it contains no wildcard.
                if !path.try_exists().unwrap_or(true) {
                    tracing::warn!(path = %path.display(), "template file does not exist");
                    continue;
                }
                let failed = |reason: String| ConfigError::Template {
                    path: path.clone(),
                    reason,
                };
                let text =
                    std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
                let name = path
                    .file_name()
                    .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                let added = config.templates.add(&name, &text, notification::lookup);
                added.map_err(|error| failed(error.to_string()))?;
            }
        }
        Ok(config)
    }
}

fn read(
    document: &Node,
    folder: &Path,
    issues: &mut Issues,
) -> Result<(Config, Vec<String>), ConfigError> {
    let mut fields = Fields::new(document, "config.plain", issues);
    let global = fields.take("global").map_or_else(Global::default, |node| {
        receiver::read_global(node, folder, issues)
    });
    let (receiver_names, receivers) = read_receivers(&mut fields, &global, folder, issues);
    let intervals = read_intervals(&mut fields, issues);
    let rules = fields.take("inhibit_rules").map_or(&[][..], |node| {
        node.read_list("[]config.InhibitRule", issues)
    });
    let inhibit_rules = rules
        .iter()
        .map(|rule| inhibit::read(rule, issues))
        .collect();
    let patterns = read_patterns(&mut fields, issues);
    if let Some(node) = fields.take("tracing") {
        check_tracing(node, issues);
    }
    let Some(root) = fields.take("route") else {
        issues.push(Issue::new(document.position, "no route provided in config"));
        return Err(ConfigError::Bad(std::mem::take(issues)));
    };
    let (routes, mentions) = route::read(root, issues);
    for mention in mentions {
        let is_known = if mention.is_receiver {
            receivers.contains_key(&mention.name)
        } else {
            intervals.contains_key(&mention.name)
        };
        if !is_known {
            let what = if mention.is_receiver {
                "receiver"
            } else {
                "time interval"
            };
            issues.push(Issue::new(
                mention.position,
                format!("undefined {what} {:?} used in route", mention.name),
            ));
        }
    }
    fields.finish(issues);
    let templates = default_templates::set();
    let original = redact::redacted(document);
    let config = Config {
        global,
        routes,
        inhibit_rules,
        receivers,
        receiver_names,
        intervals,
        templates,
        original,
    };
    Ok((config, patterns))
}

fn read_patterns(fields: &mut Fields<'_>, issues: &mut Issues) -> Vec<String> {
    let Some(node) = fields.take("templates") else {
        return Vec::new();
    };
    let patterns = node.read_texts(issues);
    for pattern in &patterns {
        let after_class = pattern.rsplit_once('[').map(|(_, after)| after);
        if after_class.is_some_and(|after| !after.contains(']')) {
            issues.push(Issue::new(node.position, "syntax error in pattern"));
        }
    }
    patterns
}

/// Validates the `tracing` section. It has no effect, because notifications are not traced.
fn check_tracing(node: &Node, issues: &mut Issues) {
    let mut fields = Fields::new(node, "tracing.TracingConfig", issues);
    let endpoint = fields.text("endpoint", issues).unwrap_or_default();
    if endpoint.is_empty() {
        issues.push(Issue::new(node.position, "tracing endpoint must be set"));
    }
    for name in [
        "client_type",
        "sampling_fraction",
        "insecure",
        "tls_config",
        "headers",
        "compression",
        "timeout",
    ] {
        fields.take(name);
    }
    fields.finish(issues);
    tracing::warn!(position = %node.position, "tracing has no effect");
}

fn read_receivers(
    fields: &mut Fields<'_>,
    global: &Global,
    folder: &Path,
    issues: &mut Issues,
) -> (Vec<String>, HashMap<String, Receiver>) {
    let items = fields
        .take("receivers")
        .map_or(&[][..], |node| node.read_list("[]config.Receiver", issues));
    let mut names = Vec::with_capacity(items.len());
    let mut receivers = HashMap::new();
    for item in items.iter().filter(|item| !item.is_null()) {
        let receiver = receiver::read(item, global, folder, issues);
        names.push(receiver.name.clone());
        if let Some(duplicate) = receivers.insert(receiver.name.clone(), receiver) {
            issues.push(Issue::new(
                item.position,
                format!(
                    "notification config name {:?} is not unique",
                    duplicate.name
                ),
            ));
        }
    }
    (names, receivers)
}

fn read_intervals(fields: &mut Fields<'_>, issues: &mut Issues) -> HashMap<String, TimeIntervals> {
    let mut intervals = HashMap::new();
    let mut seen = HashSet::new();
    for key in ["mute_time_intervals", "time_intervals"] {
        let items = fields.take(key).map_or(&[][..], |node| {
            node.read_list("[]config.TimeInterval", issues)
        });
        for item in items {
            let read = interval::read(item, issues);
            if !seen.insert(read.name.clone()) {
                issues.push(Issue::new(
                    item.position,
                    format!("time interval {:?} is not unique", read.name),
                ));
            }
            intervals.insert(read.name.clone(), read);
        }
    }
    intervals
}

#[cfg(test)]
mod tests;
