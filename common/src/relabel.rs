//! Relabelling with Prometheus' `relabel_config` rules.

use crate::model::label::METRIC_NAME;
use crate::model::{AnchoredRegex, Labels, LabelsBuilder};
use crate::yaml::{Fields, Issue, Issues, Node, Yaml};

/// A relabelling rule.
#[derive(Debug, Clone)]
pub struct RelabelRule {
    source_labels: Vec<String>,
    separator: String,
    regex: AnchoredRegex,
    capture: regex::Regex,
    target_label: String,
    replacement: String,
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
    HashMod(u64),
}

/// Reads a list of rules.
pub fn read(node: &Node, issues: &mut Issues) -> Vec<RelabelRule> {
    let items = node.read_list("[]*relabel.Config", issues);
    items
        .iter()
        .filter_map(|item| read_one(item, issues))
        .collect()
}

fn action(fields: &mut Fields<'_>, node: &Node, issues: &mut Issues) -> Option<Action> {
    let Some(name) = fields.text("action", issues) else {
        return Some(Action::Replace);
    };
    let action = match name.to_lowercase().as_str() {
        "replace" => Action::Replace,
        "keep" => Action::Keep,
        "drop" => Action::Drop,
        "keepequal" => Action::KeepEqual,
        "dropequal" => Action::DropEqual,
        "labelmap" => Action::LabelMap,
        "labeldrop" => Action::LabelDrop,
        "labelkeep" => Action::LabelKeep,
        "lowercase" => Action::Lowercase,
        "uppercase" => Action::Uppercase,
        "hashmod" => Action::HashMod(modulus(fields, node, issues)?),
        _ => {
            issues.push(Issue::new(
                node.position,
                format!("unknown relabel action {name:?}"),
            ));
            return None;
        }
    };
    Some(action)
}

fn modulus(fields: &mut Fields<'_>, node: &Node, issues: &mut Issues) -> Option<u64> {
    let modulus = fields
        .take("modulus")
        .map_or(0, |node| node.read_int(issues));
    let modulus = u64::try_from(modulus).ok().filter(|&modulus| modulus > 0);
    if modulus.is_none() {
        let message = "relabel configuration for hashmod requires non-zero modulus";
        issues.push(Issue::new(node.position, message));
    }
    modulus
}

fn read_one(node: &Node, issues: &mut Issues) -> Option<RelabelRule> {
    let mut fields = Fields::new(node, "relabel.Config", issues);
    let action = action(&mut fields, node, issues)?;
    check_unused_fields(action, node, issues);
    let pattern = fields
        .text("regex", issues)
        .unwrap_or_else(|| "(.*)".to_owned());
    let compiled = AnchoredRegex::new(&pattern).map_err(|error| error.to_string());
    let capture =
        regex::Regex::new(&format!("^(?s:{pattern})$")).map_err(|error| error.to_string());
    let source_labels = fields
        .take("source_labels")
        .map_or_else(Vec::new, |node| node.read_texts(issues));
    let separator = fields
        .text("separator", issues)
        .unwrap_or_else(|| ";".to_owned());
    let target_label = fields.text("target_label", issues).unwrap_or_default();
    let replacement = fields
        .text("replacement", issues)
        .unwrap_or_else(|| "$1".to_owned());
    fields.take("modulus");
    fields.finish(issues);
    let needs_target = matches!(
        action,
        Action::Replace
            | Action::Lowercase
            | Action::Uppercase
            | Action::KeepEqual
            | Action::DropEqual
            | Action::HashMod(_)
    );
    if needs_target && target_label.is_empty() {
        issues.push(Issue::new(
            node.position,
            "relabel configuration requires 'target_label' value",
        ));
    }
    match (compiled, capture) {
        (Ok(regex), Ok(capture)) => Some(RelabelRule {
            source_labels,
            separator,
            regex,
            capture,
            target_label,
            replacement,
            action,
        }),
        (Err(error), _) | (_, Err(error)) => {
            issues.push(Issue::new(node.position, error));
            None
        }
    }
}

/// Refuses fields that the action ignores, as Prometheus does for these four actions.
fn check_unused_fields(action: Action, node: &Node, issues: &mut Issues) {
    let (allowed, message): (&[&str], _) = match action {
        Action::KeepEqual | Action::DropEqual => (
            &["action", "source_labels", "target_label"],
            "action requires only 'source_labels' and `target_label`, and no other fields",
        ),
        Action::LabelDrop | Action::LabelKeep => (
            &["action", "regex"],
            "action requires only 'regex', and no other fields",
        ),
        Action::Replace
        | Action::Keep
        | Action::Drop
        | Action::LabelMap
        | Action::Lowercase
        | Action::Uppercase
        | Action::HashMod(_) => return,
    };
    let Yaml::Map(entries) = &node.value else {
        return;
    };
    // A field that repeats the default value passes.
    let is_default = |name: &str, value: &Node| match name {
        "regex" => value.text() == Some("(.*)"),
        "separator" => value.text() == Some(";"),
        "replacement" => value.text() == Some("$1"),
        _ => value.is_null(),
    };
    let is_unused = entries.iter().any(|(key, value)| {
        let name = key.text().unwrap_or_default();
        !allowed.contains(&name) && !is_default(name, value)
    });
    if is_unused {
        issues.push(Issue::new(node.position, message));
    }
}

