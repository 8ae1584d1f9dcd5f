//! Memory of the node, from /proc/meminfo: every line a gauge.

use common::model::{Metadata, MetricType};

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::KeptFile;
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{Schema, Target};
use crate::table::{SeriesId, SeriesTable};

/// Collects `node_memory_*`.
#[derive(Debug)]
pub struct Meminfo {
    file: KeptFile,
    fields: OrderedCache<SeriesId>,
}

impl Meminfo {
    /// A collector over the host's /proc.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let file = KeptFile::new(roots.proc.join("meminfo"), "proc/meminfo", errors);
        Self {
            file,
            fields: OrderedCache::default(),
        }
    }
}

impl Collector for Meminfo {
    fn name(&self) -> &'static str {
        "meminfo"
    }

    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let Some(data) = self.file.read(context.buffer, context.errors) else {
            return Outcome::NoData;
        };
        let CollectContext {
            table,
            schema,
            errors,
            ..
        } = context;
        self.fields.begin();
        for line in parse::lines(data) {
            let Some(field) = errors.parsed(self.file.error_id(), parse_line(line)) else {
                continue;
            };
            let in_bytes = matches!(field.value, Value::Bytes(_));
            let series = *self.fields.entry(field.key, |key| {
                add(table, schema, &parse::text(key), in_bytes)
            });
            let (Value::Bytes(value) | Value::Pages(value)) = field.value;
            table.set(series, value);
        }
        self.fields.end(|series| table.remove(series));
        if self.fields.is_empty() {
            Outcome::NoData
        } else {
            Outcome::Done
        }
    }
}

/// `Active(anon)` becomes `node_memory_Active_anon_bytes`.
fn add(table: &mut SeriesTable, schema: &mut Schema, key: &str, in_bytes: bool) -> SeriesId {
    let mut field = key.replace('(', "_").replace(')', "");
    if in_bytes {
        field.push_str("_bytes");
    }
    let metadata = Metadata {
        metric_type: MetricType::Gauge,
        help: format!("Memory information field {field}."),
        unit: if in_bytes { "bytes" } else { "" }.to_owned(),
    };
    schema.named_series(
        table,
        Target::Node,
        (&format!("node_memory_{field}"), metadata),
        &[],
    )
}

#[derive(Debug, PartialEq)]
enum Value {
    Bytes(f64),
    Pages(f64),
}

#[derive(Debug, PartialEq)]
struct Field<'a> {
    key: &'a [u8],
    value: Value,
}

fn parse_line(line: &[u8]) -> Option<Field<'_>> {
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
        None => Value::Pages(number),
        Some(b"kB") => Value::Bytes(number * 1024.0),
        Some(_) => return None,
    };
    Some(Field { key, value })
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
