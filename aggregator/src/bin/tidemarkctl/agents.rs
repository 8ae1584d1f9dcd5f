//! `tidemarkctl agents`.

use http::Method;
use serde_json::Value;

use super::client::Client;
use super::output::{Failure, Output, Table};

const COLUMNS: [&str; 7] = [
    "idc",
    "node",
    "connected",
    "address",
    "version",
    "lastTick",
    "series",
];

pub(crate) fn run(client: &Client, output: &Output) -> Result<(), Failure> {
    let data = client.api(Method::GET, "agents", &[])?;
    output.print(&data, |_| {
        let mut table = Table::new(&COLUMNS);
        let agents = data.get("agents").and_then(Value::as_array);
        for agent in agents.into_iter().flatten() {
            let cell = |name: &&str| match agent.get(*name) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            table.rows.push(COLUMNS.iter().map(cell).collect());
        }
        table
    })
}
