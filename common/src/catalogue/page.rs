//! The documentation page made from the table.

use std::fmt::Write as _;

use super::{ENTRIES, Entry, Kind, Object, Provider};

/// The page docs/metrics-catalogue.md.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# Metric catalogue\n\n\
         <!-- Made from common/src/catalogue/table.rs: run the tests of `common` with UPDATE_DOCS=1. -->\n\n\
         Every metric of Heapster, the objects that carry it, and the PromQL that derives it. Values come from the \
         agents' reading of the kernel, from the node's kubelet, or from the API server; what one of them does not \
         give is absent, never 0. Units are the real ones: Heapster declared many wrongly.\n\n\
         | Metric | Kind | Unit | Objects |\n|---|---|---|---|\n",
    );
    for entry in ENTRIES {
        let mut objects: Vec<Object> = entry
            .derivations
            .iter()
            .map(|derivation| derivation.object)
            .collect();
        objects.sort_unstable();
        objects.dedup();
        let objects: Vec<&str> = objects.into_iter().map(Object::heapster_type).collect();
        let objects = if objects.is_empty() {
            "none any more".to_owned()
        } else {
            objects.join(", ")
        };
        // Writing to a String can't fail.
        let (Ok(()) | Err(_)) = writeln!(
            page,
            "| [{0}](#{1}) | {2} | {3} | {objects} |",
            entry.name,
            anchor(entry.name),
            kind(entry.kind),
            entry.unit
        );
    }
    for entry in ENTRIES {
        section(entry, &mut page);
    }
    page
}

fn section(entry: &Entry, page: &mut String) {
    let labelled = if entry.is_labelled {
        ", told apart by `resource_id`"
    } else {
        ""
    };
    let (Ok(()) | Err(_)) = write!(
        page,
        "\n## {}\n\n{}, {}{labelled}.",
        entry.name,
        kind(entry.kind),
        entry.unit
    );
    if !entry.note.is_empty() {
        page.push(' ');
        page.push_str(entry.note);
    }
    page.push('\n');
    for derivation in entry.derivations {
        let provider = match derivation.provider {
            Provider::Agent => "the kernel",
            Provider::Kubelet => "the kubelet",
            Provider::ApiServer => "the API server",
        };
        let (Ok(()) | Err(_)) = write!(
            page,
            "\nOf a {} (from {provider}):\n\n```promql\n{}\n```\n",
            derivation.object.heapster_type(),
            derivation.expression
        );
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Cumulative => "cumulative",
        Kind::Gauge => "gauge",
    }
}

/// The anchor that a heading gets: letters, digits, dashes and underscores stay.
fn anchor(heading: &str) -> String {
    heading
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
        .collect()
}
