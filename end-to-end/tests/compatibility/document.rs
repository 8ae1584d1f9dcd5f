//! The tables of docs/compatibility.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The content of the document.
#[derive(Debug)]
pub(super) struct Document {
    /// Metric → source of its series.
    pub(super) metrics: BTreeMap<String, String>,
    /// Recording rule or dashboard → why all or a part of it has no result.
    pub(super) exceptions: BTreeMap<String, String>,
    /// Query → why it has no result on the recorded nodes, and on which nodes.
    pub(super) empty: BTreeMap<String, Empty>,
    /// Alert → why it never fires, or only partly works.
    pub(super) alerts: BTreeMap<String, String>,
    /// Family of cAdvisor → why the agent lacks it, and on which nodes cAdvisor had it.
    pub(super) left_out: BTreeMap<String, Empty>,
}

/// A query without a result, or a missing family.
#[derive(Debug)]
pub(super) struct Empty {
    pub(super) reason: String,
    pub(super) nodes: BTreeSet<String>,
}

impl Empty {
    /// `reason (node, node)`
    fn read(text: &str) -> Self {
        let (reason, nodes) = text
            .strip_suffix(')')
            .and_then(|text| text.rsplit_once(" ("))
            .unwrap_or_else(|| panic!("{text:?} ends without its nodes"));
        Self {
            reason: reason.to_owned(),
            nodes: nodes.split(", ").map(str::to_owned).collect(),
        }
    }
}

impl Document {
    pub(super) fn load() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
        let text = std::fs::read_to_string(path).unwrap();
        Self {
            metrics: table(&text, "## Metrics"),
            exceptions: table(&text, "## Exceptions"),
            empty: with_nodes(table(&text, "## Empty on the recorded nodes")),
            alerts: table(&text, "## Alerts"),
            left_out: with_nodes(table(&text, "## Omitted series of cAdvisor")),
        }
    }

    /// Whether a source is a component that must be scraped.
    pub(super) fn is_foreign(&self, source: &str) -> bool {
        ["kube-apiserver", "kube-scheduler"].contains(&source)
    }
}

fn with_nodes(table: BTreeMap<String, String>) -> BTreeMap<String, Empty> {
    let rows = table.into_iter();
    rows.map(|(key, text)| (key, Empty::read(&text))).collect()
}

/// Returns the rows `| `key` | value |` of the section that begins with `heading`.
fn table(text: &str, heading: &str) -> BTreeMap<String, String> {
    let after = text
        .lines()
        .skip_while(|line| !line.starts_with(heading))
        .skip(1);
    let section = after.take_while(|line| !line.starts_with("## "));
    let mut rows = BTreeMap::new();
    for line in section {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (Some(key), Some(value)) = (cells.next(), cells.next()) else {
            continue;
        };
        let Some(key) = key.strip_prefix('`').and_then(|key| key.strip_suffix('`')) else {
            continue;
        };
        let before = rows.insert(key.to_owned(), value.to_owned());
        assert!(before.is_none(), "{key} is listed twice below {heading:?}");
    }
    assert!(!rows.is_empty(), "no table below {heading:?}");
    rows
}
