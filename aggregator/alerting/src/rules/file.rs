//! Rule files in Prometheus' format, validated like `promtool check rules`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use common::model::label::METRIC_NAME;

use crate::template::rule as template;
use common::yaml::{self, Fields, Issue, Issues, Node, Position};

/// Checks the syntax of an expression. The error is the parser's message with its position in the expression.
pub type Syntax<'a> = dyn Fn(&str) -> Result<(), String> + 'a;

/// Maximum size of one rule file in bytes.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

/// A rule group as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    /// The name, unique within the file.
    pub name: String,
    /// The time between evaluations. `None` uses the global setting.
    pub interval: Option<Duration>,
    /// How far evaluation times are shifted into the past. `None` uses the global setting.
    pub query_offset: Option<Duration>,
    /// The limit on the alerts or series of one rule. 0 means no limit.
    pub limit: u64,
    /// The rules in evaluation order.
    pub rules: Vec<RuleSpec>,
}

/// A rule as written, merged with the labels of its group. Its own labels take precedence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSpec {
    /// The kind of the rule.
    pub kind: RuleKind,
    /// The expression.
    pub expr: String,
    /// The labels in ascending order of their names. Templates in alerting rules.
    pub labels: Vec<(String, String)>,
}

/// The two kinds of rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleKind {
    /// Writes the result as series with a new metric name.
    Recording {
        /// The metric name.
        record: String,
    },
    /// Creates an alert for each element of the result.
    Alerting {
        /// The alert's name.
        alert: String,
        /// How long an element must be present before its alert fires.
        for_duration: Duration,
        /// How long an alert keeps firing after its element is gone.
        keep_firing_for: Duration,
        /// The annotation templates in ascending order of their names.
        annotations: Vec<(String, String)>,
    },
}

impl RuleSpec {
    /// Returns the name of the series or the alert.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.kind {
            RuleKind::Recording { record } => record,
            RuleKind::Alerting { alert, .. } => alert,
        }
    }
}

/// A rule of the file before validation.
struct RawRule {
    position: Position,
    record: String,
    record_place: Position,
    alert: String,
    expr: String,
    expr_place: Position,
    for_duration: Duration,
    keep_firing_for: Duration,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
}

/// Parses the groups of a rule file.
///
/// # Errors
/// Returns every issue in the file with its position.
pub fn parse(text: &str, syntax: &Syntax<'_>) -> Result<Vec<GroupSpec>, Issues> {
    let Some(document) = yaml::read_tree(text).map_err(|issue| vec![issue])? else {
        return Ok(Vec::new());
    };
    let mut issues = Issues::new();
    let mut fields = Fields::new(&document, "rulefmt.RuleGroups", &mut issues);
    let nodes = fields.take("groups").map_or(&[][..], |node| {
        node.read_list("[]rulefmt.RuleGroup", &mut issues)
    });
    let mut groups = Vec::with_capacity(nodes.len());
    let mut names: HashMap<String, Position> = HashMap::new();
    for node in nodes {
        let (group, name_place) = read_group(node, syntax, &mut issues);
        if group.name.is_empty() {
            issues.push(Issue::new(node.position, "Groupname must not be empty"));
        } else if names.insert(group.name.clone(), name_place).is_some() {
            let message = format!("groupname: {:?} is repeated in the same file", group.name);
            issues.push(Issue::new(node.position, message));
        }
        groups.push(group);
    }
    fields.finish(&mut issues);
    if issues.is_empty() {
        Ok(groups)
    } else {
        Err(issues)
    }
}

