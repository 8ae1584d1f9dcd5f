//! `tidemarkctl query`.

use std::collections::BTreeSet;

use common::clock::{Clock as _, SystemClock};
use http::Method;
use serde_json::Value;

use super::args::{Format, Query};
use super::client::Client;
use super::output::{Failure, Output, Table};

pub(crate) fn run(client: &Client, output: &Output, command: Query) -> Result<(), Failure> {
    match command {
        Query::Instant { expression, time } => {
            let mut parameters = vec![("query", expression.as_str())];
            parameters.extend(time.as_deref().map(|time| ("time", time)));
            let data = client.api(Method::POST, "query", &parameters)?;
            output.print(&data, |format| samples(&data, format))
        }
        Query::Range {
            expression,
            start,
            end,
            step,
        } => {
            let now = SystemClock.now_ms() / 1000;
            let end = end.unwrap_or_else(|| now.to_string());
            let start = start.unwrap_or_else(|| (now - 3600).to_string());
            let step = step.unwrap_or_else(|| default_step(&start, &end).to_string());
            let parameters = [
                ("query", expression.as_str()),
                ("start", &start),
                ("end", &end),
                ("step", &step),
            ];
            let data = client.api(Method::POST, "query_range", &parameters)?;
            output.print(&data, |format| samples(&data, format))
        }
        Query::Series {
            matches,
            start,
            end,
        } => {
            let parameters = selectors(&matches, start.as_deref(), end.as_deref());
            let data = client.api(Method::POST, "series", &parameters)?;
            output.print(&data, |format| series(&data, format))
        }
        Query::Labels {
            name,
            matches,
            start,
            end,
        } => {
            let parameters = selectors(&matches, start.as_deref(), end.as_deref());
            let path = match &name {
                Some(name) => format!("label/{}/values", path_segment(name)),
                None => "labels".to_owned(),
            };
            let data = client.api(Method::GET, &path, &parameters)?;
            output.print(&data, |_| {
                let mut table = Table::new(&[name.as_deref().unwrap_or("label")]);
                table.rows = list(&data).map(|one| vec![text(one)]).collect();
                table
            })
        }
    }
}

/// Percent-encodes a label name for a path.
fn path_segment(name: &str) -> String {
    form_urlencoded::byte_serialize(name.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

/// 1/250 of the range, at least a second; a minute if the bounds are not in seconds.
fn default_step(start: &str, end: &str) -> u64 {
    match (start.parse::<f64>(), end.parse::<f64>()) {
        (Ok(start), Ok(end)) => (((end - start) / 250.0).ceil()).max(1.0) as u64,
        _ => 60,
    }
}

fn selectors<'a>(
    matches: &'a [String],
    start: Option<&'a str>,
    end: Option<&'a str>,
) -> Vec<(&'a str, &'a str)> {
    let matches = matches.iter().map(|one| ("match[]", one.as_str()));
    let start = start.map(|start| ("start", start));
    let end = end.map(|end| ("end", end));
    matches.chain(start).chain(end).collect()
}

fn list(data: &Value) -> impl Iterator<Item = &Value> {
    data.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `name{label="value"}`
pub(crate) fn metric(labels: &Value) -> String {
    let Some(map) = labels.as_object() else {
        return String::new();
    };
    let name = map.get("__name__").and_then(Value::as_str).unwrap_or("");
    let pairs: Vec<_> = map
        .iter()
        .filter(|(label, _)| *label != "__name__")
        .map(|(label, value)| format!("{label}={:?}", text(value)))
        .collect();
    if pairs.is_empty() && !name.is_empty() {
        return name.to_owned();
    }
    format!("{name}{{{}}}", pairs.join(", "))
}

fn series(data: &Value, format: Format) -> Table {
    if format == Format::Csv {
        let names = label_names(list(data));
        let mut table = Table::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
        table.rows = list(data).map(|one| cells(one, &names)).collect();
        return table;
    }
    let mut table = Table::new(&["series"]);
    table.rows = list(data).map(|one| vec![metric(one)]).collect();
    table
}

fn label_names<'a>(label_sets: impl Iterator<Item = &'a Value>) -> BTreeSet<String> {
    label_sets
        .filter_map(Value::as_object)
        .flat_map(|map| map.keys().cloned())
        .collect()
}

fn cells(labels: &Value, names: &BTreeSet<String>) -> Vec<String> {
    names
        .iter()
        .map(|name| labels.get(name).map(text).unwrap_or_default())
        .collect()
}

/// One row per sample. CSV has a column per label, a table one column for the series.
fn samples(data: &Value, format: Format) -> Table {
    let result = data.get("result").unwrap_or(&Value::Null);
    let kind = data.get("resultType").and_then(Value::as_str).unwrap_or("");
    if matches!(kind, "scalar" | "string") {
        let mut table = Table::new(&["time", "value"]);
        table.rows = point(result).into_iter().collect();
        return table;
    }
    let metrics = || list(result).filter_map(|one| one.get("metric"));
    let names = label_names(metrics());
    let mut table = match format {
        Format::Csv => Table::new(&names.iter().map(String::as_str).collect::<Vec<_>>()),
        _ => Table::new(&["series"]),
    };
    table
        .columns
        .extend(["time".to_owned(), "value".to_owned()]);
    for (one, labels) in list(result).zip(metrics()) {
        let head = match format {
            Format::Csv => cells(labels, &names),
            _ => vec![metric(labels)],
        };
        let single = one.get("value").into_iter();
        let many = one.get("values").into_iter().flat_map(list);
        for row in single.chain(many).filter_map(point) {
            table.rows.push(head.iter().cloned().chain(row).collect());
        }
    }
    table
}

/// `[time, value]`
fn point(value: &Value) -> Option<Vec<String>> {
    match value.as_array()?.as_slice() {
        [time, value] => Some(vec![text(time), text(value)]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_result_type_has_rows() {
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "job": "a"}, "value": [1.5, "1"]}]});
        assert_eq!(
            samples(&vector, Format::Table).rows,
            [["up{job=\"a\"}", "1.5", "1"]]
        );
        let csv = samples(&vector, Format::Csv);
        assert_eq!(csv.columns, ["__name__", "job", "time", "value"]);
        assert_eq!(csv.rows, [["up", "a", "1.5", "1"]]);
        let scalar = json!({"resultType": "scalar", "result": [4, "2"]});
        assert_eq!(samples(&scalar, Format::Table).rows, [["4", "2"]]);
        let matrix = json!({"resultType": "matrix", "result": [
            {"metric": {}, "values": [[1, "1"], [2, "NaN"]]}]});
        assert_eq!(
            samples(&matrix, Format::Table).rows,
            [["{}", "1", "1"], ["{}", "2", "NaN"]]
        );
    }
}
