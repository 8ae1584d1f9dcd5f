//! docs/metrics.md: every metric that agent and aggregator keep of themselves, as the sources register them. The tests over
//! the running binaries (`own_metrics_are_in_the_documentation`) hold the same page to what is really served.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

const INTRO: &str = "# Own metrics

What Tidemark measures of itself. The agent serves these on `/metrics` (those of its collectors are sent to the aggregator
too), the aggregator on its own `/metrics`. A series appears when its first event does, where that is the meaning.
This page is written from the sources: `UPDATE_DOCS=1 cargo test -p common --test integration metrics_page`.
";

/// A metric family.
#[derive(Debug, PartialEq, Eq)]
struct Family {
    kind: String,
    help: String,
    is_agent: bool,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" && name != "examples" {
            sources(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// Every family that non-test code names with its help, and the names that stand there without one.
fn families() -> (BTreeMap<String, Family>, Vec<String>) {
    let name =
        Regex::new(r#""((?:agent|aggregator|process|tidemark)_[a-z0-9_]+)"(,\s*(?:"((?:[^"\\]|\\.|\\\n)*)"|(help)\b))?"#)
            .unwrap();
    let call = Regex::new(r"(counter|gauge|histogram)(?:_fn)?\(\s*$").unwrap();
    let variable = Regex::new(r#"let help =\s*"((?:[^"\\]|\\.|\\\n)*)";"#).unwrap();
    let going_on = Regex::new(r"\\\n\s*").unwrap();
    let mut files = Vec::new();
    for folder in ["agent/src", "aggregator", "common/src"] {
        sources(&workspace().join(folder), &mut files);
    }
    let (mut families, mut bare) = (BTreeMap::new(), Vec::new());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
        for found in name.captures_iter(code) {
            let name = found[1].to_owned();
            let start = found.get(0).unwrap().start();
            let before = code.get(..start).unwrap_or_default();
            // Beside the name, or in a variable right before the call.
            let told = found.get(3).map(|help| help.as_str());
            let earlier = found
                .get(4)
                .and_then(|_| variable.captures_iter(before).last());
            let told = told.or(earlier.and_then(|help| Some(help.get(1)?.as_str())));
            let Some(help) = told.filter(|help| help.contains(' ')) else {
                bare.push(name);
                continue;
            };
            let by_name = if name.ends_with("_total") {
                "counter"
            } else {
                "gauge"
            };
            let kind = call
                .captures(before)
                .map_or(by_name.to_owned(), |kind| kind[1].to_owned());
            // A line that goes on behind a backslash.
            let help = going_on.replace_all(help, "").replace("\\\"", "\"");
            let is_agent = path.starts_with(workspace().join("agent"));
            families.insert(
                name,
                Family {
                    kind,
                    help,
                    is_agent,
                },
            );
        }
    }
    bare.retain(|name| !families.contains_key(name));
    (families, bare)
}

fn unit(name: &str) -> &'static str {
    let stem = name.strip_suffix("_total").unwrap_or(name);
    ["seconds", "bytes", "ratio"]
        .into_iter()
        .find(|unit| stem.ends_with(unit))
        .unwrap_or("")
}

fn page(families: &BTreeMap<String, Family>) -> String {
    let mut page = INTRO.to_owned();
    let mut table = |title: &str, of: &dyn Fn(&str, &Family) -> bool| {
        write!(
            page,
            "\n## {title}\n\n| name | type | unit | meaning |\n| --- | --- | --- | --- |\n"
        )
        .unwrap();
        for (name, family) in families.iter().filter(|(name, family)| of(name, family)) {
            let Family { kind, help, .. } = family;
            let help = help.replace('|', "\\|");
            writeln!(page, "| `{name}` | {kind} | {} | {help} |", unit(name)).unwrap();
        }
    };
    table("Agent", &|_, family| family.is_agent);
    table("Aggregator", &|name, family| {
        !family.is_agent && !name.starts_with("process_")
    });
    table("Both", &|name, _| name.starts_with("process_"));
    page
}

#[test]
fn page_names_every_metric_that_the_sources_register_and_no_other() {
    let (families, bare) = families();
    assert!(families.len() > 80, "the sources were found");
    // A receiver's field, no metric.
    let bare: Vec<&String> = bare.iter().filter(|name| *name != "agent_id").collect();
    assert!(
        bare.is_empty(),
        "no help beside the name, so the page can't have it: {bare:?}"
    );
    let path = workspace().join("docs/metrics.md");
    let wanted = page(&families);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let current = fs::read_to_string(&path).unwrap();
    assert!(
        current == wanted,
        "docs/metrics.md is old: run this test with UPDATE_DOCS=1"
    );
}
