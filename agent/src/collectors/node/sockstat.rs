//! Sockets in use, from /proc/net/sockstat and sockstat6.

use common::model::{Metadata, MetricType};

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::KeptFile;
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{Schema, Target};
use crate::table::{SeriesId, SeriesTable};

/// One line: `TCP: inuse 4 orphan 0 tw 3 alloc 4 mem 145`.
#[derive(Debug, Default)]
struct Protocol {
    fields: OrderedCache<Field>,
}

#[derive(Debug)]
struct Field {
    series: SeriesId,
    /// `mem` is in pages. node_exporter exports bytes as well.
    bytes: Option<SeriesId>,
}

/// Collects `node_sockstat_*`.
#[derive(Debug)]
pub struct Sockstat {
    files: [(KeptFile, OrderedCache<Protocol>); 2],
    page_bytes: f64,
}

impl Sockstat {
    /// A collector over the host's network namespace.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let files = ["sockstat", "sockstat6"].map(|name| {
            let file = KeptFile::new(roots.proc_net(name), &format!("proc/net/{name}"), errors);
            (file, OrderedCache::default())
        });
        Self {
            files,
            page_bytes: page_bytes() as f64,
        }
    }
}

/// Bytes of a memory page.
fn page_bytes() -> u64 {
    let known = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten();
    known
        .and_then(|bytes| u64::try_from(bytes).ok())
        .unwrap_or(4096)
}

impl Collector for Sockstat {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let mut outcome = Outcome::NoData;
        for (file, protocols) in &mut self.files {
            let Some(data) = file.read(context.buffer, context.errors) else {
                continue;
            };
            outcome = Outcome::Done;
            let CollectContext {
                table,
                schema,
                errors,
                ..
            } = context;
            protocols.begin();
            for line in parse::lines(data) {
                let mut words = parse::words(line);
                let Some(name) = words.next().and_then(|word| word.strip_suffix(b":")) else {
                    errors.parse(file.error_id());
                    continue;
                };
                let fields = &mut protocols.entry(name, |_| Protocol::default()).fields;
                fields.begin();
                while let Some(key) = words.next() {
                    let value = words.next().and_then(parse::integer);
                    let Some(value) = errors.parsed(file.error_id(), value) else {
                        break;
                    };
                    let field = fields.entry(key, |key| Field::new(name, key, table, schema));
                    table.set(field.series, value as f64);
                    if let Some(bytes) = field.bytes {
                        table.set(bytes, value as f64 * self.page_bytes);
                    }
                }
            }
        }
        outcome
    }
}

impl Field {
    fn new(protocol: &[u8], key: &[u8], table: &mut SeriesTable, schema: &mut Schema) -> Self {
        let (protocol, key) = (parse::text(protocol), parse::text(key));
        let mut add = |key: &str, unit: &str| {
            let help = if protocol == "sockets" {
                "Number of IPv4 sockets in use.".to_owned()
            } else {
                format!("Number of {protocol} sockets in state {key}.")
            };
            let metadata = Metadata {
                metric_type: MetricType::Gauge,
                help,
                unit: unit.to_owned(),
            };
            let name = format!("node_sockstat_{protocol}_{key}");
            schema.named_series(table, Target::Node, (&name, metadata), &[])
        };
        let series = add(&key, "");
        Self {
            series,
            bytes: (key == "mem").then(|| add("mem_bytes", "bytes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn memory_is_in_pages_and_bytes() {
        let mut bench = Bench::new();
        bench.write(
            "proc/net/sockstat",
            "sockets: used 20\nTCP: inuse 4 mem 145\nUDP: inuse x\n",
        );
        bench.write("proc/net/sockstat6", "TCP6: inuse 1\n");
        let roots = bench.roots();
        let mut sockstat = Sockstat::new(&roots, bench.errors());
        bench.collect(&mut sockstat);
        assert_eq!(bench.value("node_sockstat_sockets_used", &[]), Some(20.0));
        assert_eq!(
            bench.value("node_sockstat_TCP_mem_bytes", &[]),
            Some(145.0 * page_bytes() as f64)
        );
        assert_eq!(bench.value("node_sockstat_TCP6_inuse", &[]), Some(1.0));
        assert_eq!((bench.series_count(), bench.errors().total()), (5, 1));
    }
}
