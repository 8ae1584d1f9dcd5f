//! Every dependency that a manifest names is used by the code it is for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use super::workspace::{TextFile, assert_none, text_files};

/// Dependencies that no code names, with the reason. `crate: dependency`.
const UNNAMED: &[(&str, &str)] = &[(
    "aggregator: regex",
    "its tests include tests/integration/script.rs of promql",
)];

/// A dependency as a manifest states it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Dependency {
    /// Key in the manifest, which is also its name in code, with `-` for `_`.
    name: String,
    /// Whether only tests and benches may use it.
    is_dev: bool,
}

/// The entries of a manifest's tables of dependencies.
fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        if let Some(header) = line.trim().strip_prefix('[') {
            section = header.trim_end_matches(']');
            continue;
        }
        let is_dev = section.ends_with("dev-dependencies");
        let is_listed = section.ends_with("dependencies") && section != "workspace.dependencies";
        let key = line.split(['=', '.']).next().unwrap_or_default().trim();
        if is_listed && !key.is_empty() && !key.starts_with('#') && line.contains('=') {
            let name = key.trim_matches('"').to_owned();
            found.push(Dependency { name, is_dev });
        }
    }
    found
}

/// The keys of `[workspace.dependencies]`.
fn workspace_dependencies(manifest: &str) -> BTreeSet<String> {
    let table = manifest.split("[workspace.dependencies]").nth(1);
    let table = table
        .unwrap_or_default()
        .split("\n[")
        .next()
        .unwrap_or_default();
    let key = Regex::new(r"(?m)^([A-Za-z0-9_-]+)\s*=").unwrap();
    key.captures_iter(table)
        .map(|found| found[1].to_owned())
        .collect()
}

/// The first segments of paths in code, which are the crates it may name.
fn path_roots(code: &str) -> BTreeSet<String> {
    static COMMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^\s*//.*$").unwrap());
    static ROOT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b([a-z][a-z0-9_]*)::|\buse ([a-z][a-z0-9_]*)(?:;| as )").unwrap()
    });
    let code = COMMENT.replace_all(code, "");
    let roots = ROOT.captures_iter(&code);
    roots
        .filter_map(|found| Some(found.get(1).or(found.get(2))?.as_str().to_owned()))
        .collect()
}

/// The code of a crate that may use a dependency.
fn code_of<'a>(
    files: &'a [TextFile],
    folder: &Path,
    other_crates: &[PathBuf],
) -> Vec<&'a TextFile> {
    let is_own = |path: &Path| {
        let nested = other_crates
            .iter()
            .any(|other| other != folder && other.starts_with(folder) && path.starts_with(other));
        path.starts_with(folder) && !nested
    };
    let files = files.iter().filter(|file| file.is_rust());
    files.filter(|file| is_own(&file.path)).collect()
}

#[test]
fn every_dependency_is_used() {
    let files = text_files();
    let manifests: Vec<_> = files
        .iter()
        .filter(|file| file.path.ends_with("Cargo.toml"))
        .collect();
    let folders: Vec<_> = manifests
        .iter()
        .filter_map(|file| file.path.parent().map(Path::to_owned))
        .collect();
    let mut unused = Vec::new();
    let mut stated = BTreeSet::new();
    let mut available = BTreeSet::new();
    for manifest in manifests {
        let folder = manifest.path.parent().unwrap();
        if folder == Path::new("") {
            available = workspace_dependencies(&manifest.text);
            continue;
        }
        let code = code_of(&files, folder, &folders);
        let production = code.iter().filter(|file| !file.is_test_code());
        let production: BTreeSet<_> = production
            .flat_map(|file| path_roots(file.production_code()))
            .collect();
        let all: BTreeSet<_> = code
            .iter()
            .flat_map(|file| path_roots(&file.text))
            .collect();
        for dependency in dependencies(&manifest.text) {
            let used = if dependency.is_dev { &all } else { &production };
            let key = format!("{}: {}", folder.display(), dependency.name);
            let is_known = UNNAMED.iter().any(|(known, _)| *known == key);
            if !used.contains(&dependency.name.replace('-', "_")) && !is_known {
                unused.push(key);
            }
            stated.insert(dependency.name);
        }
    }
    assert_none(&unused, "dependencies that no code uses");
    let idle: Vec<String> = available.difference(&stated).cloned().collect();
    assert_none(&idle, "workspace dependencies that no member uses");
}

#[test]
fn manifests_are_read_as_cargo_reads_them() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na-b.workspace = true\n# c = 1\n\
        d = { version = \"1\", optional = true }\n[dev-dependencies]\ne = \"1\"\n[[bin]]\nf = 1\n";
    let found = dependencies(manifest);
    let found: Vec<_> = found.iter().map(|it| (&*it.name, it.is_dev)).collect();
    assert_eq!(found, [("a-b", false), ("d", false), ("e", true)]);
    let manifest = "[workspace.dependencies]\na = \"1\"\n# b\nc = { path = \"c\" }\n[workspace.lints]\nd = 1\n";
    let found = workspace_dependencies(manifest);
    assert!(found.iter().eq(["a", "c"]), "{found:?}");
}

#[test]
fn uses_of_a_crate_are_found() {
    for code in [
        "use a_b::C;",
        "let x = a_b::c();",
        "use a_b as d;",
        "#[a_b::main]",
        "    a_b::x(\n",
    ] {
        assert!(path_roots(code).contains("a_b"), "{code}");
    }
    for code in [
        "// a_b::C",
        "use xa_b::C;",
        "let a_b = 1;",
        "//! Uses a_b::C.",
    ] {
        assert!(!path_roots(code).contains("a_b"), "{code}");
    }
}
