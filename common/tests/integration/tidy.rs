//! Rules that no compiler checks: files stay readable, and nothing unfinished is left in them.

use regex::Regex;

use super::workspace::{assert_none, rust_files, text_files};

/// Longest source file, in lines, unit tests excluded.
const SOURCE_LINES_MAX: usize = 700;

#[test]
fn source_files_stay_below_the_length_limit() {
    let files = rust_files();
    let files = files.iter().filter(|file| !file.is_test_code());
    let lengths = files.map(|file| (file, file.production_code().lines().count()));
    let long = lengths.filter(|(_, lines)| *lines > SOURCE_LINES_MAX);
    let long = long.map(|(file, lines)| format!("{}: {lines} lines", file.path.display()));
    assert_none(
        &long.collect::<Vec<_>>(),
        "split files with several ideas, they are too long",
    );
}

#[test]
fn every_module_has_documentation() {
    let files = rust_files();
    let bare = files.iter().filter(|file| {
        !file.path.ends_with("tests.rs") && !file.text.lines().any(|line| line.starts_with("//!"))
    });
    let bare: Vec<_> = bare.map(|file| file.path.display().to_string()).collect();
    assert_none(&bare, "no module documentation");
}

#[test]
fn nothing_unfinished_is_left_in_sources() {
    // Spelled in two halves, so that this file does not find itself.
    let words = [
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("to", r"do!\("),
        concat!("unimple", r"mented!\("),
    ];
    let words = Regex::new(&words.join("|")).unwrap();
    let mut found = Vec::new();
    for file in text_files() {
        if file.is_rust() || file.path.starts_with("scripts") {
            let hits = words.find_iter(&file.text);
            found.extend(hits.map(|hit| format!("{}: {}", file.place(hit.start()), hit.as_str())));
        }
    }
    assert_none(&found, "unfinished");
}

#[test]
fn links_between_documents_resolve() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut broken = Vec::new();
    for file in text_files().iter().filter(|file| file.is_markdown()) {
        let folder = super::workspace::workspace().join(&file.path);
        for found in link.captures_iter(&file.text) {
            let (whole, target) = (found.get(0).unwrap(), &found[1]);
            let target = target.split('#').next().unwrap_or_default();
            let is_local = !target.is_empty() && !target.contains("://");
            if is_local && !folder.with_file_name(target).exists() {
                broken.push(format!("{}: {target}", file.place(whole.start())));
            }
        }
    }
    assert_none(&broken, "broken links");
}
