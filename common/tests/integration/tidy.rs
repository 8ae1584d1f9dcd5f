//! What no compiler checks: that files stay readable, and that nothing unfinished or foreign is left in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines after which a source file holds more than one idea; tests apart.
const SOURCE_LINES_MAX: usize = 800;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The files git tracks, relative to the workspace; `None` where there is no git checkout (a release archive).
fn tracked_files() -> Option<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(workspace())
        .output()
        .ok()?;
    if !output.status.success() {
        eprintln!("SKIPPED: not a git checkout, so there is no list of files to look at");
        return None;
    }
    let list = String::from_utf8(output.stdout).unwrap();
    Some(
        list.split('\0')
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .collect(),
    )
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn is_test_code(path: &Path) -> bool {
    path.components()
        .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "benches")))
        || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// Lines before the unit tests of a file.
fn code_lines(text: &str) -> usize {
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count()
}

#[test]
fn source_files_hold_one_idea() {
    let Some(files) = tracked_files() else { return };
    let mut long = Vec::new();
    for path in files
        .iter()
        .filter(|path| is_rust(path) && !is_test_code(path))
    {
        let lines = code_lines(&fs::read_to_string(workspace().join(path)).unwrap());
        if lines > SOURCE_LINES_MAX {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(
        long.is_empty(),
        "over {SOURCE_LINES_MAX} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn modules_begin_with_what_they_are_for() {
    let Some(files) = tracked_files() else { return };
    let mut bare = Vec::new();
    for path in files
        .iter()
        .filter(|path| is_rust(path) && !path.ends_with("tests.rs"))
    {
        let text = fs::read_to_string(workspace().join(path)).unwrap();
        if !text.lines().any(|line| line.starts_with("//!")) {
            bare.push(path.display().to_string());
        }
    }
    assert!(
        bare.is_empty(),
        "no module documentation:\n{}",
        bare.join("\n")
    );
}

#[test]
fn nothing_unfinished_is_left_in_sources() {
    // Spelled in two halves so that this file does not find itself.
    let words = [
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
    ];
    let Some(files) = tracked_files() else { return };
    let mut found = Vec::new();
    for path in files
        .iter()
        .filter(|path| is_rust(path) || path.starts_with("scripts"))
    {
        let Ok(text) = fs::read_to_string(workspace().join(path)) else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "unfinished:\n{}", found.join("\n"));
}

#[test]
fn links_between_documents_lead_somewhere() {
    let Some(files) = tracked_files() else { return };
    let mut broken = Vec::new();
    for path in files
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
    {
        let text = fs::read_to_string(workspace().join(path)).unwrap();
        let folder = workspace().join(path).parent().unwrap().to_owned();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap_or("");
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            if !folder.join(target).try_exists().unwrap() {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}
