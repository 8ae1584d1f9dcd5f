//! Paging events of the node, from /proc/vmstat: the fields that node_exporter exports by default.

use common::model::Metadata;

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::KeptFile;
use crate::ordered_cache::OrderedCache;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::Target;
use crate::table::SeriesId;

/// Collects `node_vmstat_*`.
#[derive(Debug)]
pub struct Vmstat {
    file: KeptFile,
    /// Every field of the file in its order; `None` for those not exported.
    fields: OrderedCache<Option<SeriesId>>,
}

impl Vmstat {
    /// A collector over the host's /proc.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let file = KeptFile::new(roots.proc.join("vmstat"), "proc/vmstat", errors);
        Self {
            file,
            fields: OrderedCache::default(),
        }
    }
}

impl Collector for Vmstat {
    fn name(&self) -> &'static str {
        "vmstat"
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
        for pair in parse::flat_keyed(data) {
            let Some((key, value)) = errors.parsed(self.file.error_id(), pair) else {
                continue;
            };
            let series = *self.fields.entry(key, |key| {
                is_exported(key).then(|| {
                    let field = parse::text(key);
                    let help = format!("/proc/vmstat information field {field}.");
                    let metadata = Metadata {
                        help,
                        ..Metadata::default()
                    };
                    let name = format!("node_vmstat_{field}");
                    schema.named_series(table, Target::Node, (&name, metadata), &[])
                })
            });
            if let Some(series) = series {
                table.set(series, value as f64);
            }
        }
        self.fields
            .end(|series| series.into_iter().for_each(|series| table.remove(series)));
        if self.fields.is_empty() {
            Outcome::NoData
        } else {
            Outcome::Done
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