fn read_group(node: &Node, syntax: &Syntax<'_>, issues: &mut Issues) -> (GroupSpec, Position) {
    let mut fields = Fields::new(node, "rulefmt.RuleGroup", issues);
    let name = fields.text("name", issues).unwrap_or_default();
    let name_place = fields.position_of("name", node.position);
    let interval = fields
        .duration("interval", issues)
        .filter(|interval| !interval.is_zero());
    let query_offset = fields.duration("query_offset", issues);
    let limit = fields.take("limit").map_or(0, |node| node.read_int(issues));
    let labels = fields.take("labels").map_or_else(Vec::new, |node| {
        let labels = node.read_pairs(issues);
        check_labels(&labels, &mut |message| {
            issues.push(Issue::new(node.position, message));
        });
        labels
    });
    // A Thanos setting for incomplete query results. It is accepted and ignored, because an incomplete result always
    // fails the evaluation here.
    if let Some(strategy) = fields.take("partial_response_strategy") {
        let text = strategy.read_text(issues);
        if !matches!(text.to_ascii_lowercase().as_str(), "" | "warn" | "abort") {
            let message = format!("unknown partial_response_strategy {text:?}, want warn or abort");
            issues.push(Issue::new(strategy.position, message));
        }
    }
    let nodes = fields
        .take("rules")
        .map_or(&[][..], |node| node.read_list("[]rulefmt.Rule", issues));
    let mut rules = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let raw = read_rule(node, issues);
        check_rule(&raw, (&name, index + 1), syntax, issues);
        rules.push(raw.into_spec(&labels));
    }
    fields.finish(issues);
    let limit = u64::try_from(limit).unwrap_or(0);
    (
        GroupSpec {
            name,
            interval,
            query_offset,
            limit,
            rules,
        },
        name_place,
    )
}

fn read_rule(node: &Node, issues: &mut Issues) -> RawRule {
    let mut fields = Fields::new(node, "rulefmt.Rule", issues);
    let raw = RawRule {
        position: node.position,
        record: fields.text("record", issues).unwrap_or_default(),
        record_place: fields.position_of("record", node.position),
        alert: fields.text("alert", issues).unwrap_or_default(),
        expr: fields.text("expr", issues).unwrap_or_default(),
        expr_place: fields.position_of("expr", node.position),
        for_duration: fields.duration("for", issues).unwrap_or_default(),
        keep_firing_for: fields
            .duration("keep_firing_for", issues)
            .unwrap_or_default(),
        labels: fields
            .take("labels")
            .map_or_else(Vec::new, |node| node.read_pairs(issues)),
        annotations: fields
            .take("annotations")
            .map_or_else(Vec::new, |node| node.read_pairs(issues)),
    };
    fields.finish(issues);
    raw
}

impl RawRule {
    fn name(&self) -> &str {
        if self.alert.is_empty() {
            &self.record
        } else {
            &self.alert
        }
    }

    fn into_spec(self, group_labels: &[(String, String)]) -> RuleSpec {
        let inherited = group_labels
            .iter()
            .filter(|(name, _)| !self.labels.iter().any(|(own, _)| own == name))
            .cloned();
        let mut labels: Vec<(String, String)> =
            inherited.chain(self.labels.iter().cloned()).collect();
        labels.sort();
        let mut annotations = self.annotations;
        annotations.sort();
        let kind = if self.record.is_empty() {
            RuleKind::Alerting {
                alert: self.alert,
                for_duration: self.for_duration,
                keep_firing_for: self.keep_firing_for,
                annotations,
            }
        } else {
            RuleKind::Recording {
                record: self.record,
            }
        };
        RuleSpec {
            kind,
            expr: self.expr,
            labels,
        }
    }
}

/// Validates a rule like Prometheus' `rulefmt.Rule.Validate`.
fn check_rule(
    rule: &RawRule,
    (group, index): (&str, usize),
    syntax: &Syntax<'_>,
    issues: &mut Issues,
) {
    let name = rule.name();
    let mut note = |position: Position, message: String| {
        issues.push(Issue::new(
            position,
            format!("group {group:?}, rule {index}, {name:?}: {message}"),
        ));
    };
    match (rule.record.is_empty(), rule.alert.is_empty()) {
        (false, false) => note(
            rule.record_place,
            "only one of 'record' and 'alert' must be set".to_owned(),
        ),
        (true, true) => note(
            rule.record_place,
            "one of 'record' or 'alert' must be set".to_owned(),
        ),
        _ => {}
    }
    if rule.expr.is_empty() {
        note(
            rule.expr_place,
            "field 'expr' must be set in rule".to_owned(),
        );
    } else if let Err(message) = syntax(&rule.expr) {
        note(
            rule.expr_place,
            format!("could not parse expression: {message}"),
        );
    }
    check_labels(&rule.labels, &mut |message| note(rule.position, message));
    for (annotation, _) in &rule.annotations {
        if annotation.is_empty() {
            note(
                rule.position,
                format!("invalid annotation name: {annotation}"),
            );
        }
    }
    if rule.record.is_empty() {
        check_templates(rule, &mut note);
    } else {
        check_recording(rule, &mut note);
    }
}

