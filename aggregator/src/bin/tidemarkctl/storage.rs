//! `tidemarkctl storage`.

use http::Method;
use serde_json::Value;

use super::args::Storage;
use super::client::Client;
use super::output::{Failure, Output, Table};

mod export;
mod import;
mod progress;
mod restore;
mod verify;

pub(crate) fn run(
    client: impl Fn() -> Result<Client, Failure>,
    output: Output,
    command: Storage,
) -> Result<(), Failure> {
    match command {
        Storage::Stats { limit } => {
            let limit = limit.to_string();
            let data = client()?.api(Method::GET, "status/tsdb", &[("limit", &limit)])?;
            output.print(&data, |_| stats(&data))
        }
        Storage::Flush => client()?
            .api(Method::POST, "admin/tsdb/flush", &[])
            .map(drop),
        Storage::Verify { directory } => verify::run(&directory),
        Storage::Export(options) => export::run(&client()?, &options),
        Storage::Import(options) => import::run(&client()?, &options),
        Storage::Restore {
            snapshot,
            directory,
        } => restore::run(&snapshot, &directory),
    }
}

fn stats(data: &Value) -> Table {
    let mut table = Table::new(&["what", "name", "value"]);
    let head = data.get("headStats").and_then(Value::as_object);
    for (name, value) in head.into_iter().flatten() {
        table
            .rows
            .push(vec!["head".to_owned(), name.clone(), value.to_string()]);
    }
    for (what, list) in data.as_object().into_iter().flatten() {
        for one in list.as_array().into_iter().flatten() {
            let name = one.get("name").and_then(Value::as_str).unwrap_or("");
            let value = one.get("value").map(ToString::to_string);
            table.rows.push(vec![
                what.clone(),
                name.to_owned(),
                value.unwrap_or_default(),
            ]);
        }
    }
    table
}
