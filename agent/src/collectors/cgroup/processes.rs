//! Processes of a cgroup that are visible in the agent's PID namespace.
//!
//! cgroup.procs lists processes by their IDs in the reader's PID namespace. Processes without an ID there are listed
//! as 0 by v2 and omitted by v1, where counting lines would then be wrong.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::file::Buffer;
use crate::parse;

/// Target of /proc/self/ns/pid in the machine's first PID namespace; the number is part of the kernel's interface.
const INITIAL_NAMESPACE: &str = "pid:[4026531836]";

/// The first process of the cgroup at `dir` or of crun's inner cgroup, and whether it is the only one.
///
/// A process without an ID in the agent's PID namespace has the ID 0.
pub fn first(buffer: &mut Buffer, dir: &OwnedFd) -> Option<(u32, bool)> {
    [c"cgroup.procs", c"container/cgroup.procs"]
        .into_iter()
        .find_map(|name| {
            let data = buffer.read_at(dir, name).ok()?;
            let mut lines = parse::lines(data);
            let pid = u32::try_from(parse::integer(lines.next()?)?).ok()?;
            Some((pid, lines.next().is_none()))
        })
}

/// Whether every process of the machine has an ID in the agent's PID namespace. `proc` is the host's /proc.
///
/// `NSpid` in the agent's status there lists one ID per namespace, from the host's down to the agent's. If `proc` is
/// the agent's own /proc, the list does not help, and only the machine's first namespace is known to be complete.
#[must_use]
pub fn sees_all(proc: &Path) -> bool {
    // A recorded /proc has no status, and its lists are complete.
    let Ok(status) = fs::read(proc.join("self/status")) else {
        return true;
    };
    let mut lines = parse::lines(&status);
    let numbers = lines.find_map(|line| line.strip_prefix(b"NSpid:"));
    let is_in_hosts = numbers.is_none_or(|numbers| parse::words(numbers).count() <= 1);
    is_in_hosts && (!is_own(proc) || is_initial(proc))
}

fn is_own(proc: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    device(proc) == device(Path::new("/proc"))
}

fn is_initial(proc: &Path) -> bool {
    let namespace = fs::read_link(proc.join("self/ns/pid"));
    namespace.is_ok_and(|namespace| namespace == Path::new(INITIAL_NAMESPACE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_between_the_hosts_and_the_agents_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        assert!(sees_all(dir.path()), "a recording");
        fs::create_dir(dir.path().join("self")).unwrap();
        for (numbers, want) in [
            ("NSpid:\t4711\n", true),
            ("NSpid:\t4711\t1\n", false),
            ("NSpid:\t4711\t12\t1\n", false),
        ] {
            let status = format!("Name:\tagent\nPid:\t4711\n{numbers}NSpgid:\t1\t1\n");
            fs::write(dir.path().join("self/status"), status).unwrap();
            assert_eq!(sees_all(dir.path()), want, "{numbers:?}");
        }
    }
}