fn check_recording(rule: &RawRule, note: &mut dyn FnMut(Position, String)) {
    let mut refuse = |field: &str| {
        note(
            rule.record_place,
            format!("invalid field '{field}' in recording rule"),
        );
    };
    if !rule.annotations.is_empty() {
        refuse("annotations");
    }
    if !rule.for_duration.is_zero() {
        refuse("for");
    }
    if !rule.keep_firing_for.is_zero() {
        refuse("keep_firing_for");
    }
    if rule.record.contains(['{', '}']) {
        let message = format!(
            "braces present in the recording rule name; should it be in expr?: {}",
            rule.record
        );
        note(rule.record_place, message);
    }
}

fn check_templates(rule: &RawRule, note: &mut dyn FnMut(Position, String)) {
    let texts = rule.labels.iter().map(|pair| ("label", pair));
    for (what, (name, text)) in
        texts.chain(rule.annotations.iter().map(|pair| ("annotation", pair)))
    {
        if let Err(error) = template::check(&rule.alert, text) {
            note(rule.position, format!("{what} {name:?}: {error}"));
        }
    }
}

fn check_labels(labels: &[(String, String)], note: &mut dyn FnMut(String)) {
    for (name, _) in labels {
        if name.is_empty() || name == METRIC_NAME {
            note(format!("invalid label name: {name}"));
        }
    }
}

/// A parsed rule file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The groups of the file.
    pub groups: Vec<GroupSpec>,
}

/// An error in a rule file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("{}: more than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file has issues.
    #[error("{}: {issue}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// The issue and its position.
        issue: Issue,
    },
}

/// Loads all files. All of them must be valid.
///
/// # Errors
/// Returns every issue in every file.
pub fn load(paths: &[PathBuf], syntax: &Syntax<'_>) -> Result<Vec<RuleFile>, Vec<FileError>> {
    let mut files = Vec::with_capacity(paths.len());
    let mut errors = Vec::new();
    for path in paths {
        match read(path) {
            Ok(text) => match parse(&text, syntax) {
                Ok(groups) => files.push(RuleFile {
                    path: path.clone(),
                    groups,
                }),
                Err(issues) => {
                    errors.extend(issues.into_iter().map(|issue| FileError::Bad {
                        path: path.clone(),
                        issue,
                    }));
                }
            },
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(files)
    } else {
        Err(errors)
    }
}

fn read(path: &std::path::Path) -> Result<String, FileError> {
    let failed = |source| FileError::Read {
        path: path.to_path_buf(),
        source,
    };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(FileError::TooLarge {
            path: path.to_path_buf(),
        });
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// Returns the name and labels of each rule that repeats an earlier one with the same name and labels, like promtool's
/// linter.
#[must_use]
pub fn duplicates(files: &[RuleFile]) -> Vec<(String, Vec<(String, String)>)> {
    let mut seen = std::collections::HashSet::new();
    let mut found = Vec::new();
    for rule in files
        .iter()
        .flat_map(|file| &file.groups)
        .flat_map(|group| &group.rules)
    {
        let key = (rule.name().to_owned(), rule.labels.clone());
        if !seen.insert(key.clone()) && !found.contains(&key) {
            found.push(key);
        }
    }
    found
}

#[cfg(test)]
mod tests;
