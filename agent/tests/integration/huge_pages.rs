//! Real huge pages, mapped by a process in a v2 cgroup. v1 machines leave the controller hugetlb to v2.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use agent::collectors::node::Roots;

use crate::cgroups::{ROOT, Reader, TestCgroup, can_make_v1};
use crate::support::{eventually, skip};

const TEST: &str = "real huge pages";
const PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const PAGE_BYTES: f64 = 2_097_152.0;
/// The trees that the collector reads.
const OTHERS: [&str; 2] = ["memory", "cpuacct"];

/// Huge pages of the machine. Restores their number on drop.
struct Pages {
    before: String,
}

impl Pages {
    /// Returns `None`, with a notice, if the kernel does not provide that many.
    fn add(count: u64) -> Option<Self> {
        let before = fs::read_to_string(PAGES).ok();
        let Some(before) = before.filter(|_| crate::support::is_root()) else {
            skip(TEST, "needs root and a kernel with huge pages of 2 MB");
            return None;
        };
        let pages = Self { before };
        let had: u64 = pages.before.trim().parse().unwrap();
        fs::write(PAGES, (had + count).to_string()).unwrap();
        let has: u64 = fs::read_to_string(PAGES).unwrap().trim().parse().unwrap();
        if has < had + count {
            let why = format!("the kernel gives {} of {count} huge pages", has - had);
            skip(TEST, &why);
            return None;
        }
        Some(pages)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        fs::write(PAGES, &self.before).unwrap();
    }
}

/// Enables the controller in the v2 tree. Restores the setting on drop.
struct Enabled {
    control: PathBuf,
    was_on: bool,
}

impl Enabled {
    fn in_v2() -> std::io::Result<Self> {
        let control = Path::new(ROOT).join("unified/cgroup.subtree_control");
        let on = fs::read_to_string(&control)?;
        let was_on = on.split_whitespace().any(|name| name == "hugetlb");
        fs::write(&control, "+hugetlb")?;
        Ok(Self { control, was_on })
    }
}

impl Drop for Enabled {
    fn drop(&mut self) {
        if !self.was_on {
            let (Ok(()) | Err(_)) = fs::write(&self.control, "-hugetlb");
        }
    }
}

/// A script that maps huge pages privately, touches the first, and keeps them. Exits at once if it gets none.
fn map(pages: usize) -> String {
    format!(
        "exec python3 -c '
import mmap, time
MAP_PRIVATE_ANONYMOUS_HUGETLB = 0x2 | 0x20 | 0x40000
pages = mmap.mmap(-1, {pages} << 21, flags=MAP_PRIVATE_ANONYMOUS_HUGETLB)
pages[0] = 1
time.sleep(1000)'"
    )
}

/// Maps two pages and uses one, then fails to map three. `files` are the kernel's for reservations, for usage, and
/// the limit on reservations.
fn check(roots: &Roots, cgroup: &TestCgroup, tree: &str, files: [&str; 3]) {
    let [reserved, used, limit] = files;
    cgroup.write(tree, limit, "8388608");
    let mut reader = Reader::new(roots);
    let _holder = cgroup.run(&map(2));
    eventually("a page in use", || {
        (cgroup.number(tree, used) == PAGE_BYTES).then_some(())
    });
    reader.tick();
    let values = reader.values(cgroup, "container_hugetlb_usage_bytes");
    let of_2mb = values
        .iter()
        .filter(|(labels, _)| labels.get("pagesize") == Some("2MB"));
    let of_2mb: Vec<f64> = of_2mb.map(|(_, value)| *value).collect();
    assert_eq!(of_2mb, [2.0 * PAGE_BYTES]);
    assert_eq!(cgroup.number(tree, reserved), 2.0 * PAGE_BYTES);
    let refused = |reader: &Reader| {
        let values = reader.values(cgroup, "container_hugetlb_failcnt");
        values.iter().map(|(_, value)| value).sum::<f64>()
    };
    assert_eq!(refused(&reader), 0.0);
    let mut second = cgroup.run(&map(3));
    let status = second.0.wait().unwrap();
    assert!(!status.success(), "beyond the limit");
    reader.tick();
    assert_eq!(refused(&reader), 1.0);
}

fn check_v2() {
    let _enabled = match Enabled::in_v2() {
        Ok(enabled) => enabled,
        Err(error) => return skip(TEST, &format!("hugetlb is not v2's: {error}")),
    };
    let trees = [OTHERS[0], OTHERS[1], "unified"];
    let cgroup = TestCgroup::new(Path::new(ROOT), &trees, "huge-v2", &[]);
    let files = [
        "hugetlb.2MB.rsvd.current",
        "hugetlb.2MB.current",
        "hugetlb.2MB.rsvd.max",
    ];
    check(&Roots::default(), &cgroup, "unified", files);
}

#[test]
fn mapped_pages_are_counted_as_the_kernel_counts_them() {
    if !can_make_v1(TEST) {
        return;
    }
    if Command::new("python3").arg("-V").output().is_err() {
        return skip(TEST, "needs python3, which maps the pages");
    }
    let Some(_pages) = Pages::add(8) else { return };
    check_v2();
}
