//! `tidemarkctl top`: CPU and memory usage, with kubectl's meaning.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use super::args::{SortBy, Top, TopOptions};
use super::client::Client;
use super::output::{Failure, Output, Table};

/// Two queries with the same labels: CPU cores and bytes of memory.
struct UsageQueries {
    labels: &'static [&'static str],
    cpu: String,
    memory: String,
}

/// CPU and memory of one row.
#[derive(Debug, Default, Clone, Copy)]
struct Usage {
    cores: f64,
    bytes: f64,
}

pub(crate) fn run(client: &Client, output: &Output, command: &Top) -> Result<(), Failure> {
    let (options, queries) = match command {
        Top::Nodes(options) => (options, nodes()),
        Top::Pods(options) => (options, pods(options)),
        Top::Containers(options) => (options, containers(options)),
    };
    let mut usage: BTreeMap<Vec<String>, Usage> = BTreeMap::new();
    ask(client, &queries, &queries.cpu, |key, value| {
        usage.entry(key).or_default().cores = value;
    })?;
    ask(client, &queries, &queries.memory, |key, value| {
        usage.entry(key).or_default().bytes = value;
    })?;
    let mut rows: Vec<_> = usage.into_iter().collect();
    let order = |usage: &Usage| match options.sort_by {
        SortBy::Cpu => usage.cores,
        SortBy::Memory => usage.bytes,
    };
    rows.sort_by(|a, b| order(&b.1).total_cmp(&order(&a.1)));
    rows.truncate(options.limit);
    let data = to_json(queries.labels, &rows);
    output.print(&data, |_| to_table(queries.labels, &rows))
}

/// Memory is the working set of the root cgroup, which the kubelet reports and `kubectl top` shows. Where the kernel
/// has no such value (cgroup v2), it is the memory that is not available.
fn nodes() -> UsageQueries {
    UsageQueries {
        labels: &["node"],
        cpu: r#"sum by (node) (rate(node_cpu_seconds_total{mode!~"idle|iowait|steal"}[1m]))"#
            .into(),
        memory: "sum by (node) (container_memory_working_set_bytes{id=\"/\"}) or \
                 sum by (node) (node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes)"
            .into(),
    }
}

fn namespace(options: &TopOptions) -> String {
    options
        .namespace
        .as_ref()
        .map_or_else(String::new, |name| format!(",namespace={name:?}"))
}

fn pods(options: &TopOptions) -> UsageQueries {
    let only = namespace(options);
    let of = |series: &str, range: &str| {
        format!("{series}{{pod!=\"\",container!=\"\",container!=\"POD\"{only}}}{range}")
    };
    UsageQueries {
        labels: &["namespace", "pod"],
        cpu: format!(
            "sum by (namespace, pod) (rate({}))",
            of("container_cpu_usage_seconds_total", "[1m]")
        ),
        memory: format!(
            "sum by (namespace, pod) ({})",
            of("container_memory_working_set_bytes", "")
        ),
    }
}

/// Containers, and all cgroups except the root on nodes without pods. On a node with pods the other cgroups are parents
/// of containers, or services of the node, and would count the same usage again.
fn containers(options: &TopOptions) -> UsageQueries {
    let only = namespace(options);
    let query = |usage: &dyn Fn(&str) -> String| {
        let containers = usage(&format!("{{container!=\"\",container!=\"POD\"{only}}}"));
        let labels = "sum by (namespace, pod, container, id)";
        if options.namespace.is_some() {
            // Cgroups have no namespace.
            return format!("{labels} ({containers})");
        }
        let cgroups = usage("{pod=\"\",id!=\"/\"}");
        format!("{labels} ({containers} or ({cgroups} unless on (node) {containers}))")
    };
    UsageQueries {
        labels: &["namespace", "pod", "container", "id"],
        cpu: query(&|matchers| format!("rate(container_cpu_usage_seconds_total{matchers}[1m])")),
        memory: query(&|matchers| format!("container_memory_working_set_bytes{matchers}")),
    }
}

fn ask(
    client: &Client,
    queries: &UsageQueries,
    query: &str,
    mut take: impl FnMut(Vec<String>, f64),
) -> Result<(), Failure> {
    let data = client.api(Method::POST, "query", &[("query", query)])?;
    let result = data.get("result").and_then(Value::as_array);
    for one in result.into_iter().flatten() {
        let label = |name: &&str| {
            let value = one.get("metric").and_then(|metric| metric.get(*name));
            value.and_then(Value::as_str).unwrap_or("").to_owned()
        };
        let value = one.get("value").and_then(|point| point.get(1));
        let number = value.and_then(Value::as_str).and_then(|v| v.parse().ok());
        if let Some(number) = number {
            take(queries.labels.iter().map(label).collect(), number);
        }
    }
    Ok(())
}

fn to_json(labels: &[&str], rows: &[(Vec<String>, Usage)]) -> Value {
    let row = |(key, usage): &(Vec<String>, Usage)| {
        let mut object: serde_json::Map<_, _> = labels
            .iter()
            .zip(key)
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        object.insert("cpu_cores".into(), json!(usage.cores));
        object.insert("memory_bytes".into(), json!(usage.bytes));
        Value::Object(object)
    };
    Value::Array(rows.iter().map(row).collect())
}

/// Formats millicores and mebibytes as kubectl does. Labels without a value in any row are omitted.
fn to_table(labels: &[&str], rows: &[(Vec<String>, Usage)]) -> Table {
    let used: Vec<_> = (0..labels.len())
        .filter(|&at| rows.iter().any(|(key, _)| !key[at].is_empty()))
        .collect();
    let mut table = Table::default();
    table
        .columns
        .extend(used.iter().map(|&at| labels[at].to_owned()));
    table
        .columns
        .extend(["cpu(cores)".to_owned(), "memory(bytes)".to_owned()]);
    for (key, usage) in rows {
        let mut row: Vec<_> = used.iter().map(|&at| key[at].clone()).collect();
        row.push(format!("{:.0}m", usage.cores * 1000.0));
        row.push(format!("{:.0}Mi", usage.bytes / (1024.0 * 1024.0)));
        table.rows.push(row);
    }
    table
}
