//! Memory of the node, from /proc/meminfo: every line becomes a gauge.

use std::path::PathBuf;

use common::model::{Metadata, MetricType};

use super::Roots;
use super::per_line::{Line, LineFormat, PerLine};
use crate::parse;
use crate::schema::{Schema, Target};
use crate::table::{SeriesId, SeriesTable};

/// Collects `node_memory_*`.
pub type Meminfo = PerLine<MeminfoLines>;

/// The lines of /proc/meminfo.
#[derive(Debug)]
pub struct MeminfoLines;

impl LineFormat for MeminfoLines {
    type Value = MemoryValue;
    type Series = SeriesId;

    const NAME: &'static str = "proc/meminfo";

    fn path(roots: &Roots) -> PathBuf {
        roots.proc.join("meminfo")
    }

    fn parse(line: &[u8]) -> Line<'_, MemoryValue> {
        Line::parsed(parse_line(line))
    }

    fn add(
        key: &str,
        value: &MemoryValue,
        (table, schema): (&mut SeriesTable, &mut Schema),
    ) -> SeriesId {
        add(table, schema, key, value)
    }

    fn store(series: &mut SeriesId, value: MemoryValue, table: &mut SeriesTable) {
        let (MemoryValue::Bytes(value) | MemoryValue::Pages(value)) = value;
        table.set(*series, value);
    }
}

/// `Active(anon)` becomes `node_memory_Active_anon_bytes`.
fn add(table: &mut SeriesTable, schema: &mut Schema, key: &str, value: &MemoryValue) -> SeriesId {
    let mut field = key.replace('(', "_").replace(')', "");
    let unit = match value {
        MemoryValue::Bytes(_) => "bytes",
        MemoryValue::Pages(_) => "",
    };
    if !unit.is_empty() {
        field = format!("{field}_{unit}");
    }
    let metadata = Metadata {
        metric_type: MetricType::Gauge,
        help: format!("Memory information field {field}."),
        unit: unit.to_owned(),
    };
    schema.named_series(
        table,
        Target::Node,
        (&format!("node_memory_{field}"), metadata),
        &[],
    )
}

/// A line with the unit `kB` is in bytes, one without in pages.
#[derive(Debug, PartialEq)]
pub enum MemoryValue {
    /// Bytes.
    Bytes(f64),
    /// Huge pages.
    Pages(f64),
}

fn parse_line(line: &[u8]) -> Option<(&[u8], MemoryValue)> {
    let mut words = parse::words(line);
    let key = words.next()?.strip_suffix(b":")?;
    if key.is_empty()
        || !key
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_()".contains(byte))
    {
        return None;
    }
    let number = parse::integer(words.next()?)? as f64;
    let value = match words.next() {
        None => MemoryValue::Pages(number),
        Some(b"kB") => MemoryValue::Bytes(number * 1024.0),
        Some(_) => return None,
    };
    Some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn names_and_units_are_node_exporters() {
        let mut bench = Bench::new();
        bench.write("proc/meminfo", "MemTotal:  24684084 kB\nActive(anon):  8 kB\nHugePages_Total:  3\nBad 7 kB\nOdd: 7 MB\n");
        let roots = bench.roots();
        let mut meminfo = Meminfo::new(&roots, bench.errors());
        bench.collect(&mut meminfo);
        assert_eq!(
            bench.value("node_memory_MemTotal_bytes", &[]),
            Some(24684084.0 * 1024.0)
        );
        assert_eq!(
            bench.value("node_memory_Active_anon_bytes", &[]),
            Some(8192.0)
        );
        assert_eq!(bench.value("node_memory_HugePages_Total", &[]), Some(3.0));
        assert_eq!((bench.series_count(), bench.errors().total()), (3, 2));
    }
}
