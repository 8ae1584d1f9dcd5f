//! docs/metrics.md lists every metric that agent and aggregator keep of themselves, as the sources declare them.
//!
//! Declarations are `metric!(Type, "name", "help")`, a line `field: Type = "name", "help";` of `metrics!`, or a
//! collector's `counter("agent_..", "help")`. The tests over the running binaries
//! (`own_metrics_are_in_the_documentation`) check the page against what is really served.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use regex::Regex;

use super::workspace::{TextFile, assert_none, rust_files, workspace};

const INTRO: &str = "# Own metrics

What Tidemark measures of itself. The agent serves its metrics on `/metrics` and also sends them to the aggregator. The
aggregator serves its own on `/metrics`. Some series appear only after their first event.

This page is generated: `UPDATE_DOCS=1 cargo test -p common --test integration metrics_page`.
";

/// A metric family.
#[derive(Debug, PartialEq, Eq)]
struct MetricFamily {
    metric_type: String,
    help: String,
    is_agent: bool,
}

/// Matches a declaration: its type, name and help.
fn declaration() -> Regex {
    let text = r#""((?:[^"\\]|\\.|\\\n)*)""#;
    let declared = r"(?:metric!\(\s*|:\s*(?:By<\s*)?|\b)";
    let between = r"(?:,\s*\w+>)?(?:,\s*|\s*=\s*|\(\s*)";
    let instrument = "(Counter|Gauge|Histogram|counter|gauge|info)";
    Regex::new(&format!(r"{declared}{instrument}{between}{text},\s*{text}")).unwrap()
}

/// Own metrics have one of these prefixes.
fn is_own(name: &str) -> bool {
    let prefix = name.split('_').next().unwrap_or_default();
    matches!(prefix, "agent" | "aggregator" | "process" | "tidemark") && name != prefix
}

fn is_production(file: &TextFile) -> bool {
    let folders = ["agent", "aggregator", "common", "link"];
    folders.iter().any(|folder| file.path.starts_with(folder))
        && !file.is_test_code()
        && !file.path.iter().any(|part| part == "examples")
}

/// Every declared family, and the places that name one without declaring it.
fn families() -> (BTreeMap<String, MetricFamily>, Vec<String>) {
    let declaration = declaration();
    let name = Regex::new(r#""((?:agent|aggregator|process|tidemark)_[a-z0-9_]+)""#).unwrap();
    let continued = Regex::new(r"\\\n\s*").unwrap();
    let (mut families, mut named) = (BTreeMap::new(), Vec::new());
    for file in rust_files().iter().filter(|file| is_production(file)) {
        let code = file.production_code();
        for found in declaration.captures_iter(code) {
            let help = continued.replace_all(&found[3], "").replace("\\\"", "\"");
            let metric_type = match found[1].to_ascii_lowercase().as_str() {
                "info" => "gauge".to_owned(),
                other => other.to_owned(),
            };
            let family = MetricFamily {
                metric_type,
                help,
                is_agent: file.path.starts_with("agent") || file.path.starts_with("link"),
            };
            if is_own(&found[2]) {
                families.insert(found[2].to_owned(), family);
            }
        }
        for found in name.captures_iter(code) {
            named.push((
                found[1].to_owned(),
                file.place(found.get(0).unwrap().start()),
            ));
        }
    }
    named.retain(|(name, _)| !families.contains_key(name) && !NOT_METRICS.contains(&&**name));
    let undeclared = named
        .into_iter()
        .map(|(name, place)| format!("{place}: {name}"));
    (families, undeclared.collect())
}

/// Strings with the prefix of a metric that name something else.
const NOT_METRICS: &[&str] = &[
    // A field of WeChat's configuration.
    "agent_id",
];

fn unit(name: &str) -> &'static str {
    let stem = name.strip_suffix("_total").unwrap_or(name);
    ["seconds", "bytes", "ratio"]
        .into_iter()
        .find(|unit| stem.ends_with(unit))
        .unwrap_or("")
}

fn page(families: &BTreeMap<String, MetricFamily>) -> String {
    let mut page = INTRO.to_owned();
    let mut table = |title: &str, is_listed: &dyn Fn(&str, &MetricFamily) -> bool| {
        write!(
            page,
            "\n## {title}\n\n| name | type | unit | meaning |\n| --- | --- | --- | --- |\n"
        )
        .unwrap();
        for (name, family) in families.iter().filter(|(name, it)| is_listed(name, it)) {
            let help = family.help.replace('|', "\\|");
            let metric_type = &family.metric_type;
            writeln!(
                page,
                "| `{name}` | {metric_type} | {} | {help} |",
                unit(name)
            )
            .unwrap();
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
fn page_lists_every_declared_metric() {
    let (families, undeclared) = families();
    assert!(families.len() > 80, "the sources were found");
    assert_none(
        &undeclared,
        "declare the metric with metric! or metrics!, then name it by its constant",
    );
    let path = workspace().join("docs/metrics.md");
    let wanted = page(&families);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let current = fs::read_to_string(&path).unwrap();
    assert!(
        current == wanted,
        "docs/metrics.md is out of date: run this test with UPDATE_DOCS=1"
    );
}

#[test]
fn declarations_of_each_form_are_found() {
    for text in [
        r#"metric!(Gauge, "agent_x", "X y.")"#,
        "metric!(\n    Gauge,\n    \"agent_x\",\n    \"X \\\n    y.\"\n);",
        r#"pub x: Gauge = "agent_x", "X y.";"#,
        r#"x: By<Gauge, Reason> = "agent_x", "X y.";"#,
        r#"const X: FamilyDef = gauge("agent_x", "X y.");"#,
    ] {
        let found = declaration().captures(text);
        let found = found.map(|found| (found[1].to_ascii_lowercase(), found[2].to_owned()));
        assert_eq!(
            found,
            Some(("gauge".to_owned(), "agent_x".to_owned())),
            "{text}"
        );
    }
}
