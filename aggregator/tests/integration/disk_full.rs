//! Test of a full disk: writes are answered 503, queries keep working, the server recovers without a restart, and a kill
//! afterwards loses nothing.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Aggregator, PATIENCE, now_ms};
use crate::http::encode;
use crate::remote::{series, write};

/// A tmpfs that is unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=96m", "tmpfs"])
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
fn full_disk_is_503_and_recovers_in_seconds_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(directory.path()) else {
        eprintln!("SKIPPED: may not mount a tmpfs here (needs root)");
        return;
    };
    let on_disk = tempfile::tempdir_in(directory.path()).unwrap();
    let aggregator = Aggregator::start_in(on_disk, &[]);
    let now = now_ms() - 60_000;
    let mut acknowledged = 0;
    let mut send = |aggregator: &Aggregator| {
        let one = series(&[("__name__", "kept")], &[(now + acknowledged, 1.0)]);
        let status = write(aggregator, vec![one]).status;
        acknowledged += i64::from(status == 204);
        status
    };
    assert_eq!(send(&aggregator), 204);
    let ballast = directory.path().join("ballast");
    let mut file = File::create(&ballast).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let refused = Instant::now();
    while send(&aggregator) != 503 {
        assert!(refused.elapsed() < PATIENCE, "never refused");
    }
    let count = format!(
        "/api/v1/query?query={}",
        encode("count_over_time(kept[5m])")
    );
    let stored = |aggregator: &Aggregator| {
        let data = aggregator.get(&count).data();
        data["result"][0]["value"][1].as_str().unwrap().to_owned()
    };
    assert!(
        stored(&aggregator).parse::<i64>().unwrap() >= 1,
        "queries go on"
    );
    drop(file);
    fs::remove_file(&ballast).unwrap();
    let freed = Instant::now();
    while send(&aggregator) != 204 {
        assert!(freed.elapsed() < PATIENCE, "{}", aggregator.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("samples are taken again after {:?}", freed.elapsed());
    for _ in 0..50 {
        assert_eq!(send(&aggregator), 204);
    }
    let again = Aggregator::start_in(aggregator.kill(), &[]);
    assert_eq!(stored(&again), acknowledged.to_string());
    drop(again.stop());
}
