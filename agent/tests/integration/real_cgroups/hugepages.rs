//! Pages of 2 MiB that a process in a cgroup really has.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Reader, TestCgroup};
use crate::support::{eventually, skip};

const UNIFIED: &str = "/sys/fs/cgroup/unified";
const RESERVED: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const PAGE_BYTES: f64 = 2097152.0;

/// Two pages of the machine, and a file system of them.
struct HugePages {
    dir: tempfile::TempDir,
    before: u64,
}

impl HugePages {
    /// Why there are none, where that is so.
    fn reserve() -> Result<Self, String> {
        let number = || -> Result<u64, String> {
            let text = fs::read_to_string(RESERVED).map_err(|error| error.to_string())?;
            text.trim().parse().map_err(|error| format!("{error}"))
        };
        let before = number()?;
        let dir = tempfile::tempdir().unwrap();
        fs::write(RESERVED, (before + 2).to_string()).map_err(|error| error.to_string())?;
        let pages = Self { dir, before };
        if number()? < before + 2 {
            return Err("the machine has no two huge pages to spare".to_owned());
        }
        let fstype = Some("hugetlbfs");
        let options = Some("pagesize=2M");
        mount(fstype, pages.dir.path(), fstype, MsFlags::empty(), options)
            .map_err(|error| format!("mount hugetlbfs: {error}"))?;
        Ok(pages)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // Not mounted where something was missing.
        umount2(self.dir.path(), MntFlags::MNT_DETACH).ok();
        fs::write(RESERVED, self.before.to_string()).ok();
    }
}

/// The cgroup's directory in the tree of v2, where v1 has left huge pages to it.
fn unified(cgroup: &TestCgroup) -> Result<PathBuf, String> {
    let root = Path::new(UNIFIED);
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    if !controllers.split_whitespace().any(|one| one == "hugetlb") {
        return Err("no controller hugetlb in the unified hierarchy".to_owned());
    }
    fs::write(root.join("cgroup.subtree_control"), "+hugetlb")
        .map_err(|error| format!("enable hugetlb: {error}"))?;
    let dir = root.join(&cgroup.name);
    fs::create_dir(&dir).map_err(|error| error.to_string())?;
    Ok(dir)
}

#[test]
fn huge_pages_that_a_process_holds_are_counted() {
    let test = "hugepages";
    let Some(mut cgroup) = TestCgroup::new(test) else {
        return;
    };
    let pages = match unified(&cgroup).and_then(|dir| {
        cgroup.dirs.push(dir);
        HugePages::reserve()
    }) {
        Ok(pages) => pages,
        Err(reason) => return skip(test, &reason),
    };
    let file = pages.dir.path().join("pages");
    let script = format!("fallocate -l 4M {} && sleep 1000", file.display());
    let _holder = cgroup.run(&script);
    let mut reader = Reader::new();
    let usage_becomes = |reader: &mut Reader, bytes: f64| {
        eventually("huge pages charged", || {
            reader.tick();
            let usage = reader.value(&cgroup, "container_hugetlb_usage_bytes");
            (usage == Some(bytes)).then_some(())
        });
    };
    usage_becomes(&mut reader, 2.0 * PAGE_BYTES);
    let current = cgroup.dirs.last().unwrap().join("hugetlb.2MB.current");
    let kernels: f64 = fs::read_to_string(current).unwrap().trim().parse().unwrap();
    assert_eq!(kernels, 2.0 * PAGE_BYTES);
    assert_eq!(
        reader.value(&cgroup, "container_hugetlb_failcnt"),
        Some(0.0)
    );
    fs::remove_file(&file).unwrap();
    usage_becomes(&mut reader, 0.0);
}
