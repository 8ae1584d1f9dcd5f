//! Huge pages of a cgroup, by page size.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::reader::{Layouts, Reader, number};
use crate::file::{Buffer, KeptFile};
use crate::parse;
use crate::read_errors::ReadErrors;
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

/// Values or series of one page size, in the order of [`FAMILIES`].
pub type OfSize<T> = [Option<T>; FAMILIES.len()];

/// The three files of one page size. v2 has no maximum, and counts hits of the limit among its events.
#[derive(Debug)]
struct Files {
    usage: CString,
    max_usage: Option<CString>,
    failures: CString,
}

impl Files {
    fn v1(prefix: &str) -> Option<Self> {
        Some(Self {
            usage: CString::new(format!("{prefix}.usage_in_bytes")).ok()?,
            max_usage: Some(CString::new(format!("{prefix}.max_usage_in_bytes")).ok()?),
            failures: CString::new(format!("{prefix}.failcnt")).ok()?,
        })
    }

    /// Files of pages in use if `reserved` is empty. Events of reservations are counted with the others.
    fn v2(prefix: &str, reserved: &str) -> Option<Self> {
        Some(Self {
            usage: CString::new(format!("{prefix}{reserved}.current")).ok()?,
            max_usage: None,
            failures: CString::new(format!("{prefix}.events")).ok()?,
        })
    }

    fn read(
        &self,
        reader: &mut Reader<'_>,
        dir: &OwnedFd,
        failures: impl FnOnce(&[u8], &mut Layouts) -> Option<f64>,
    ) -> OfSize<f64> {
        let usage = reader.open_and_read(Some(dir), &self.usage, number);
        if usage.is_none() {
            return [None; FAMILIES.len()];
        }
        let max_usage = self.max_usage.as_ref();
        let max_usage = max_usage.and_then(|name| reader.open_and_read(Some(dir), name, number));
        let failures = reader.open_and_read(Some(dir), &self.failures, failures);
        [usage, max_usage, failures]
    }
}

/// A size of huge pages.
#[derive(Debug)]
pub struct PageSize {
    /// The size as cAdvisor and the kernel's file names spell it: `2MB`.
    pub name: String,
    /// Reservations first (Linux 5.7 and newer), then pages in use. A reservation takes pages from everybody else
    /// even if untouched, and cAdvisor reports it.
    v1: [Files; 2],
    /// The same for v2.
    v2: [Files; 2],
}

/// The directory that a cgroup's files are in.
#[derive(Debug, Clone, Copy)]
pub enum Tree<'a> {
    /// Of the v1 controller hugetlb.
    V1(&'a OwnedFd),
    /// Of a v2 cgroup.
    V2(&'a OwnedFd),
}

/// The page sizes that the machine has pages of. A cgroup can't use any other size, so no other is read.
#[derive(Debug)]
pub struct PageSizes {
    /// Sizes that the kernel supports but has never had pages of.
    unused: Vec<(PageSize, KeptFile)>,
    sizes: Vec<PageSize>,
}

impl PageSizes {
    /// Sizes below the host's /sys.
    #[must_use]
    pub fn new(sys: &Path, errors: &mut ReadErrors) -> Self {
        let directory = sys.join("kernel/mm/hugepages");
        let mut unused = Vec::new();
        // The processor determines the supported sizes.
        for entry in std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            if let Some(size) = PageSize::of_directory(&entry.file_name().to_string_lossy()) {
                let path = entry.path().join("nr_hugepages");
                unused.push((size, KeptFile::new(path, "sys/nr_hugepages", errors)));
            }
        }
        let sizes = Vec::new();
        Self { unused, sizes }
    }

    /// Finds the sizes with pages. A size stays once it was found, so that its series continue.
    pub fn refresh(&mut self, buffer: &mut Buffer, errors: &mut ReadErrors) {
        let has_pages = |(_, file): &mut (PageSize, KeptFile)| {
            file.read(buffer, errors).and_then(parse::single) > Some(0)
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
    /// The page size of a directory like `hugepages-2048kB`.
    fn of_directory(name: &str) -> Option<Self> {
        let kibibytes = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
        let kibibytes: u64 = kibibytes.parse().ok()?;
        let name = match kibibytes {
            _ if kibibytes >= 1 << 20 => format!("{}GB", kibibytes >> 20),
            _ if kibibytes >= 1 << 10 => format!("{}MB", kibibytes >> 10),
            _ => format!("{kibibytes}KB"),
        };
        let prefix = format!("hugetlb.{name}");
        let reserved = format!("{prefix}.rsvd");
        Some(Self {
            v1: [Files::v1(&reserved)?, Files::v1(&prefix)?],
            v2: [Files::v2(&prefix, ".rsvd")?, Files::v2(&prefix, "")?],
            name,
        })
    }

    /// Reads a cgroup's values for this size, in the order of [`FAMILIES`].
    pub fn read(&self, reader: &mut Reader<'_>, tree: Tree<'_>) -> OfSize<f64> {
        let mut first = |files: &[Files; 2], dir, failures: fn(&[u8], &mut Layouts) -> _| {
            let read = files.iter().map(|files| files.read(reader, dir, failures));
            let mut read = read.filter(|[usage, ..]| usage.is_some());
            read.next().unwrap_or_default()
        };
        match tree {
            Tree::V1(dir) => first(&self.v1, dir, number),
            Tree::V2(dir) => first(&self.v2, dir, failures),
        }
    }
}

/// Parses the only line of hugetlb.*.events: `max 3`.
fn failures(data: &[u8], _: &mut Layouts) -> Option<f64> {
    let line = parse::lines(data).find_map(|line| line.strip_prefix(b"max "))?;
    Some(parse::integer(line)? as f64)
}

/// Series of one page size in one cgroup.
pub type Series = OfSize<SeriesId>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_spelled_as_in_kernel_file_names() {
        let name = |directory: &str| PageSize::of_directory(directory).map(|size| size.name);
        assert_eq!(name("hugepages-2048kB").as_deref(), Some("2MB"));
        assert_eq!(name("hugepages-1048576kB").as_deref(), Some("1GB"));
        assert_eq!(name("hugepages-64kB").as_deref(), Some("64KB"));
        assert_eq!(name("hugepages-"), None);
        assert_eq!(failures(b"max 3\n", &mut Layouts::default()), Some(3.0));
        assert_eq!(failures(b"max x\n", &mut Layouts::default()), None);
    }
}
