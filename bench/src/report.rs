//! Results as a Markdown table and as a line of JSON.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use serde_json::{Map, Value, json};

/// A column of a table: a server, or a way to write to it.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Column title.
    pub name: &'static str,
    /// Whether it is ours, and compared with the peers.
    pub is_ours: bool,
}

/// A table with one column per server and one row per figure. Lower is better in every row.
#[derive(Debug)]
pub struct Table {
    title: String,
    columns: Vec<Column>,
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
    /// Creates an empty table.
    #[must_use]
    pub fn new(title: impl Into<String>, columns: &[Column]) -> Self {
        Self {
            title: title.into(),
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row: title, key in the JSON, number of decimals, and a value per column.
    pub fn row(&mut self, name: &str, key: &str, decimals: usize, values: Vec<Option<f64>>) {
        self.rows.push(Row {
            name: name.to_owned(),
            key: key.to_owned(),
            decimals,
            values,
        });
    }

    /// Returns each of our values divided by the lowest value of a peer.
    fn ratios(&self, row: &Row) -> Vec<Option<f64>> {
        let cells = || self.columns.iter().zip(&row.values);
        let peers = cells().filter(|(column, _)| !column.is_ours);
        let best = peers.filter_map(|(_, value)| *value).reduce(f64::min);
        let ours = cells().filter(|(column, _)| column.is_ours);
        ours.map(|(_, value)| Some((*value)? / best?).filter(|ratio| ratio.is_finite()))
            .collect()
    }

    /// Returns the titles of the ratio columns.
    fn ratio_names(&self) -> Vec<String> {
        let ours = self.columns.iter().filter(|column| column.is_ours);
        ours.map(|column| format!("{}/better peer", column.name))
            .collect()
    }

    /// Renders Markdown, with the ratio of ours to the better peer in the last columns.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let names = self.rows.iter().map(|row| row.name.chars().count());
        let width = names.max().unwrap_or(0);
        let names = self.columns.iter().map(|column| column.name.to_owned());
        let heads: Vec<String> = names.chain(self.ratio_names()).collect();
        let mut text = format!("{}\n\n| {:width$} |", self.title, "");
        // Writing to a string can't fail.
        for head in &heads {
            write!(text, " {head:>16} |").ok();
        }
        write!(text, "\n|-{:-<width$}-|", "").ok();
        for head in &heads {
            let width = head.len().max(16);
            write!(text, "-{:->width$}:|", "").ok();
        }
        text.push('\n');
        for row in &self.rows {
            write!(text, "| {:width$} |", row.name).ok();
            let values = row.values.iter().map(|value| (value, row.decimals));
            let ratios = self.ratios(row);
            let cells = values.chain(ratios.iter().map(|ratio| (ratio, 2)));
            for ((value, decimals), head) in cells.zip(&heads) {
                let cell = value.map_or_else(String::new, |value| format!("{value:.decimals$}"));
                let width = head.len().max(16);
                write!(text, " {cell:>width$} |").ok();
            }
            text.push('\n');
        }
        text
    }

    /// Returns the figures by key and server.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut figures = Map::new();
        for row in &self.rows {
            let mut values = Map::new();
            for (column, value) in self.columns.iter().zip(&row.values) {
                values.insert(column.name.to_owned(), json!(value));
            }
            for (name, ratio) in self.ratio_names().into_iter().zip(self.ratios(row)) {
                values.insert(name, json!(ratio));
            }
            figures.insert(row.key.clone(), Value::Object(values));
        }
        json!({ "title": self.title, "figures": figures })
    }
}

/// Prints to standard output.
///
/// # Errors
/// The reader has closed it.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Prints progress to standard error, because a run takes minutes.
///
/// # Errors
/// The reader has closed it.
pub fn progress(text: &str) -> Result<()> {
    writeln!(std::io::stderr().lock(), "{text}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_is_to_the_better_peer() {
        let column = |name, is_ours| Column { name, is_ours };
        let columns = [column("o", true), column("p", false), column("q", false)];
        let mut table = Table::new("t", &columns);
        table.row("a", "a", 1, vec![Some(1.0), Some(8.0), Some(4.0)]);
        table.row("b", "b", 1, vec![Some(1.0), None, None]);
        table.row("c", "c", 1, vec![None, Some(1.0), Some(2.0)]);
        table.row("d", "d", 1, vec![Some(0.0), Some(0.0), Some(2.0)]);
        let json = table.to_json();
        assert_eq!(json["figures"]["a"]["o/better peer"], json!(0.25));
        assert_eq!(json["figures"]["a"]["p"], json!(8.0));
        assert_eq!(json["figures"]["b"]["o/better peer"], Value::Null);
        assert_eq!(json["figures"]["c"]["o"], Value::Null);
        assert_eq!(json["figures"]["d"]["o/better peer"], Value::Null);
        assert!(table.to_markdown().contains("             0.25 |\n"));
    }
}
