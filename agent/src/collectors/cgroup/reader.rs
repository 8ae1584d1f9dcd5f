//! Reads cgroup files. All cgroups share its buffer, error counters and learned layouts.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::keyed_file::KeyedPicker;
use crate::file::{Buffer, is_gone, is_unsupported};
use crate::read_errors::{ReadErrorId, ReadErrors};

/// The cgroup vanished while it was read. The caller drops the values read so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Keys of memory.stat, v1.
pub mod v1_memory {
    /// In the order of the constants below.
    pub const KEYS: [&[u8]; 12] = [
        b"pgfault",
        b"pgmajfault",
        b"total_cache",
        b"total_rss",
        b"total_mapped_file",
        b"total_dirty",
        b"total_writeback",
        b"total_swap",
        b"total_pgfault",
        b"total_pgmajfault",
        b"total_inactive_file",
        b"total_active_file",
    ];
}

/// Keys of memory.stat, v2.
pub mod v2_memory {
    /// In the order in which they are destructured.
    pub const KEYS: [&[u8]; 10] = [
        b"anon",
        b"file",
        b"kernel",
        b"file_mapped",
        b"file_dirty",
        b"file_writeback",
        b"inactive_file",
        b"active_file",
        b"pgfault",
        b"pgmajfault",
    ];
}

/// Keys of cpu.stat, v2.
pub const V2_CPU_KEYS: [&[u8]; 8] = [
    b"usage_usec",
    b"user_usec",
    b"system_usec",
    b"nr_periods",
    b"nr_throttled",
    b"throttled_usec",
    b"nr_bursts",
    b"burst_usec",
];
/// Keys of cpu.stat, v1.
pub const V1_CPU_KEYS: [&[u8]; 5] = [
    b"nr_periods",
    b"nr_throttled",
    b"throttled_time",
    b"nr_bursts",
    b"burst_time",
];
/// Keys of memory.events, v2.
pub const V2_EVENTS_KEYS: [&[u8]; 3] = [b"high", b"max", b"oom_kill"];

/// Learned layouts, one per kind of file.
#[derive(Debug)]
pub struct Layouts {
    /// memory.stat, v1.
    pub v1_memory: KeyedPicker<12>,
    /// memory.stat, v2.
    pub v2_memory: KeyedPicker<10>,
    /// cpuacct.stat, v1.
    pub v1_cpuacct: KeyedPicker<2>,
    /// cpu.stat, v1.
    pub v1_cpu: KeyedPicker<5>,
    /// cpu.stat, v2.
    pub v2_cpu: KeyedPicker<8>,
    /// memory.oom_control, v1.
    pub v1_oom: KeyedPicker<1>,
    /// memory.events, v2.
    pub v2_events: KeyedPicker<3>,
}

impl Default for Layouts {
    fn default() -> Self {
        Self {
            v1_memory: KeyedPicker::new(v1_memory::KEYS),
            v2_memory: KeyedPicker::new(v2_memory::KEYS),
            v1_cpuacct: KeyedPicker::new([b"user", b"system"]),
            v1_cpu: KeyedPicker::new(V1_CPU_KEYS),
            v2_cpu: KeyedPicker::new(V2_CPU_KEYS),
            v1_oom: KeyedPicker::new([b"oom_kill"]),
            v2_events: KeyedPicker::new(V2_EVENTS_KEYS),
        }
    }
}

/// Reads cgroup files.
#[derive(Debug)]
pub struct Reader<'a> {
    /// Buffer for file contents.
    pub buffer: &'a mut Buffer,
    /// Error counters.
    pub errors: &'a mut ReadErrors,
    /// Layouts learned so far.
    pub layouts: &'a mut Layouts,
    /// Memory of the machine in bytes, which is the root's limit.
    pub memory_total_bytes: Option<f64>,
    /// Whether v1's process lists are complete.
    pub sees_all_processes: bool,
}

/// Opens a cgroup's directory as a base for its files; `None` if it does not exist.
#[must_use]
pub fn open_dir(path: &Path) -> Option<OwnedFd> {
    open(
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .ok()
}

/// Opens a cgroup file to keep; `None` if it does not exist.
#[must_use]
pub fn open_kept(dir: Option<&OwnedFd>, name: &CStr) -> Option<File> {
    openat(
        dir?,
        name,
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .ok()
    .map(File::from)
}

impl Reader<'_> {
    /// Reads a kept file and parses it. Returns `None` if the file is absent or malformed.
    ///
    /// # Errors
    /// The cgroup has gone.
    pub fn read_kept<T>(
        &mut self,
        file: Option<&File>,
        name: &CStr,
        parse: impl FnOnce(&[u8], &mut Layouts) -> Option<T>,
    ) -> Result<Option<T>, Gone> {
        let Some(file) = file else { return Ok(None) };
        match self.buffer.read_file(file) {
            Ok(data) => match parse(data, self.layouts) {
                Some(value) => Ok(Some(value)),
                None => {
                    let error_id = self.error_id(name);
                    self.errors.parse(error_id);
                    Ok(None)
                }
            },
            Err(error) if is_gone(&error) => Err(Gone),
            Err(error) => {
                let error_id = self.error_id(name);
                self.errors.read(error_id, &error);
                Ok(None)
            }
        }
    }

    /// Opens a file by name, reads it and parses it. Returns `None` if the file is absent or malformed.
    pub fn open_and_read<T>(
        &mut self,
        dir: Option<&OwnedFd>,
        name: &CStr,
        parse: impl FnOnce(&[u8], &mut Layouts) -> Option<T>,
    ) -> Option<T> {
        match self.buffer.read_at(dir?, name) {
            Ok(data) => match parse(data, self.layouts) {
                Some(value) => Some(value),
                None => {
                    let error_id = self.error_id(name);
                    self.errors.parse(error_id);
                    None
                }
            },
            Err(error) if is_gone(&error) || is_unsupported(&error) => None,
            // The root of a v1 hierarchy refuses to read some files that it should not have.
            Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => None,
            Err(error) => {
                let error_id = self.error_id(name);
                self.errors.read(error_id, &error);
                None
            }
        }
    }

    /// Called only on errors, so that the normal path does not look up names.
    fn error_id(&mut self, name: &CStr) -> ReadErrorId {
        self.errors.file(&name.to_string_lossy())
    }
}

/// A file with one number, as a float.
pub fn number(data: &[u8], _: &mut Layouts) -> Option<f64> {
    crate::parse::single(data).map(|number| number as f64)
}

/// A limit of v2: a number, or 0 for `max`, as in cAdvisor.
pub fn limit_or_max(data: &[u8], layouts: &mut Layouts) -> Option<f64> {
    if data.trim_ascii() == b"max" {
        Some(0.0)
    } else {
        number(data, layouts)
    }
}

/// A memory limit of v1: a number, or 0 for the huge number that means unlimited.
pub fn limit_v1(data: &[u8], _: &mut Layouts) -> Option<f64> {
    let limit = crate::parse::single(data)?;
    Some(if limit > 1 << 62 { 0.0 } else { limit as f64 })
}

/// Counts lines of cgroup.procs or cgroup.threads. v2 lists processes of other PID namespaces as 0.
pub fn count_lines(data: &[u8], _: &mut Layouts) -> Option<f64> {
    Some(data.iter().filter(|&&byte| byte == b'\n').count() as f64)
}
