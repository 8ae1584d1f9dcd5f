//! Configuration files.

use std::path::Path;

use aggregator::config::ConfigFile;
use common::model::Labels;
use common::relabel;
use common::yaml::{self, Issues};
use tidemark_alerting::external;
use tidemark_alerting::notify::config::Config as Notifier;
use tidemark_alerting::rules::file as rule_file;
use tidemark_promql::Features;

/// A directory without templates.
const FOLDER: &str = "/nonexistent";

fn as_text(input: &[u8], check: impl FnOnce(&str)) {
    if let Ok(text) = std::str::from_utf8(input) {
        check(text);
    }
}

/// Checks that every issue has a position inside the text.
fn check_places(text: &str, issues: &Issues) {
    // In YAML, a carriage return also ends a line.
    let lines = text.matches(['\n', '\r']).count() + 2;
    for issue in issues {
        assert!(
            (1..=lines).contains(&issue.position.line) && issue.position.column >= 1,
            "{issue} is outside of {lines} lines"
        );
    }
}

/// A rule file.
///
/// # Panics
/// An issue has no position, or a rule has no name or expression.
pub fn rules(input: &[u8]) {
    as_text(input, |text| {
        let syntax = |expr: &str| {
            tidemark_promql::parse(expr, Features::default())
                .map(drop)
                .map_err(|error| error.to_string())
        };
        match rule_file::parse(text, &syntax) {
            Ok(groups) => {
                for rule in groups.iter().flat_map(|group| &group.rules) {
                    assert!(!rule.name().is_empty() && !rule.expr.is_empty());
                }
            }
            Err(issues) => {
                assert!(!issues.is_empty(), "refused for no reason");
                check_places(text, &issues);
            }
        }
    });
}

/// An alertmanager.yml.
///
/// # Panics
/// An issue has no text.
pub fn alertmanager(input: &[u8]) {
    as_text(input, |text| {
        if let Err(error) = Notifier::parse(text, Path::new(FOLDER)) {
            assert!(!error.to_string().is_empty());
        }
    });
}

/// A prometheus.yml with its section `alerting`. A loaded configuration prints to one that loads.
///
/// # Panics
/// The printed form does not load.
pub fn prometheus(input: &[u8]) {
    as_text(input, |text| {
        if let Ok(file) = ConfigFile::parse(text, Path::new("a.yml")) {
            let again = ConfigFile::parse(&file.to_yaml(), Path::new("b.yml"));
            assert!(again.is_ok(), "{:?}\n{}", again.err(), file.to_yaml());
        }
        if let Ok(Some(document)) = yaml::read_tree(text) {
            let mut issues = Issues::new();
            external::read(&document, Path::new(FOLDER), &mut issues);
            check_places(text, &issues);
        }
    });
}

/// A list of relabelling rules, applied to a label set.
///
/// # Panics
/// An issue has no position, or the result is not a valid label set.
pub fn relabel(input: &[u8]) {
    as_text(input, |text| {
        let Ok(Some(document)) = yaml::read_tree(text) else {
            return;
        };
        let mut issues = Issues::new();
        let rules = relabel::read(&document, &mut issues);
        check_places(text, &issues);
        let pairs = [
            ("__name__", "up"),
            ("__address__", "host:9100"),
            ("job", "Node"),
            ("path", "/a/b"),
        ];
        let labels = Labels::from_pairs(pairs).expect("labels of this harness");
        if let Some(kept) = relabel::apply(&rules, &labels) {
            let again = Labels::from_pairs(kept.iter());
            assert_eq!(again.as_ref(), Ok(&kept));
        }
    });
}
