//! Finds cgroups: walks the trees, and watches them with inotify to learn when to walk again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::identity::Identity;

/// Maximum depth of the walk; systemd and the kubelet need 6.
const DEPTH_MAX: usize = 32;

/// Result of a walk.
#[derive(Debug, Default)]
pub struct WalkResult {
    /// Paths with a leading slash, and their identities, without hidden ones.
    pub cgroups: BTreeMap<String, Identity>,
    /// Number of cgroups dropped at the limit.
    pub over_limit: usize,
}

/// Lists and watches the trees.
#[derive(Debug)]
pub struct Tree {
    inotify: Option<Inotify>,
    /// Whether every listed directory is watched. Otherwise only periodic walks find new cgroups.
    is_watched: bool,
    cgroups_max: usize,
}

impl Tree {
    /// A tree of at most `cgroups_max` cgroups.
    #[must_use]
    pub fn new(cgroups_max: usize) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        if let Err(error) = &inotify {
            tracing::warn!(
                error = common::report::chain(error),
                "inotify unavailable; new cgroups are found once a minute"
            );
        }
        Self {
            inotify: inotify.ok(),
            is_watched: false,
            cgroups_max,
        }
    }

    /// Whether [`Self::has_changed`] reports all changes.
    #[must_use]
    pub const fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Whether a cgroup was created or removed since the last call, or events were lost.
    pub fn has_changed(&mut self) -> bool {
        let mut changed = false;
        // Bounded: if cgroups are created faster than events are read, the trees are walked anyway.
        for _ in 0..64 {
            match self.inotify.as_ref().map(Inotify::read_events) {
                Some(Ok(events)) if !events.is_empty() => changed = true,
                _ => break,
            }
        }
        changed
    }

    /// Walks `trees`. Watches each directory before listing it, so that no new child is missed.
    pub fn walk(&mut self, trees: &[&Path]) -> WalkResult {
        let mut found = WalkResult::default();
        self.is_watched = self.inotify.is_some();
        for tree in trees {
            self.walk_dir(tree, &mut String::new(), 0, &mut found);
        }
        found
    }

    fn walk_dir(&mut self, dir: &Path, path: &mut String, depth: usize, found: &mut WalkResult) {
        let name = if path.is_empty() { "/" } else { path.as_str() };
        let identity = Identity::of(name);
        let descend = identity.may_have_shown_below(name) && depth < DEPTH_MAX;
        if identity != Identity::Hidden && !found.cgroups.contains_key(name) {
            if found.cgroups.len() < self.cgroups_max {
                found.cgroups.insert(name.to_owned(), identity);
            } else {
                found.over_limit += 1;
            }
        }
        if !descend {
            return;
        }
        self.watch(dir);
        // A directory that vanished after its parent was listed is skipped.
        let Ok(entries) = fs::read_dir(dir) else {
            return;
        };
        for entry in entries.flatten() {
            let file_name = entry.file_name();
            let Some(name) = file_name.to_str() else {
                continue;
            };
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let length = path.len();
                path.push('/');
                path.push_str(name);
                self.walk_dir(&entry.path(), path, depth + 1, found);
                path.truncate(length);
            }
        }
    }

    fn watch(&mut self, dir: &Path) {
        let Some(inotify) = &self.inotify else { return };
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ONLYDIR;
        match inotify.add_watch(dir, flags) {
            Ok(_watch) => {}
            Err(Errno::ENOENT) => {}
            Err(error) => {
                if self.is_watched {
                    tracing::warn!(error = common::report::chain(&error), dir = %dir.display(), "directory not watched; new cgroups are found once a minute");
                }
                self.is_watched = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &WalkResult) -> Vec<&str> {
        found.cgroups.keys().map(String::as_str).collect()
    }

    #[test]
    fn walk_finds_the_union_of_trees_and_notices_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("memory"), dir.path().join("cpuacct"));
        for path in [
            "memory/x/y",
            "cpuacct/x",
            "cpuacct/z",
            "memory/x/some.mount/deep",
        ] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let mut tree = Tree::new(100);
        let found = tree.walk(&[&a, &b]);
        assert_eq!(names(&found), ["/", "/x", "/x/y", "/z"]);
        assert!(tree.is_watched() && !tree.has_changed());
        fs::create_dir(a.join("x/new")).unwrap();
        assert!(tree.has_changed() && !tree.has_changed());
        fs::remove_dir(a.join("x/y")).unwrap();
        assert!(tree.has_changed());
        assert_eq!(names(&tree.walk(&[&a, &b])), ["/", "/x", "/x/new", "/z"]);
    }

    #[test]
    fn cgroups_beyond_the_limit_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let found = Tree::new(4).walk(&[dir.path()]);
        assert_eq!((found.cgroups.len(), found.over_limit), (4, 0));
        let found = Tree::new(3).walk(&[dir.path()]);
        assert_eq!((found.cgroups.len(), found.over_limit), (3, 1));
    }
}
