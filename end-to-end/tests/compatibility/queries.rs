//! Queries of other projects' rules and dashboards, from the shared fixtures.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// Rule files with recording rules.
const RULES: [&str; 2] = ["kubernetesControlPlane", "nodeExporter"];

/// A query and its origin.
#[derive(Debug)]
pub(super) struct Query {
    /// Description for messages.
    pub(super) place: String,
    /// Name of a recording rule's result.
    pub(super) record: Option<String>,
    /// Labels that the recording rule adds.
    pub(super) labels: BTreeMap<String, String>,
    /// Name of the dashboard, empty for rules.
    pub(super) dashboard: String,
    /// The expression, with Grafana's variables.
    raw: String,
    /// The expression with variables replaced, so that it parses.
    pub(super) text: String,
}

impl Query {
    /// Returns the expression with these values of Grafana's variables; durations are five minutes.
    pub(super) fn with(&self, variables: &BTreeMap<&str, String>) -> String {
        interpolated(&self.raw, |name| {
            variables
                .get(name)
                .cloned()
                .unwrap_or_else(|| panic!("no value for ${name}"))
        })
    }
}

/// All queries.
#[derive(Debug)]
pub(super) struct Queries {
    pub(super) all: Vec<Query>,
    pub(super) records: BTreeSet<String>,
    /// Alerts of the same files: name and expression.
    pub(super) alerts: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Returns the directory of fixtures; prints a message and returns `None` if it is missing.
pub(super) fn fixtures() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("TIDEMARK_SHARED").map_or(beside, PathBuf::from);
    let fixtures = shared.join("fixtures");
    if fixtures.is_dir() {
        return Some(fixtures);
    }
    eprintln!(
        "SKIPPED: no rules and dashboards in {} (set TIDEMARK_SHARED)",
        fixtures.display()
    );
    None
}

/// Whether a dashboard must work.
fn counts(name: &str) -> bool {
    let foreign = ["windows", "aix", "darwin"]
        .iter()
        .any(|system| name.contains(system));
    let begins = ["k8s-resources-", "node-", "namespace-by-"];
    let is = [
        "nodes",
        "kubelet",
        "persistentvolumesusage",
        "pod-total",
        "cluster-total",
        "workload-total",
    ];
    !foreign && (begins.iter().any(|begin| name.starts_with(begin)) || is.contains(&name))
}

impl Queries {
    pub(super) fn load() -> Option<Self> {
        let fixtures = fixtures()?;
        let mut queries = Self {
            all: Vec::new(),
            records: BTreeSet::new(),
            alerts: Vec::new(),
        };
        for name in RULES {
            queries.load_rules(&fixtures, name);
        }
        let folder = fs::read_dir(fixtures.join("dashboards")).unwrap();
        let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let name = file.file_name().unwrap().to_str().unwrap();
            if let Some(name) = name.strip_suffix(".json.gz").filter(|name| counts(name)) {
                queries.load_dashboard(&file, name);
            }
        }
        queries.number();
        Some(queries)
    }

    /// A panel may have several queries, and a rule several parts. From the second on, they are numbered.
    fn number(&mut self) {
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for query in &mut self.all {
            let count = seen.entry(query.place.clone()).or_default();
            *count += 1;
            if *count > 1 {
                query.place = format!("{} ({count})", query.place);
            }
        }
    }

    fn load_rules(&mut self, fixtures: &Path, name: &str) {
        let path = fixtures.join(format!("rules/kube-prometheus/{name}.yml"));
        let file: RuleFile = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        for Rule {
            record,
            alert,
            expr,
            labels,
        } in file.groups.into_iter().flat_map(|group| group.rules)
        {
            self.alerts.extend(alert.map(|alert| (alert, expr.clone())));
            let Some(record) = record else { continue };
            self.records.insert(record.clone());
            self.all.push(Query {
                place: format!("rule {record}"),
                record: Some(record),
                labels,
                dashboard: String::new(),
                raw: expr.clone(),
                text: expr,
            });
        }
    }

    fn load_dashboard(&mut self, file: &Path, name: &str) {
        let mut text = String::new();
        let mut file = flate2::read::GzDecoder::new(fs::File::open(file).unwrap());
        file.read_to_string(&mut text).unwrap();
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        let mut found = Vec::new();
        expressions(&dashboard, "", &mut found);
        assert!(!found.is_empty(), "{name} has no panels");
        variables(&dashboard, &mut found);
        for (panel, expr) in found {
            self.all.push(Query {
                place: format!("{name}: {panel}"),
                record: None,
                labels: BTreeMap::new(),
                dashboard: name.to_owned(),
                text: interpolated(&expr, |_| ".*".to_owned()),
                raw: expr,
            });
        }
    }
}

/// Returns every `expr` of a panel's targets, with the panel's title.
fn expressions(value: &Value, title: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            let title = object.get("title").and_then(Value::as_str).unwrap_or(title);
            if let Some(expr) = object.get("expr").and_then(Value::as_str) {
                found.push((title.to_owned(), expr.to_owned()));
            }
            for value in object.values() {
                expressions(value, title, found);
            }
        }
        Value::Array(array) => array
            .iter()
            .for_each(|value| expressions(value, title, found)),
        _ => {}
    }
}

/// Returns the selector of each variable defined by `label_values(selector, label)`.
fn variables(dashboard: &Value, found: &mut Vec<(String, String)>) {
    let label_values = regex::Regex::new(r"(?s)^\s*label_values\((.+),\s*\w+\s*\)\s*$").unwrap();
    let variables = dashboard["templating"]["list"].as_array();
    for variable in variables.into_iter().flatten() {
        let query = variable["query"]
            .as_str()
            .or_else(|| variable["query"]["query"].as_str());
        if let Some(selector) = query.and_then(|query| label_values.captures(query)) {
            let place = format!("variable {}", variable["name"]);
            found.push((place, selector[1].to_owned()));
        }
    }
}

/// Replaces Grafana's variables: durations by five minutes, others by the result of `value`.
fn interpolated(expr: &str, value: impl Fn(&str) -> String) -> String {
    let variable = regex::Regex::new(r"\$\{?([A-Za-z_]+)(?::[a-z]+)?\}?").unwrap();
    let durations = [
        "__rate_interval",
        "__interval",
        "__range",
        "interval",
        "resolution",
    ];
    let replace = |found: &regex::Captures<'_>| {
        let name = found.get(1).map_or("", |name| name.as_str());
        if durations.contains(&name) {
            "5m".to_owned()
        } else {
            value(name)
        }
    };
    variable.replace_all(expr, replace).into_owned()
}
