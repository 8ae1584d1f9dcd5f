//! `tidemarkctl alerts`.

use http::Method;
use serde_json::Value;

use super::client::Client;
use super::output::{Failure, Output, Table};

pub(crate) fn run(client: &Client, output: &Output) -> Result<(), Failure> {
    let data = client.api(Method::GET, "alerts", &[])?;
    output.print(&data, |_| {
        let mut table = Table::new(&["alert", "state", "since", "value", "labels", "summary"]);
        for alert in data
            .get("alerts")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = |path: &str| {
                alert
                    .pointer(path)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let labels = alert
                .get("labels")
                .and_then(Value::as_object)
                .into_iter()
                .flatten();
            let labels: Vec<String> = labels
                .filter(|(name, _)| *name != "alertname")
                .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
                .collect();
            table.rows.push(vec![
                text("/labels/alertname"),
                text("/state"),
                text("/activeAt"),
                text("/value"),
                labels.join(" "),
                text("/annotations/summary"),
            ]);
        }
        table
    })
}
