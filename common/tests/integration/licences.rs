//! Which licences and registries the dependencies come from; the lists are those of deny.toml.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The quoted strings of the array `key` in deny.toml.
fn deny_list(key: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("deny.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let rest = text
        .split(&format!("{key} = ["))
        .nth(1)
        .expect("deny.toml has the list");
    let list = rest.split(']').next().unwrap();
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Whether an SPDX expression can be satisfied by `allowed`: `OR` takes one side, `AND` needs both.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
    flat.split(" AND ").all(|all| {
        all.split(" OR ").map(str::trim).any(|one| {
            // An exception only adds permissions.
            allowed.contains(one.split(" WITH ").next().unwrap_or(one))
        })
    })
}

#[test]
fn dependencies_are_under_licences_we_accept() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed = deny_list("allow");
    let mut refused = Vec::new();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "the dependency list is complete");
    for package in packages
        .iter()
        .filter(|package| !package["source"].is_null())
    {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or("none");
        if !is_allowed(licence, &allowed) {
            refused.push(format!("{name}: {licence}"));
        }
        let source = package["source"].as_str().unwrap();
        assert!(
            source.starts_with("registry+"),
            "{name} comes from {source}"
        );
    }
    assert!(
        refused.is_empty(),
        "licences outside deny.toml:\n{}",
        refused.join("\n")
    );
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
    assert!(is_allowed("MIT OR Apache-2.0", &allowed));
    assert!(is_allowed("Apache-2.0/MIT", &allowed));
    assert!(is_allowed("(MIT OR Apache-2.0) AND ISC", &allowed));
    assert!(!is_allowed("MIT AND Apache-2.0", &allowed));
    assert!(!is_allowed("GPL-3.0", &allowed));
}
