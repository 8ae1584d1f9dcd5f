//! The tables of docs/compatibility.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What the document says.
#[derive(Debug)]
pub(super) struct Document {
    /// Metric → where its series come from.
    pub(super) metrics: BTreeMap<String, String>,
    /// Recording rule or dashboard → why it, or some of it, has no result.
    pub(super) exceptions: BTreeMap<String, String>,
    /// Query → why the recorded nodes have nothing to show for it, and which nodes.
    pub(super) empty: BTreeMap<String, Empty>,
    /// Alert → why it never fires, or only in part.
    pub(super) alerts: BTreeMap<String, String>,
    /// Family of cAdvisor → why the agent has it not, and on which nodes cAdvisor had.
    pub(super) left_out: BTreeMap<String, Empty>,
}

/// A query without result, or a family that is not there.
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

    /// Whether a source is a component that has to be scraped.
    pub(super) fn is_foreign(&self, source: &str) -> bool {
        ["kube-apiserver", "kube-scheduler"].contains(&source)
    }
}

fn with_nodes(table: BTreeMap<String, String>) -> BTreeMap<String, Empty> {
    let rows = table.into_iter();
    rows.map(|(key, text)| (key, Empty::read(&text))).collect()
}

/// The rows `| `key` | value |` of the section that begins with `heading`.
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
