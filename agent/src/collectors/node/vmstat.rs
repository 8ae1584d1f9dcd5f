//! Paging events of the node, from /proc/vmstat: the fields that node_exporter exports by default.

use std::path::PathBuf;

use common::model::Metadata;

use super::Roots;
use super::per_line::{Line, LineFormat, PerLine};
use crate::parse;
use crate::schema::{Schema, Target};
use crate::table::{SeriesId, SeriesTable};

/// Collects `node_vmstat_*`.
pub type Vmstat = PerLine<VmstatLines>;

/// The lines of /proc/vmstat.
#[derive(Debug)]
pub struct VmstatLines;

impl LineFormat for VmstatLines {
    type Value = i64;
    /// `None` for a field that is not exported.
    type Series = Option<SeriesId>;

    const NAME: &'static str = "proc/vmstat";

    fn path(roots: &Roots) -> PathBuf {
        roots.proc.join("vmstat")
    }

    fn parse(line: &[u8]) -> Line<'_, i64> {
        match parse::flat_keyed(line).next() {
            Some(pair) => Line::parsed(pair),
            None => Line::Skip,
        }
    }

    fn add(
        field: &str,
        _: &i64,
        (table, schema): (&mut SeriesTable, &mut Schema),
    ) -> Option<SeriesId> {
        is_exported(field.as_bytes()).then(|| {
            let metadata = Metadata {
                help: format!("/proc/vmstat information field {field}."),
                ..Metadata::default()
            };
            let name = format!("node_vmstat_{field}");
            schema.named_series(table, Target::Node, (&name, metadata), &[])
        })
    }

    fn store(series: &mut Option<SeriesId>, value: i64, table: &mut SeriesTable) {
        if let Some(series) = series {
            table.set(*series, value as f64);
        }
    }
}

/// node_exporter's default `^(oom_kill|pgpg|pswp|pg.*fault).*`.
fn is_exported(key: &[u8]) -> bool {
    let is_name = key
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let prefixed = [&b"oom_kill"[..], b"pgpg", b"pswp"]
        .iter()
        .any(|prefix| key.starts_with(prefix));
    let fault = key
        .strip_prefix(b"pg")
        .is_some_and(|rest| rest.windows(5).any(|part| part == b"fault"));
    is_name && (prefixed || fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn only_the_default_fields_are_exported() {
        let mut bench = Bench::new();
        bench.write(
            "proc/vmstat",
            "nr_free_pages 1\npgpgin 2\npswpout 3\npgmajfault 4\npgfree 5\noom_kill 6\n",
        );
        let roots = bench.roots();
        let mut vmstat = Vmstat::new(&roots, bench.errors());
        bench.collect(&mut vmstat);
        assert_eq!(bench.value("node_vmstat_pgmajfault", &[]), Some(4.0));
        assert_eq!(bench.value("node_vmstat_oom_kill", &[]), Some(6.0));
        assert_eq!(bench.series_count(), 4);
    }
}
