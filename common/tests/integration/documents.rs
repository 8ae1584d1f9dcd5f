//! Documents point to things that exist: files, folders, headings.

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;

use super::workspace::{TextFile, assert_none, text_files, workspace};

fn documents() -> Vec<TextFile> {
    let mut files = text_files();
    files.retain(TextFile::is_markdown);
    files
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

#[test]
fn links_between_documents_resolve() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut broken = Vec::new();
    for file in documents() {
        for found in link.captures_iter(&file.text) {
            let (path, heading) = found[1].split_once('#').unwrap_or((&found[1], ""));
            if path.contains(':') {
                continue;
            }
            let target = workspace().join(&file.path).with_file_name(path);
            let text = match path {
                "" => Some(file.text.clone()),
                _ if target.is_dir() => Some(String::new()),
                _ => std::fs::read_to_string(&target).ok(),
            };
            let exists = text.is_some_and(|text| {
                heading.is_empty()
                    || anchors(&text).contains(heading)
                    || !path.ends_with(".md") && !path.is_empty()
            });
            if !exists {
                let at = found.get(0).unwrap().start();
                broken.push(format!("{}: {}", file.place(at), &found[1]));
            }
        }
    }
    assert_none(&broken, "links that lead nowhere");
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn expand(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let Some((choices, after)) = rest.split_once('}') else {
        return vec![path.to_owned()];
    };
    let choices = choices.split(',').map(str::trim);
    choices
        .flat_map(|choice| expand(&format!("{before}{choice}{after}")))
        .collect()
}

/// Paths in backticks that begin with a folder of the workspace; `<name>` and `*` stand for something to fill in.
fn paths_in(text: &str) -> Vec<(usize, String)> {
    let quoted = Regex::new(r"`([A-Za-z0-9_.-]+/[A-Za-z0-9_./{},<>*-]*)`").unwrap();
    let mut found = Vec::new();
    for hit in quoted.captures_iter(text) {
        let path = &hit[1];
        let top = path.split('/').next().unwrap_or_default();
        let is_open = path.contains(['<', '*']);
        if !is_open && workspace().join(top).is_dir() && top != "target" && !top.is_empty() {
            let at = hit.get(0).unwrap().start();
            found.extend(expand(path).into_iter().map(|path| (at, path)));
        }
    }
    found
}

#[test]
fn paths_in_documents_exist() {
    let mut missing = Vec::new();
    for file in documents() {
        // The change log names files of earlier versions.
        if file.path == Path::new("CHANGELOG.md") {
            continue;
        }
        for (at, path) in paths_in(&file.text) {
            if !workspace().join(&path).try_exists().unwrap() {
                missing.push(format!("{}: {path}", file.place(at)));
            }
        }
    }
    assert_none(&missing, "paths that do not exist");
}

#[test]
fn how_to_add_sections_name_their_files() {
    let file = documents();
    let Some(file) = file
        .iter()
        .find(|file| file.path == Path::new("ARCHITECTURE.md"))
    else {
        return;
    };
    let start = file
        .text
        .find("How to add")
        .expect("ARCHITECTURE.md has the section");
    let section = file.text.get(start..).unwrap_or_default();
    let paths = paths_in(section);
    assert!(
        !paths.is_empty(),
        "paths are written from the workspace's root, in backticks"
    );
}

#[test]
fn paths_and_anchors_are_read_as_written() {
    assert_eq!(
        anchor(" How to add a `collector`, quickly"),
        "how-to-add-a-collector-quickly"
    );
    assert_eq!(expand("a/{b,c}/d.rs"), ["a/b/d.rs", "a/c/d.rs"]);
    let found = paths_in(
        "`common/src/lib.rs` `common/{src,tests}/` `common/src/<name>.rs` `x/y` `/metrics`",
    );
    let found: Vec<_> = found.into_iter().map(|(_, path)| path).collect();
    assert_eq!(found, ["common/src/lib.rs", "common/src/", "common/tests/"]);
}
