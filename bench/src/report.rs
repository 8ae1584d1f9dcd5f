//! Tables for people and one line of JSON for programs.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::server::Kind;

/// A table with one column a server and one row a figure, less being better in every row.
#[derive(Debug)]
pub struct Table {
    title: String,
    kinds: Vec<Kind>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    key: String,
    decimals: usize,
    values: Vec<Option<f64>>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(title: impl Into<String>, kinds: &[Kind]) -> Self {
        Self {
            title: title.into(),
            kinds: kinds.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row: what it shows, its key in the JSON, how many decimals it has, and a value for each server.
    pub fn row(&mut self, name: &str, key: &str, decimals: usize, values: Vec<Option<f64>>) {
        self.rows.push(Row {
            name: name.to_owned(),
            key: key.to_owned(),
            decimals,
            values,
        });
    }

    /// The value of `kind` divided by the smallest one of another server.
    fn ratio(&self, row: &Row) -> Option<f64> {
        let cells = || self.kinds.iter().zip(&row.values);
        let ours = cells()
            .find(|(kind, _)| **kind == Kind::Tidemark)?
            .1
            .as_ref()?;
        let peers = cells().filter(|(kind, _)| **kind != Kind::Tidemark);
        let best = peers
            .filter_map(|(_, value)| *value)
            .fold(f64::INFINITY, f64::min);
        let ratio = ours / best;
        (ratio.is_finite() && best.is_finite()).then_some(ratio)
    }

    /// The table as Markdown, with the ratio of ours to the better peer in the last column.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let width = self
            .rows
            .iter()
            .map(|row| row.name.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = format!("{}\n\n| {:width$} |", self.title, "");
        for kind in &self.kinds {
            // Writing to a string can't fail; so in all of this function.
            write!(text, " {:>16} |", kind.name()).ok();
        }
        writeln!(text, " ours/better peer |").ok();
        writeln!(
            text,
            "|-{:-<width$}-|{}",
            "",
            "-----------------:|".repeat(self.kinds.len() + 1)
        )
        .ok();
        for row in &self.rows {
            write!(text, "| {:width$} |", row.name).ok();
            for value in &row.values {
                match value {
                    Some(value) => write!(text, " {value:>16.*} |", row.decimals).ok(),
                    None => write!(text, " {:>16} |", "-").ok(),
                };
            }
            match self.ratio(row) {
                Some(ratio) => writeln!(text, " {ratio:>16.2} |").ok(),
                None => writeln!(text, " {:>16} |", "").ok(),
            };
        }
        text
    }

    /// The figures by key and server.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut figures = Map::new();
        for row in &self.rows {
            let mut values = Map::new();
            for (kind, value) in self.kinds.iter().zip(&row.values) {
                values.insert(kind.name().to_owned(), json!(value));
            }
            values.insert("ratio".to_owned(), json!(self.ratio(row)));
            figures.insert(row.key.clone(), Value::Object(values));
        }
        json!({ "title": self.title, "figures": figures })
    }
}

/// Prints text on standard output.
///
/// # Errors
/// Nobody reads it any more.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Says on standard error what is being done: a run takes minutes.
///
/// # Errors
/// Nobody reads it any more.
pub fn progress(text: &str) -> Result<()> {
    writeln!(std::io::stderr().lock(), "{text}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_is_to_the_better_peer() {
        let mut table = Table::new("t", &Kind::ALL);
        table.row("a", "a", 1, vec![Some(1.0), Some(8.0), Some(4.0)]);
        table.row("b", "b", 1, vec![Some(1.0), None, None]);
        table.row("c", "c", 1, vec![None, Some(1.0), Some(2.0)]);
        let json = table.to_json();
        assert_eq!(json["figures"]["a"]["ratio"], json!(0.25));
        assert_eq!(json["figures"]["a"]["prometheus"], json!(8.0));
        assert_eq!(json["figures"]["b"]["ratio"], Value::Null);
        assert_eq!(json["figures"]["c"]["tidemark"], Value::Null);
        assert!(table.to_markdown().contains("|             0.25 |\n"));
    }
}
