//! Atomic file replacement, and the lock of a data directory.

use std::fs::File as LockFile;
use std::io;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::disk::{self, File};
use crate::write::OpenError;

pub(crate) use crate::disk::sync_directory;

/// Creates a directory and its missing parents. They are durable when this returns, also if an earlier attempt created
/// them and could not sync them.
///
/// # Errors
/// One can't be made or synced.
pub(crate) fn create_directory(directory: &Path) -> io::Result<()> {
    let parent = match directory.parent() {
        None => return Ok(()),
        Some(parent) if parent == Path::new("") => Path::new("."),
        Some(parent) => parent,
    };
    if !directory.is_dir() {
        if !parent.is_dir() {
            create_directory(parent)?;
        }
        disk::create_dir_all(directory)?;
    }
    match sync_directory(parent) {
        // It is not readable for us, so we did not create the entry.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// Writes a file under a temporary name, syncs it, renames it, and syncs its directory.
///
/// # Errors
/// Any step failed; the old file, if any, is untouched.
pub(crate) fn write_atomically(
    path: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let written = File::create(&temporary).and_then(|mut file| {
        fill(&mut file)?;
        file.sync_all()
    });
    if let Err(error) = written {
        remove_if_there(&temporary)?;
        return Err(error);
    }
    disk::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Removes a file. A missing file is not an error.
///
/// # Errors
/// It exists and can't be removed.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match disk::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the bytes that an unprivileged process can still write to the file system of `path`.
///
/// # Errors
/// The query failed.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok(stat.blocks_available() as u64 * stat.fragment_size() as u64)
}

/// Returns the size of the file system of `path` in bytes.
///
/// # Errors
/// The query failed.
pub(crate) fn total_bytes(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok(stat.blocks() as u64 * stat.fragment_size() as u64)
}

/// Locks a data directory for this process. Released when dropped, or by the kernel when the process ends.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: Flock<LockFile>,
}

impl DirectoryLock {
    /// Creates the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// It can't be created, or another process has locked it.
    pub(crate) fn acquire(directory: &Path) -> Result<Self, OpenError> {
        let io_error = |source| OpenError::Io {
            path: directory.display().to_string(),
            source,
        };
        create_directory(directory).map_err(io_error)?;
        let file = LockFile::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(directory.join("lock"))
            .map_err(io_error)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(OpenError::Locked {
                path: directory.display().to_string(),
            }),
            Err((_, errno)) => Err(io_error(errno.into())),
        }
    }
}
