//! A full disk: writes are refused, reads go on, and once there is space all goes on without a restart.

use std::path::{Path, PathBuf};
use std::process::Command;

use tidemark_storage::AppendError;

use super::{NOW_MS, open, samples, series};

/// A tmpfs that is gone when this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where we may not mount.
    fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(at.to_path_buf()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "unmount the test's disk"
        );
    }
}

#[test]
fn full_disk_refuses_and_recovers_without_loss() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(directory.path(), 8) else {
        println!("SKIPPED: may not mount a tmpfs here (needs root)");
        return;
    };
    let path = directory.path().join("data");
    let store = open(&path);
    let mut stream = store.stream("agent/a");
    stream.define(0, &series(0)).unwrap();
    let mut write = |sequence: u64| {
        let time = NOW_MS - 1_000_000 + sequence as i64;
        let appended = stream.append_row(sequence, time, &[(0, sequence as f64)])?;
        store.wait_durable(appended.position)
    };
    write(1).unwrap();
    let ballast = directory.path().join("ballast");
    fill(&ballast);
    let mut refused_from = 0;
    for sequence in 2..100_000 {
        if let Err(error) = write(sequence) {
            assert!(matches!(error, AppendError::DiskFull { .. }), "{error}");
            refused_from = sequence;
            break;
        }
    }
    assert!(refused_from > 0, "the disk was never full");
    assert!(matches!(
        write(refused_from + 1),
        Err(AppendError::DiskFull { .. })
    ));
    assert!(
        samples(&store, &series(0)).len() as u64 >= refused_from - 1,
        "reads go on"
    );
    std::fs::remove_file(&ballast).unwrap();
    let mut sequence = refused_from;
    while sequence < refused_from + 50 {
        // The writer repeats what was not acknowledged, as an agent does.
        match write(sequence) {
            Ok(()) => sequence += 1,
            Err(_) => std::thread::yield_now(),
        }
    }
    let before = samples(&store, &series(0));
    assert_eq!(before.len() as u64, refused_from + 49);
    // As after a kill: the store is never closed, its files are what they are.
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .arg("-r")
        .arg(&path)
        .arg(copy.path())
        .status();
    assert!(copied.unwrap().success());
    let again = open(&copy.path().join("data"));
    assert_eq!(samples(&again, &series(0)), before);
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    let block = vec![1; 4096];
    while file.write_all(&block).is_ok() {}
}
