//! Inhibition, which suppresses alerts while others fire.

use std::collections::BTreeMap;

use common::model::{Labels, Matcher};

use super::alert::Alert;
use super::matcher::matches_all;
use super::route::read_matchers;
use common::yaml::{Fields, Issue, Issues, Node};

/// A rule that suppresses target alerts while source alerts fire.
#[derive(Debug, Clone)]
pub struct InhibitRule {
    source: Vec<Matcher>,
    target: Vec<Matcher>,
    equal: Vec<String>,
}

/// Reads one entry of `inhibit_rules`.
pub(super) fn read(node: &Node, issues: &mut Issues) -> InhibitRule {
    let mut fields = Fields::new(node, "config.InhibitRule", issues);
    let rule = InhibitRule {
        source: read_matchers(
            &mut fields,
            ("source_match", "source_match_re", "source_matchers"),
            issues,
        ),
        target: read_matchers(
            &mut fields,
            ("target_match", "target_match_re", "target_matchers"),
            issues,
        ),
        equal: fields
            .take("equal")
            .map_or_else(Vec::new, |node| node.read_texts(issues)),
    };
    let _name = fields.take("name");
    if rule.equal.iter().any(String::is_empty) {
        let message = "invalid label name \"\" in equal list";
        issues.push(Issue::new(node.position, message));
    }
    fields.finish(issues);
    rule
}

/// An index of the alerts that inhibit others at one timestamp.
///
/// It is built once per tick. A lookup then costs one search by the `equal` labels per rule instead of a scan of all
/// alerts.
#[derive(Debug, Default)]
pub struct Inhibitor {
    /// One entry per rule.
    sources: Vec<Sources>,
}

/// The fingerprint of each source and whether it is also a target, by the values of the `equal` labels.
type Sources = BTreeMap<Vec<String>, Vec<(u64, bool)>>;

impl Inhibitor {
    /// Indexes the alerts that fire at `now_ms`.
    pub fn new<'a>(
        rules: &[InhibitRule],
        alerts: impl Iterator<Item = (u64, &'a Alert)>,
        now_ms: i64,
    ) -> Self {
        let mut sources = vec![Sources::new(); rules.len()];
        if rules.is_empty() {
            return Self::default();
        }
        for (fingerprint, alert) in alerts.filter(|(_, alert)| !alert.is_resolved(now_ms)) {
            for (rule, index) in rules.iter().zip(&mut sources) {
                if matches_all(&rule.source, &alert.labels) {
                    let is_target = matches_all(&rule.target, &alert.labels);
                    let entry: &mut Vec<(u64, bool)> =
                        index.entry(rule.equal_values(&alert.labels)).or_default();
                    entry.push((fingerprint, is_target));
                }
            }
        }
        Self { sources }
    }

    /// Returns the fingerprint of an alert that inhibits one with these labels.
    ///
    /// An alert that matches both sides of a rule is not inhibited by itself or by another such alert.
    #[must_use]
    pub fn inhibiting(&self, rules: &[InhibitRule], labels: &Labels) -> Option<u64> {
        rules.iter().zip(&self.sources).find_map(|(rule, index)| {
            if index.is_empty() || !matches_all(&rule.target, labels) {
                return None;
            }
            let is_source = matches_all(&rule.source, labels);
            let candidates = index.get(&rule.equal_values(labels))?;
            candidates
                .iter()
                .find(|(_, is_target)| !(is_source && *is_target))
                .map(|(fingerprint, _)| *fingerprint)
        })
    }
}

impl InhibitRule {
    /// Returns the values of the `equal` labels. A missing label has an empty value.
    fn equal_values(&self, labels: &Labels) -> Vec<String> {
        self.equal
            .iter()
            .map(|name| labels.get(name).unwrap_or_default().to_owned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str =
        "{source_matchers: [sev=crit], target_match_re: {sev: 'warn|crit'}, equal: [dc]}";

    fn alert(pairs: &[(&str, &str)]) -> Alert {
        Alert {
            labels: Labels::from_pairs(pairs.iter().copied()).unwrap(),
            annotations: crate::annotations::Annotations::empty(),
            starts_at_ms: 0,
            ends_at_ms: 1000,
            updated_at_ms: 0,
            generator_url: String::new(),
            timeout: false,
        }
    }

    #[track_caller]
    fn check(sources: &[Alert], target: &Alert, now_ms: i64, want: bool) {
        let node = common::yaml::read_tree(RULE).unwrap().unwrap();
        let rules = [read(&node, &mut Issues::new())];
        let all = sources
            .iter()
            .chain([target])
            .map(|alert| (alert.fingerprint(), alert));
        let inhibitor = Inhibitor::new(&rules, all, now_ms);
        assert_eq!(inhibitor.inhibiting(&rules, &target.labels).is_some(), want);
    }

    #[test]
    fn sources_mute_targets_with_equal_labels() {
        let source = alert(&[("sev", "crit"), ("dc", "a"), ("n", "1")]);
        let target = |dc| alert(&[("sev", "warn"), ("dc", dc)]);
        check(std::slice::from_ref(&source), &target("a"), 0, true);
        check(std::slice::from_ref(&source), &target("b"), 0, false);
        check(std::slice::from_ref(&source), &target("a"), 1000, false);
        check(
            &[alert(&[("sev", "crit")])],
            &alert(&[("sev", "warn")]),
            0,
            true,
        );
        check(
            &[source],
            &alert(&[("sev", "crit"), ("dc", "a"), ("n", "2")]),
            0,
            false,
        );
        check(&[], &alert(&[("sev", "crit"), ("dc", "a")]), 0, false);
    }
}
