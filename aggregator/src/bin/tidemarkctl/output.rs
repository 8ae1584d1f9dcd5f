//! Results go to standard output, errors to standard error; the exit code distinguishes them.

use std::io::{self, Write as _};
use std::process::ExitCode;

use common::report::chain;
use serde_json::Value;

use super::args::Format;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command failed, with the reason: exit code 1.
    Failed(String),
    /// A check printed faults: exit code 3.
    Lint,
}

impl Failure {
    /// Prints the reason and returns the exit code.
    #[expect(clippy::print_stderr, reason = "errors of a command-line tool")]
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Failed(reason) => {
                eprintln!("tidemarkctl: {reason}");
                ExitCode::from(1)
            }
            Self::Lint => ExitCode::from(3),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(chain(&error))
    }
}

/// Rows under column names.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self {
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
        }
    }
}

/// Prints results in the format that the user chose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Prints `data` as JSON or YAML, or as the table that `table` builds.
    pub(crate) fn print(
        self,
        data: &Value,
        table: impl FnOnce(Format) -> Table,
    ) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let result = match self.format {
            Format::Json => writeln!(out, "{data:#}"),
            Format::Yaml => {
                let yaml = serde_saphyr::to_string(data)
                    .map_err(|error| Failure::Failed(chain(&error)))?;
                write!(out, "{yaml}")
            }
            Format::Csv => write_csv(&mut out, &table(self.format)),
            Format::Table => write_table(&mut out, &table(self.format)),
        };
        match result.and_then(|()| out.flush()) {
            // The reader, such as `head`, has closed the pipe.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        }
    }
}

fn write_csv(out: &mut impl io::Write, table: &Table) -> io::Result<()> {
    for row in std::iter::once(&table.columns).chain(&table.rows) {
        let cells: Vec<_> = row.iter().map(|cell| csv_cell(cell)).collect();
        writeln!(out, "{}", cells.join(","))?;
    }
    Ok(())
}

/// RFC 4180.
fn csv_cell(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

fn write_table(out: &mut impl io::Write, table: &Table) -> io::Result<()> {
    let mut widths: Vec<_> = table.columns.iter().map(|name| width(name)).collect();
    for row in &table.rows {
        for (width_max, cell) in widths.iter_mut().zip(row) {
            *width_max = (*width_max).max(width(cell));
        }
    }
    let heads: Vec<_> = table
        .columns
        .iter()
        .map(|name| name.to_uppercase())
        .collect();
    for row in std::iter::once(&heads).chain(&table.rows) {
        let mut line = String::new();
        for (cell, width_max) in row.iter().zip(&widths) {
            line.push_str(cell);
            let pad = width_max.saturating_sub(width(cell)) + 3;
            line.extend(std::iter::repeat_n(' ', pad));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["series", "value"]);
        table.rows = vec![
            vec!["up{job=\"a\"}".into(), "1".into()],
            vec!["ü".into(), "2,5".into()],
        ];
        table
    }

    #[test]
    fn columns_are_aligned() {
        let mut out = Vec::new();
        write_table(&mut out, &table()).unwrap();
        let want = "SERIES        VALUE\nup{job=\"a\"}   1\nü             2,5\n";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn csv_quotes_cells_with_separators() {
        let mut out = Vec::new();
        write_csv(&mut out, &table()).unwrap();
        let want = "series,value\n\"up{job=\"\"a\"\"}\",1\nü,\"2,5\"\n";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}
