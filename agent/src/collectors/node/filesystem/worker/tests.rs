//! The guard against file systems that really hang: FUSE mounts that nobody serves, in a mount namespace of the test's
//! own, so that no other test meets them.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::thread::sleep;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::*;

const NONE: Option<&str> = None;
const INIT: u32 = 26;
const STATFS: u32 = 17;

/// A file system whose requests this end leaves unanswered until the test makes it answer.
struct Silent {
    dir: TempDir,
    device: File,
}

impl Silent {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = File::options();
        let device = options.read(true).write(true).open("/dev/fuse").unwrap();
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        );
        let flags = MsFlags::empty();
        mount(
            Some("silent"),
            dir.path(),
            Some("fuse"),
            flags,
            Some(&*data),
        )
        .unwrap();
        Self { dir, device }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Answers what has been asked until a statfs is answered: 7 blocks of 512 bytes.
    fn answer(&mut self) {
        let mut request = vec![0; 1 << 16];
        loop {
            let length = self.device.read(&mut request).unwrap();
            assert!(length >= 40, "a request of {length} bytes");
            let field = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
            let body = match field(4) {
                INIT => {
                    let mut body = [0; 64];
                    body[..8].copy_from_slice(&request[40..48]); // The version it offered.
                    body[20..24].copy_from_slice(&4096_u32.to_ne_bytes()); // max_write
                    body.to_vec()
                }
                STATFS => {
                    let mut body = [0; 80];
                    body[..8].copy_from_slice(&7_u64.to_ne_bytes());
                    body[40..44].copy_from_slice(&512_u32.to_ne_bytes());
                    body[48..52].copy_from_slice(&512_u32.to_ne_bytes());
                    body.to_vec()
                }
                other => panic!("unexpected operation {other}"),
            };
            let mut reply = (16 + body.len() as u32).to_ne_bytes().to_vec();
            reply.extend([0; 4]); // No error.
            reply.extend(&request[8..16]); // Which request.
            reply.extend(body);
            self.device.write_all(&reply).unwrap();
            if field(4) == STATFS {
                return;
            }
        }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        umount2(self.dir.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

/// Whether this machine lets the test mount FUSE; if so, this thread and those it starts see their own mounts.
fn can_mount() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    let is_there = is_root && Path::new("/dev/fuse").try_exists().unwrap();
    if !is_there || unshare(CloneFlags::CLONE_NEWNS).is_err() {
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED: hanging mounts need root and /dev/fuse").unwrap();
        return false;
    }
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(NONE, "/", NONE, flags, NONE).unwrap();
    true
}

fn worker(paths: Vec<PathBuf>) -> Worker {
    let mut worker = Worker {
        patience: Duration::from_millis(100),
        stuck_after: Duration::from_millis(50),
        ..Worker::default()
    };
    worker.set_paths(paths);
    worker
}

/// Asks as ticks do until `is_so`, however busy the machine is.
#[track_caller]
fn ask_until(worker: &mut Worker, what: &str, is_so: impl Fn(&Worker) -> bool) {
    let began = Instant::now();
    while !is_so(worker) {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "{what}: {worker:?}"
        );
        worker.ask();
        sleep(Duration::from_millis(5));
    }
}

fn is_known(answer: Answer) -> bool {
    matches!(answer, Answer::Usage(_))
}

#[test]
fn hanging_mount_fails_until_it_answers() {
    if !can_mount() {
        return;
    }
    let mut silent = Silent::new();
    let (sound, late) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut worker = worker(vec![silent.path(), sound.path().to_owned()]);
    ask_until(&mut worker, "distinguished", |worker| {
        worker.answer(0) == Answer::Failed && is_known(worker.answer(1))
    });

    // Others are asked meanwhile, and no thread more is spent on the one that hangs.
    worker.set_paths(vec![
        silent.path(),
        sound.path().to_owned(),
        late.path().to_owned(),
    ]);
    ask_until(&mut worker, "a new mount", |worker| {
        is_known(worker.answer(2))
    });
    let hangs = |worker: &Worker| worker.shared.lock().calls.len() == 1;
    ask_until(&mut worker, "one call hangs", |worker| {
        hangs(worker) && worker.thread_count() == 2
    });
    for _ in 0..20 {
        worker.ask();
        assert_eq!(worker.answer(0), Answer::Failed);
        assert!(is_known(worker.answer(1)));
    }

    silent.answer();
    let mut seen = Answer::Failed;
    let began = Instant::now();
    while !is_known(seen) {
        // The next round asks again, and is answered again.
        assert!(began.elapsed() < Duration::from_secs(120), "{worker:?}");
        seen = worker.answer(0);
        sleep(Duration::from_millis(5));
    }
    let Answer::Usage(usage) = seen else {
        unreachable!("it is known")
    };
    assert_eq!((usage.blocks, usage.block_bytes), (7, 512));
    drop(silent);
    ask_until(&mut worker, "one thread is left", |worker| {
        worker.thread_count() == 1
    });
}

#[test]
fn mount_removed_during_its_call_does_not_delay_the_others() {
    if !can_mount() {
        return;
    }
    let silent = Silent::new();
    let sound = tempfile::tempdir().unwrap();
    let mut worker = worker(vec![silent.path(), sound.path().to_owned()]);
    let began = Instant::now();
    while worker.shared.lock().calls.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(120), "{worker:?}");
        worker.ask();
    }
    worker.set_paths(vec![sound.path().to_owned()]);
    ask_until(&mut worker, "the other one", |worker| {
        is_known(worker.answer(0))
    });
}

#[test]
fn threads_are_bounded_and_old_answers_end_at_the_bound() {
    if !can_mount() {
        return;
    }
    let silent: Vec<Silent> = std::iter::repeat_with(Silent::new)
        .take(LEFT_BEHIND_MAX + 4)
        .collect();
    let sound = tempfile::tempdir().unwrap();
    let mut paths = vec![sound.path().to_owned()];
    paths.extend(silent.iter().map(Silent::path));
    let count = paths.len();
    let mut worker = worker(paths);
    ask_until(&mut worker, "all are given up", |worker| {
        assert!(worker.thread_count() <= LEFT_BEHIND_MAX + 1);
        (0..count).all(|index| worker.answer(index) == Answer::Failed)
    });
    // Unmounted, and the other end is closed: the kernel releases all waiting threads.
    drop(silent);
    ask_until(&mut worker, "it is asked again", |worker| {
        is_known(worker.answer(0))
    });
}
