//! Huge pages of a cgroup, by size.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::reader::{Layouts, Reader, number};
use crate::faults::Faults;
use crate::file::{Buffer, KeptFile};
use crate::parse;
use crate::schema::{FamilyDef, counter, gauge};
use crate::table::SeriesId;

/// Families in the order of [`Files`].
pub const FAMILIES: [FamilyDef; 3] = [
    gauge(
        "container_hugetlb_usage_bytes",
        "Current hugepage usage in bytes",
    ),
    gauge(
        "container_hugetlb_max_usage_bytes",
        "Maximum hugepage usages recorded in bytes",
    ),
    counter(
        "container_hugetlb_failcnt",
        "Number of hugepage usage hits limits",
    ),
];

/// Values and series of one size, in the order of [`FAMILIES`].
pub type OfSize<T> = [Option<T>; FAMILIES.len()];

/// The three files of a size; v2 has no maximum, and counts what hit the limit among events.
#[derive(Debug)]
struct Files {
    usage: CString,
    max_usage: Option<CString>,
    failures: CString,
}

/// A size of huge pages.
#[derive(Debug)]
pub struct PageSize {
    /// As cAdvisor and the kernel's files have it: `2MB`.
    pub name: String,
    v1: Files,
    v2: Files,
}

/// In which kind of directory a cgroup's files are.
#[derive(Debug, Clone, Copy)]
pub enum Tree<'a> {
    /// That of the controller hugetlb of v1.
    V1(&'a OwnedFd),
    /// One of v2.
    V2(&'a OwnedFd),
}

/// The sizes of which the machine has pages. A cgroup can't have any of the others, so nothing is read for those.
#[derive(Debug)]
pub struct PageSizes {
    /// Sizes that the machine knows but has never had a page of.
    unused: Vec<(PageSize, KeptFile)>,
    sizes: Vec<PageSize>,
}

impl PageSizes {
    /// Sizes below the host's /sys.
    #[must_use]
    pub fn new(sys: &Path, faults: &mut Faults) -> Self {
        let directory = sys.join("kernel/mm/hugepages");
        let mut unused = Vec::new();
        // Which sizes there are is up to the processor.
        for entry in std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            if let Some(size) = PageSize::of_directory(&entry.file_name().to_string_lossy()) {
                let path = entry.path().join("nr_hugepages");
                unused.push((size, KeptFile::new(path, "sys/nr_hugepages", faults)));
            }
        }
        let sizes = Vec::new();
        Self { unused, sizes }
    }

    /// Looks which sizes there are pages of; one that has been there stays, so that its series go on.
    pub fn refresh(&mut self, buffer: &mut Buffer, faults: &mut Faults) {
        let has_pages = |(_, file): &mut (PageSize, KeptFile)| {
            file.read(buffer, faults).and_then(parse::single) > Some(0)
        };
        let used = self.unused.extract_if(.., has_pages);
        self.sizes.extend(used.map(|(size, _)| size));
    }

    /// The sizes.
    #[must_use]
    pub fn list(&self) -> &[PageSize] {
        &self.sizes
    }
}

impl PageSize {
    /// The size of `hugepages-2048kB`.
    fn of_directory(name: &str) -> Option<Self> {
        let kibibytes = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
        let kibibytes: u64 = kibibytes.parse().ok()?;
        let name = match kibibytes {
            _ if kibibytes >= 1 << 20 => format!("{}GB", kibibytes >> 20),
            _ if kibibytes >= 1 << 10 => format!("{}MB", kibibytes >> 10),
            _ => format!("{kibibytes}KB"),
        };
        let file = |what: &str| CString::new(format!("hugetlb.{name}.{what}")).ok();
        Some(Self {
            v1: Files {
                usage: file("usage_in_bytes")?,
                max_usage: Some(file("max_usage_in_bytes")?),
                failures: file("failcnt")?,
            },
            v2: Files {
                usage: file("current")?,
                max_usage: None,
                failures: file("events")?,
            },
            name,
        })
    }

    /// What a cgroup has of this size, in the order of [`FAMILIES`].
    pub fn read(&self, reader: &mut Reader<'_>, tree: Tree<'_>) -> OfSize<f64> {
        match tree {
            Tree::V1(dir) => [
                reader.cold(Some(dir), &self.v1.usage, number),
                self.v1
                    .max_usage
                    .as_ref()
                    .and_then(|name| reader.cold(Some(dir), name, number)),
                reader.cold(Some(dir), &self.v1.failures, number),
            ],
            Tree::V2(dir) => [
                reader.cold(Some(dir), &self.v2.usage, number),
                None,
                reader.cold(Some(dir), &self.v2.failures, failures),
            ],
        }
    }
}

/// The only line of hugetlb.*.events: `max 3`.
fn failures(data: &[u8], _: &mut Layouts) -> Option<f64> {
    let line = parse::lines(data).find_map(|line| line.strip_prefix(b"max "))?;
    Some(parse::integer(line)? as f64)
}

/// A size's series in one cgroup.
pub type Series = OfSize<SeriesId>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_named_as_the_kernel_names_its_files() {
        let name = |directory: &str| PageSize::of_directory(directory).map(|size| size.name);
        assert_eq!(name("hugepages-2048kB").as_deref(), Some("2MB"));
        assert_eq!(name("hugepages-1048576kB").as_deref(), Some("1GB"));
        assert_eq!(name("hugepages-64kB").as_deref(), Some("64KB"));
        assert_eq!(name("hugepages-"), None);
        assert_eq!(failures(b"max 3\n", &mut Layouts::default()), Some(3.0));
        assert_eq!(failures(b"max x\n", &mut Layouts::default()), None);
    }
}
