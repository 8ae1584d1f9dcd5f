//! The memory limit of this process's cgroup.

use std::fs;
use std::path::{Component, Path};

/// Returns the smallest limit of the process's cgroup and its ancestors, in bytes. `membership` is the text of
/// `/proc/self/cgroup`, `mount` the mount point of the cgroup file system. Skips cgroups that are not visible from here (a
/// container without a cgroup namespace), but always checks the root.
pub(super) fn memory_limit(mount: &Path, membership: &str) -> Option<u64> {
    let v1 = mount.join("memory");
    let unified = mount.join("unified");
    let roots = [
        (mount, "memory.max"),
        (unified.as_path(), "memory.max"),
        (v1.as_path(), "memory.limit_in_bytes"),
    ];
    let at_roots = roots
        .iter()
        .filter_map(|(root, file)| limit(&root.join(file)));
    let nested = membership.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, Path::new(fields.next()?));
        let roots = match controllers {
            "" => &roots[..2],
            _ if controllers.split(',').any(|one| one == "memory") => &roots[2..],
            _ => return None,
        };
        roots
            .iter()
            .filter_map(|(root, file)| smallest(root, path, file))
            .min()
    });
    at_roots.chain(nested).min()
}

/// Returns the smallest limit from `path` up to `root`.
fn smallest(root: &Path, path: &Path, file: &str) -> Option<u64> {
    // Outside of the namespace of cgroups: nothing of it is below `root`.
    if path.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let path = path.strip_prefix("/").unwrap_or(path);
    path.ancestors()
        .filter_map(|one| limit(&root.join(one).join(file)))
        .min()
}

/// Returns `None` if there is no such file, or if it contains `max`.
fn limit(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let file = root.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn smallest_limit_above_the_process_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(memory_limit(root, "0::/a.slice/b.service\n"), None);
        write(root, "a.slice/memory.max", "3000\n");
        write(root, "a.slice/b.service/memory.max", "max\n");
        write(root, "a.slice/other/memory.max", "5\n");
        let at = |membership| memory_limit(root, membership);
        assert_eq!(at("0::/a.slice/b.service\n"), Some(3000));
        write(root, "a.slice/b.service/memory.max", "2000\n");
        assert_eq!(at("0::/a.slice/b.service\n"), Some(2000));
        assert_eq!(at("0::/a.slice\n"), Some(3000));
        assert_eq!(at("0::/\n"), None);
        assert_eq!(at("0::/../other\n"), None);
        assert_eq!(at("0::/not/here\n"), None);
        write(root, "memory.max", "1000\n");
        assert_eq!(at("0::/a.slice/b.service\n"), Some(1000));
        assert_eq!(at(""), Some(1000));
    }

    #[test]
    fn first_version_is_found_by_its_controller() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "memory/a/b/memory.limit_in_bytes", "4000\n");
        write(
            root,
            "memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        let at = |membership| memory_limit(root, membership);
        assert_eq!(at("3:cpu,cpuacct:/a/b\n2:memory:/a/b/c\n"), Some(4000));
        assert_eq!(at("3:cpu,cpuacct:/a/b\n"), Some(9_223_372_036_854_771_712));
    }
}
