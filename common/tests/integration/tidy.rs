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