/// Applies all rules in order. Returns `None` if one of them drops the label set.
#[must_use]
pub fn apply(rules: &[RelabelRule], labels: &Labels) -> Option<Labels> {
    if rules.is_empty() {
        return Some(labels.clone());
    }
    let mut builder = labels.to_builder();
    for rule in rules {
        if !rule.apply(&mut builder) {
            return None;
        }
    }
    builder.build().ok()
}

impl RelabelRule {
    /// Returns whether the label set is kept.
    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let values: Vec<&str> = self
            .source_labels
            .iter()
            .map(|name| labels.get(name).unwrap_or_default())
            .collect();
        let value = values.join(&self.separator);
        match self.action {
            Action::Keep => return self.regex.is_match(&value),
            Action::Drop => return !self.regex.is_match(&value),
            Action::KeepEqual => {
                return labels.get(&self.target_label).unwrap_or_default() == value;
            }
            Action::DropEqual => {
                return labels.get(&self.target_label).unwrap_or_default() != value;
            }
            Action::Lowercase => labels.set(self.target_label.as_str(), value.to_lowercase()),
            Action::Uppercase => labels.set(self.target_label.as_str(), value.to_uppercase()),
            Action::HashMod(modulus) => {
                let number = hash(&value) % modulus;
                labels.set(self.target_label.as_str(), number.to_string());
            }
            Action::Replace => self.replace(labels, &value),
            Action::LabelMap | Action::LabelDrop | Action::LabelKeep => self.apply_to_names(labels),
        }
        true
    }

    fn replace(&self, labels: &mut LabelsBuilder, value: &str) {
        let Some(captures) = self.capture.captures(value) else {
            return;
        };
        let (mut name, mut text) = (String::new(), String::new());
        captures.expand(&self.target_label, &mut name);
        captures.expand(&self.replacement, &mut text);
        if !name.is_empty() {
            labels.set(name, text);
        }
    }

    fn apply_to_names(&self, labels: &mut LabelsBuilder) {
        let Ok(current) = labels.clone().build() else {
            return;
        };
        for (name, value) in &current {
            let matches = self.regex.is_match(name);
            match self.action {
                Action::LabelMap if matches => {
                    let new = self.capture.replace(name, self.replacement.as_str());
                    labels.set(new.into_owned(), value);
                }
                Action::LabelDrop if matches => labels.remove(name),
                Action::LabelKeep if !matches && name != METRIC_NAME => labels.remove(name),
                _ => {}
            }
        }
    }
}

/// Returns the last eight bytes of the MD5 sum, which is Prometheus' hash for `hashmod`.
fn hash(value: &str) -> u64 {
    u128::from_be_bytes(md5::compute(value).0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: &str, want: Option<&str>) {
        let node = crate::yaml::read_tree(&format!("[{rule}]"))
            .unwrap()
            .unwrap();
        let mut issues = Issues::new();
        let rules = read(&node, &mut issues);
        assert_eq!(issues, []);
        let labels = Labels::from_pairs([("a", "X1"), ("b", "y")]).unwrap();
        assert_eq!(
            apply(&rules, &labels)
                .map(|labels| labels.to_string())
                .as_deref(),
            want,
            "{rule}"
        );
    }

    #[test]
    fn fields_that_the_action_ignores_are_refused() {
        for rule in [
            "{action: labeldrop, regex: a, target_label: b}",
            "{action: labelkeep, regex: a, source_labels: [b]}",
            "{action: keepequal, source_labels: [a], target_label: b, regex: c}",
            "{action: ''}",
            "{action: rename}",
            "{action: hashmod, target_label: a}",
            "{target_label: ''}",
        ] {
            let node = crate::yaml::read_tree(&format!("[{rule}]"))
                .unwrap()
                .unwrap();
            let mut issues = Issues::new();
            read(&node, &mut issues);
            assert_eq!(issues.len(), 1, "{rule}: {issues:?}");
        }
    }

    #[test]
    fn each_action() {
        check(
            "{source_labels: [a, b], target_label: c, regex: '(.)1;(.*)', replacement: '${2}-$1'}",
            Some(r#"{a="X1", b="y", c="y-X"}"#),
        );
        check(
            "{source_labels: [a], target_label: c, regex: nope}",
            Some(r#"{a="X1", b="y"}"#),
        );
        check(
            "{source_labels: [a], target_label: a, replacement: ''}",
            Some(r#"{b="y"}"#),
        );
        check("{source_labels: [b], regex: y, action: drop}", None);
        check("{source_labels: [b], regex: z, action: keep}", None);
        check("{regex: a, action: labeldrop}", Some(r#"{b="y"}"#));
        check("{regex: a, action: labelkeep}", Some(r#"{a="X1"}"#));
        check(
            "{regex: '(a)', replacement: 'n_$1', action: labelmap}",
            Some(r#"{a="X1", b="y", n_a="X1"}"#),
        );
        check(
            "{source_labels: [a], target_label: a, action: lowercase}",
            Some(r#"{a="x1", b="y"}"#),
        );
        // md5("X1;y") ends in e16a4bf74cf24f34.
        check(
            "{source_labels: [a, b], target_label: c, modulus: 1000, action: hashmod}",
            Some(r#"{a="X1", b="y", c="852"}"#),
        );
        check(
            "{source_labels: [a], target_label: b, action: keepequal}",
            None,
        );
    }
}
