//! Name and version of the operating system, from os-release.

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::KeptFile;
use crate::parse;
use crate::read_errors::ReadErrors;
use crate::schema::{FamilyDef, Target, gauge, info};
use crate::table::SeriesId;

const INFO: FamilyDef = info(
    "node_os_info",
    "A metric with a constant '1' value labeled by os-release's fields.",
);
const VERSION: FamilyDef = gauge(
    "node_os_version",
    "Metric containing the major.minor part of the OS version.",
);
const FIELDS: [&str; 12] = [
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
];

/// Collects `node_os_info` and `node_os_version`.
#[derive(Debug)]
pub struct Os {
    files: [KeptFile; 2],
    /// The file that the series were made from. An upgrade of the system changes it under a running agent.
    text: Vec<u8>,
    info: Option<SeriesId>,
    version: Option<(SeriesId, f64)>,
}

impl Os {
    /// A collector over the host's root.
    pub fn new(roots: &Roots, errors: &mut ReadErrors) -> Self {
        let files = ["etc/os-release", "usr/lib/os-release"]
            .map(|name| KeptFile::new(roots.root.join(name), name, errors));
        Self {
            files,
            text: Vec::new(),
            info: None,
            version: None,
        }
    }

    fn describe(&mut self, context: &mut CollectContext<'_>) {
        let (info, version) = (self.info.take(), self.version.take());
        let old = info.into_iter().chain(version.map(|(series, _)| series));
        old.for_each(|series| context.table.remove(series));
        let fields = FIELDS.map(|field| (field, value_of(&self.text, field).unwrap_or_default()));
        let labels = fields.each_ref().map(|(name, value)| (*name, &**value));
        self.info = Some(
            context
                .schema
                .series(context.table, Target::Node, &INFO, &labels),
        );
        let get = |name: &str| {
            labels
                .iter()
                .find(|label| label.0 == name)
                .map_or("", |label| label.1)
        };
        if let Some(number) = major_minor(get("version_id")) {
            let labels = [
                ("id", get("id")),
                ("id_like", get("id_like")),
                ("name", get("name")),
            ];
            let series = context
                .schema
                .series(context.table, Target::Node, &VERSION, &labels);
            self.version = Some((series, number));
        }
    }
}

impl Collector for Os {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let [first, second] = &mut self.files;
        let found = match first.try_exists() {
            true => first.read(context.buffer, context.errors),
            false => second.read(context.buffer, context.errors),
        };
        let Some(text) = found else {
            return Outcome::NoData;
        };
        if self.info.is_none() || self.text != text {
            self.text = text.to_vec();
            self.describe(context);
        }
        self.info
            .into_iter()
            .for_each(|series| context.table.set(series, 1.0));
        self.version
            .into_iter()
            .for_each(|(series, number)| context.table.set(series, number));
        Outcome::Done
    }
}

/// The value of `field` in os-release(5), a list of shell assignments with optional quotes.
fn value_of(text: &[u8], field: &str) -> Option<String> {
    parse::lines(text).find_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        let (key, value) = line.split_once('=')?;
        if !key.eq_ignore_ascii_case(field) {
            return None;
        }
        let value = value.trim();
        let quoted = ['"', '\'']
            .into_iter()
            .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
        Some(
            quoted
                .unwrap_or(value)
                .replace(r#"\""#, "\"")
                .replace(r"\$", "$")
                .replace(r"\\", r"\"),
        )
    })
}

/// `12.3.4` becomes 12.3.
fn major_minor(version: &str) -> Option<f64> {
    let mut parts = version.splitn(3, '.');
    let major = parts.next()?;
    let number = parts
        .next()
        .map_or_else(|| major.to_owned(), |minor| format!("{major}.{minor}"));
    number
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn upgrade_under_a_running_agent_is_noticed() {
        let mut bench = Bench::new();
        bench.write(
            "root/etc/os-release",
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12.7.1\"\n",
        );
        let roots = bench.roots();
        let mut os = Os::new(&roots, bench.errors());
        bench.collect(&mut os);
        let labels = [
            ("pretty_name", "Debian GNU/Linux 12 (bookworm)"),
            ("id", "debian"),
            ("variant", ""),
        ];
        assert_eq!(bench.value("node_os_info", &labels), Some(1.0));
        assert_eq!(
            bench.value("node_os_version", &[("id", "debian")]),
            Some(12.7)
        );
        bench.write("root/etc/os-release", "ID=debian\nVERSION_ID=13\n");
        bench.collect(&mut os);
        assert_eq!(bench.value("node_os_version", &[]), Some(13.0));
        assert_eq!(bench.series_count(), 2);
    }
}
