//! Connection tracking, from /proc/net/stat/nf_conntrack (a row of hexadecimal columns per CPU) and two sysctls.

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome, Single};
use crate::file::KeptFile;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, gauge};

static ENTRIES: FamilyDef = gauge(
    "node_nf_conntrack_entries",
    "Number of currently allocated flow entries for connection tracking.",
);
static LIMIT: FamilyDef = gauge(
    "node_nf_conntrack_entries_limit",
    "Maximum size of connection tracking table.",
);
/// Columns by name. node_exporter declares them as gauges.
static STATS: [(&[u8], FamilyDef); 8] = [
    (
        b"found",
        gauge(
            "node_nf_conntrack_stat_found",
            "Number of searched entries which were successful.",
        ),
    ),
    (
        b"invalid",
        gauge(
            "node_nf_conntrack_stat_invalid",
            "Number of packets seen which can not be tracked.",
        ),
    ),
    (
        b"ignore",
        gauge(
            "node_nf_conntrack_stat_ignore",
            "Number of packets seen which are already connected to a conntrack entry.",
        ),
    ),
    (
        b"insert",
        gauge(
            "node_nf_conntrack_stat_insert",
            "Number of entries inserted into the list.",
        ),
    ),
    (
        b"insert_failed",
        gauge(
            "node_nf_conntrack_stat_insert_failed",
            "Number of entries for which list insertion was attempted but failed.",
        ),
    ),
    (
        b"drop",
        gauge(
            "node_nf_conntrack_stat_drop",
            "Number of packets dropped due to conntrack failure.",
        ),
    ),
    (
        b"early_drop",
        gauge(
            "node_nf_conntrack_stat_early_drop",
            "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached.",
        ),
    ),
    (
        b"search_restart",
        gauge(
            "node_nf_conntrack_stat_search_restart",
            "Number of conntrack table lookups which had to be restarted due to hashtable resizes.",
        ),
    ),
];

/// Collects `node_nf_conntrack_*`.
#[derive(Debug)]
pub struct Conntrack {
    count: KeptFile,
    max: KeptFile,
    stat: KeptFile,
    entries: Single,
    limit: Single,
    stats: [Single; STATS.len()],
}

impl Conntrack {
    /// A collector over the host's network namespace.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let mut sysctl = |name: &str| {
            let path = format!("sys/net/netfilter/{name}");
            KeptFile::new(roots.proc.join(&path), &format!("proc/{path}"), errors)
        };
        Self {
            count: sysctl("nf_conntrack_count"),
            max: sysctl("nf_conntrack_max"),
            stat: KeptFile::new(
                roots.proc_net("stat/nf_conntrack"),
                "proc/net/stat/nf_conntrack",
                errors,
            ),
            entries: Single::node(&ENTRIES),
            limit: Single::node(&LIMIT),
            stats: std::array::from_fn(|index| Single::node(&STATS[index].1)),
        }
    }
}

impl Collector for Conntrack {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let mut entries = None;
        if let Some(data) = self.stat.read(context.buffer, context.errors) {
            let sums = context
                .errors
                .parsed(self.stat.error_id(), parse_stat(data));
            if let Some(sums) = sums {
                entries = Some(sums.entries);
                for (series, sum) in self.stats.iter_mut().zip(sums.stats) {
                    if let Some(sum) = sum {
                        series.set(context.table, context.schema, sum as f64);
                    }
                }
            }
        }
        // The sysctl belongs to the reader's namespace, the file above to the node's. The sysctl is the fallback.
        if entries.is_none() {
            entries = self
                .count
                .read(context.buffer, context.errors)
                .and_then(parse::single);
        }
        let limit = self
            .max
            .read(context.buffer, context.errors)
            .and_then(parse::single);
        for (series, value) in [(&mut self.entries, entries), (&mut self.limit, limit)] {
            if let Some(value) = value {
                series.set(context.table, context.schema, value as f64);
            }
        }
        Outcome::of(entries.as_ref())
    }
}

#[derive(Debug, PartialEq)]
struct Sums {
    /// This column is the same in every row.
    entries: u64,
    stats: [Option<u64>; STATS.len()],
}

fn parse_stat(data: &[u8]) -> Option<Sums> {
    let mut lines = parse::lines(data);
    let header = lines.next()?;
    let mut sums = Sums {
        entries: 0,
        stats: [None; STATS.len()],
    };
    for line in lines {
        for (name, word) in parse::words(header).zip(parse::words(line)) {
            let value = parse::hexadecimal(word)?;
            if name == b"entries" {
                sums.entries = value;
            } else if let Some(index) = STATS.iter().position(|(column, _)| *column == name) {
                let sum = sums.stats[index].get_or_insert(0);
                *sum = sum.saturating_add(value);
            }
        }
    }
    sums.stats[0].map(|_| sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_summed_by_the_headers_names() {
        let text = b"entries  searched found new invalid\n0000000a  00000000 00000001 00000000 00000002\n0000000a  00000000 0000000f 00000000 00000003\n";
        let sums = parse_stat(text).unwrap();
        assert_eq!(
            (sums.entries, sums.stats[0], sums.stats[1], sums.stats[2]),
            (10, Some(16), Some(5), None)
        );
        assert_eq!(parse_stat(b"entries found\nzz 1\n"), None);
        assert_eq!(parse_stat(b""), None);
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(data: Vec<u8>) {
            let _sums = parse_stat(&data);
        }
    }
}
