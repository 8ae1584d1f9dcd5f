//! Protocol counters, from /proc/net/netstat, snmp and snmp6: the fields that node_exporter exports by default.

use std::collections::HashSet;

use common::model::Metadata;

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::KeptFile;
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{Schema, Target};
use crate::table::{SeriesId, SeriesTable};

/// One protocol of netstat or snmp: a line of names and a line of values.
#[derive(Debug, Default)]
struct Protocol {
    /// The line of names that the columns were made from.
    header: Vec<u8>,
    /// By column; `None` for fields that are not exported.
    columns: Vec<Option<SeriesId>>,
}

/// Collects `node_netstat_*`.
#[derive(Debug)]
pub struct Netstat {
    tables: [(KeptFile, OrderedCache<Protocol>); 2],
    snmp6: KeptFile,
    snmp6_fields: OrderedCache<Option<SeriesId>>,
}

impl Netstat {
    /// A collector over the host's network namespace.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let mut file =
            |name: &str| KeptFile::new(roots.proc_net(name), &format!("proc/net/{name}"), errors);
        Self {
            tables: [
                (file("netstat"), OrderedCache::default()),
                (file("snmp"), OrderedCache::default()),
            ],
            snmp6: file("snmp6"),
            snmp6_fields: OrderedCache::default(),
        }
    }
}

impl Collector for Netstat {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let mut found = None;
        for (file, protocols) in &mut self.tables {
            found = collect_table(file, protocols, context).or(found);
        }
        if let Some(data) = self.snmp6.read(context.buffer, context.errors) {
            self.snmp6_fields.begin();
            for pair in parse::flat_keyed(data) {
                let Some((key, value)) = context.errors.parsed(self.snmp6.error_id(), pair) else {
                    continue;
                };
                let series = *self.snmp6_fields.entry(key, |key| {
                    let (protocol, field) = split_snmp6(key)?;
                    add(context.table, context.schema, protocol, field)
                });
                if let Some(series) = series {
                    context.table.set(series, value as f64);
                }
            }
        }
        Outcome::of(found.as_ref())
    }
}

/// Reads pairs of lines such as `Tcp: A B` and `Tcp: 1 2`.
fn collect_table(
    file: &mut KeptFile,
    protocols: &mut OrderedCache<Protocol>,
    context: &mut CollectContext<'_>,
) -> Option<()> {
    let data = file.read(context.buffer, context.errors)?;
    protocols.begin();
    let mut lines = parse::lines(data);
    while let (Some(header), Some(values)) = (lines.next(), lines.next()) {
        let mut words = parse::words(values);
        let names = parse::words(header).next();
        let Some(name) = words
            .next()
            .filter(|word| names == Some(word) && word.ends_with(b":"))
        else {
            context.errors.parse(file.error_id());
            continue;
        };
        let protocol = protocols.entry(name, |_| Protocol::default());
        protocol.set_header(header, context.table, context.schema);
        for (series, word) in protocol.columns.iter().zip(words) {
            let Some(series) = *series else { continue };
            if let Some(value) = context.errors.parsed(file.error_id(), parse::signed(word)) {
                context.table.set(series, value as f64);
            }
        }
    }
    Some(())
}

impl Protocol {
    /// Rebuilds the columns if the line of names has changed.
    fn set_header(&mut self, header: &[u8], table: &mut SeriesTable, schema: &mut Schema) {
        if self.header == header {
            return;
        }
        self.columns
            .drain(..)
            .flatten()
            .for_each(|series| table.remove(series));
        let mut words = parse::words(header);
        let protocol = words
            .next()
            .and_then(|word| word.strip_suffix(b":"))
            .unwrap_or_default();
        // The first of duplicate fields wins.
        let mut seen = HashSet::new();
        self.columns = words
            .map(|field| {
                let is_first = seen.insert(field);
                is_first
                    .then(|| add(table, schema, protocol, field))
                    .flatten()
            })
            .collect();
        self.header = header.to_vec();
    }
}

/// Adds the series of an exported field.
fn add(
    table: &mut SeriesTable,
    schema: &mut Schema,
    protocol: &[u8],
    field: &[u8],
) -> Option<SeriesId> {
    let (protocol, field) = (
        std::str::from_utf8(protocol).ok()?,
        std::str::from_utf8(field).ok()?,
    );
    if !is_exported(protocol, field) {
        return None;
    }
    let metadata = Metadata {
        help: format!("Statistic {protocol}{field}."),
        ..Metadata::default()
    };
    let name = format!("node_netstat_{protocol}_{field}");
    Some(schema.named_series(table, Target::Node, (&name, metadata), &[]))
}

/// Splits `Ip6InOctets` into protocol `Ip6` and field `InOctets`.
fn split_snmp6(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let six = key.iter().position(|&byte| byte == b'6')?;
    key.split_at_checked(six + 1)
}

/// node_exporter's default regular expression, written out.
fn is_exported(protocol: &str, field: &str) -> bool {
    let is_name =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_name(protocol) || !is_name(field) {
        return false;
    }
    match (protocol, field) {
        (_, "InErrors" | "InErrs")
        | ("Ip", "Forwarding")
        | ("Ip6" | "IpExt", "InOctets" | "OutOctets")
        | ("Icmp" | "Icmp6", "InMsgs" | "OutMsgs")
        | ("TcpExt", "TCPSynRetrans" | "TCPTimeouts" | "TCPOFOQueue" | "TCPRcvQDrop")
        | (
            "Tcp",
            "ActiveOpens" | "InSegs" | "OutSegs" | "OutRsts" | "PassiveOpens" | "RetransSegs"
            | "CurrEstab",
        )
        | (
            "Udp" | "Udp6",
            "InDatagrams" | "OutDatagrams" | "NoPorts" | "RcvbufErrors" | "SndbufErrors",
        ) => true,
        ("TcpExt", field) => field.starts_with("Listen") || field.starts_with("Syncookies"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn fields_are_found_by_name_and_follow_a_new_header() {
        let mut bench = Bench::new();
        bench.write(
            "proc/net/snmp",
            "Ip: Forwarding Other\nIp: 2 7\nTcp: InSegs CurrEstab MaxConn\nTcp: 5 6 -1\n",
        );
        bench.write(
            "proc/net/snmp6",
            "Ip6InOctets 128\nUdp6NoPorts 3\nIp6OutRequests 9\n",
        );
        bench.write(
            "proc/net/netstat",
            "TcpExt: ListenDrops TWs\nTcpExt: 8 1\nBroken: A\nOther: 1\n",
        );
        let roots = bench.roots();
        let mut netstat = Netstat::new(&roots, bench.errors());
        assert_eq!(bench.collect(&mut netstat), Outcome::Done);
        let value = |bench: &Bench, name: &str| bench.value(&format!("node_netstat_{name}"), &[]);
        assert_eq!(value(&bench, "Tcp_CurrEstab"), Some(6.0));
        assert_eq!(value(&bench, "Ip_Forwarding"), Some(2.0));
        assert_eq!(value(&bench, "Udp6_NoPorts"), Some(3.0));
        assert_eq!(value(&bench, "TcpExt_ListenDrops"), Some(8.0));
        assert_eq!((bench.series_count(), bench.errors().total()), (6, 1));
        bench.write(
            "proc/net/snmp",
            "Ip: Forwarding Other\nIp: 2 7\nTcp: MaxConn CurrEstab\nTcp: -1 66\n",
        );
        bench.collect(&mut netstat);
        assert_eq!(value(&bench, "Tcp_CurrEstab"), Some(66.0));
        assert_eq!(bench.series_count(), 5);
    }
}
