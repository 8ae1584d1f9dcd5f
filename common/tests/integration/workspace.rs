//! The files of the workspace, as the tidy tests read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder that holds all crates.
pub(crate) fn workspace() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap().to_owned()
}

/// A tracked text file.
pub(crate) struct TextFile {
    /// Path relative to the workspace.
    pub(crate) path: PathBuf,
    /// Content.
    pub(crate) text: String,
}

impl TextFile {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|it| it == "rs")
    }

    pub(crate) fn is_markdown(&self) -> bool {
        self.path.extension().is_some_and(|it| it == "md")
    }

    /// Whether only tests and benches use it.
    pub(crate) fn is_test_code(&self) -> bool {
        let in_folder = self
            .path
            .iter()
            .any(|part| part == "tests" || part == "benches");
        in_folder || self.path.ends_with("tests.rs")
    }

    /// The text before the unit tests.
    pub(crate) fn production_code(&self) -> &str {
        let start = "\n#[cfg(test)]\nmod tests {";
        self.text.split(start).next().unwrap_or_default()
    }

    /// `path:line`, for a byte offset into the text.
    pub(crate) fn place(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        format!("{}:{line}", self.path.display())
    }
}

/// Every tracked file that is valid UTF-8; nothing where there is no git checkout (a release archive).
pub(crate) fn text_files() -> Vec<TextFile> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(workspace())
        .output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        eprintln!("SKIPPED: not a git checkout, so there is no list of files");
        return Vec::new();
    };
    let list = String::from_utf8(output.stdout).unwrap();
    let paths = list.split('\0').filter(|path| !path.is_empty());
    let files = paths.filter_map(|path| {
        let text = fs::read_to_string(workspace().join(path)).ok()?;
        Some(TextFile {
            path: path.into(),
            text,
        })
    });
    files.collect()
}

/// The Rust files of the workspace.
pub(crate) fn rust_files() -> Vec<TextFile> {
    let mut files = text_files();
    files.retain(TextFile::is_rust);
    files
}

/// Fails with the list of findings.
#[track_caller]
pub(crate) fn assert_none(found: &[String], problem: &str) {
    assert!(found.is_empty(), "{problem}:\n{}", found.join("\n"));
}
