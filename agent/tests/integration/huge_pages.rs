//! Real huge pages, mapped by a process in a cgroup of the controller hugetlb of v1, then of v2.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use agent::collectors::node::Roots;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};

use crate::cgroups::{ROOT, Reader, TestCgroup, can_make_v1};
use crate::support::{eventually, skip};

const TEST: &str = "real huge pages";
const PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const PAGE_BYTES: f64 = 2_097_152.0;
/// In which trees the collector looks for cgroups.
const OTHERS: [&str; 2] = ["memory", "cpuacct"];

/// Huge pages of the machine; as many as before when dropped.
struct Pages {
    before: String,
}

impl Pages {
    /// `None`, said loudly, where the kernel does not give that many.
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

/// A v1 tree of the controller hugetlb, in a mount namespace of the test's thread.
struct Tree(PathBuf);

impl Tree {
    fn mount(at: PathBuf) -> nix::Result<Self> {
        fs::create_dir(&at).unwrap();
        let tree = Self(at);
        tree.mount_again()?;
        Ok(tree)
    }

    fn mount_again(&self) -> nix::Result<()> {
        let (none, options) = (None::<&str>, Some("hugetlb"));
        mount(none, &self.0, Some("cgroup"), MsFlags::empty(), options)
    }
}

/// Whether v2 has the controller, because no tree of v1 has it.
fn is_v2s() -> bool {
    let controllers = fs::read_to_string(Path::new(ROOT).join("unified/cgroup.controllers"));
    controllers.is_ok_and(|names| names.split_whitespace().any(|name| name == "hugetlb"))
}

impl Drop for Tree {
    fn drop(&mut self) {
        umount(&self.0).unwrap();
        // A tree whose last cgroup the kernel has not let go of yet outlives its mount.
        eventually("end of the tree", || {
            let has_ended = is_v2s();
            if !has_ended && self.mount_again().is_ok() {
                umount(&self.0).unwrap();
            }
            has_ended.then_some(())
        });
    }
}

/// The controller, on in the v2 tree; as before when dropped.
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
            fs::write(&self.control, "-hugetlb").unwrap();
        }
    }
}

/// A script that maps huge pages privately, touches the first, and keeps them; it ends at once where it gets none.
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

/// Two pages are mapped and one is used, then three are refused: `files` are the kernel's for what is reserved, for
/// what is used, and the limit of what may be reserved.
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

fn check_v1() {
    let dir = tempfile::tempdir().unwrap();
    for name in OTHERS {
        symlink(Path::new(ROOT).join(name), dir.path().join(name)).unwrap();
    }
    // Of this thread and its children only, so that no other program finds the tree and puts cgroups into it.
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
    let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    mount(none, "/", none, private, none).unwrap();
    let _tree = match Tree::mount(dir.path().join("hugetlb")) {
        Ok(tree) => tree,
        Err(error) => return skip(TEST, &format!("no tree of v1 with hugetlb: {error}")),
    };
    let trees = [OTHERS[0], OTHERS[1], "hugetlb"];
    let cgroup = TestCgroup::new(dir.path(), &trees, "huge-v1", &[]);
    let roots = Roots {
        cgroup: dir.path().to_owned(),
        ..Roots::default()
    };
    let files = [
        "hugetlb.2MB.rsvd.usage_in_bytes",
        "hugetlb.2MB.usage_in_bytes",
        "hugetlb.2MB.rsvd.limit_in_bytes",
    ];
    check(&roots, &cgroup, "hugetlb", files);
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
    check_v1();
    check_v2();
}
