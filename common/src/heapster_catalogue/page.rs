//! Generates the documentation page from the table.

use std::fmt::Write as _;

use super::{ENTRIES, HeapsterKind, HeapsterMetric, Object, Provider};

/// Returns the content of docs/heapster-metrics.md.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# Heapster metrics\n\n\
         <!-- Generated from common/src/heapster_catalogue/table.rs: run the tests of `common` with UPDATE_DOCS=1. -->\n\n\
         Every metric of Heapster, the objects that carry it, and the PromQL that derives it from Tidemark's \
         series. Run the expressions against `/api/v1/query`: no endpoint serves Heapster's names yet. Values come \
         from the kernel, from the node's kubelet, or from the API server. A value that its source does not report \
         is absent, never 0. The units are those of the values; Heapster declared many wrongly.\n\n\
         | Metric | HeapsterKind | Unit | Objects |\n|---|---|---|---|\n",
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

fn section(entry: &HeapsterMetric, page: &mut String) {
    let labelled = if entry.is_labelled {
        ", one value per `resource_id`"
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
            "\nFor objects of type `{}`, from {provider}:\n\n```promql\n{}\n```\n",
            derivation.object.heapster_type(),
            derivation.expression
        );
    }
}

const fn kind(kind: HeapsterKind) -> &'static str {
    match kind {
        HeapsterKind::Cumulative => "cumulative",
        HeapsterKind::Gauge => "gauge",
    }
}

/// Returns the anchor of a heading: letters, digits, dashes and underscores are kept.
fn anchor(heading: &str) -> String {
    heading
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
        .collect()
}
