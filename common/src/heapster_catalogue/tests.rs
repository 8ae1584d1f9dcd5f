use std::collections::BTreeSet;
use std::path::Path;

use super::*;

#[test]
fn names_are_unique_and_every_metric_is_derived_or_explained() {
    let names: BTreeSet<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), ENTRIES.len());
    for entry in ENTRIES {
        assert!(
            !entry.derivations.is_empty() || !entry.note.is_empty(),
            "{}: neither derived nor explained",
            entry.name
        );
        assert_eq!(find(entry.name).unwrap().name, entry.name);
    }
    assert!(find("cpu/nonsense").is_none());
}

#[test]
fn expressions_keep_the_labels_of_their_object() {
    for entry in ENTRIES {
        for derivation in entry.derivations {
            let text = derivation.expression;
            assert!(series_of(text).next().is_some(), "{}: {text}", entry.name);
            assert_eq!(
                text.matches('(').count(),
                text.matches(')').count(),
                "{text}"
            );
            for label in derivation.object.labels() {
                assert!(text.contains(label), "{}: {text} loses {label}", entry.name);
            }
            assert_eq!(
                entry.is_labelled,
                text.contains("resource_id"),
                "{}: {text}",
                entry.name
            );
        }
    }
}

#[test]
fn page_is_generated_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/heapster-metrics.md");
    let page = markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/heapster-metrics.md is out of date: run this test with UPDATE_DOCS=1"
    );
}
