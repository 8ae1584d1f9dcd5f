//! Measures a server's files, and drops them from the page cache.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// A file in a data directory.
#[derive(Debug, Clone)]
pub struct DiskFile {
    /// Path relative to the directory.
    pub path: PathBuf,
    /// Disk usage in bytes: the allocated size, at most the length, as files may be sparse or preallocated.
    pub bytes: u64,
}

/// Lists all files below `directory`. Skips files that disappear meanwhile.
///
/// # Errors
/// A directory can't be read.
pub fn files(directory: &Path) -> Result<Vec<DiskFile>> {
    let mut entries = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        let listing = match fs::read_dir(&next) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("list {}", next.display())),
        };
        for entry in listing {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.is_file() {
                let path = entry.path();
                let relative = path.strip_prefix(directory)?.to_owned();
                entries.push(DiskFile {
                    path: relative,
                    bytes: metadata.len().min(metadata.blocks() * 512),
                });
            }
        }
    }
    Ok(entries)
}

/// Drops all files below `directory` from the page cache, so that the next start reads the disk. No process may have them
/// open for writing.
///
/// # Errors
/// A file can't be opened or synced.
pub fn drop_page_cache(directory: &Path) -> Result<()> {
    for entry in files(directory)? {
        let path = directory.join(&entry.path);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        // Only clean pages can be dropped.
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_all_depths_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        fs::write(directory.path().join("x"), [1; 5000]).unwrap();
        fs::write(directory.path().join("a/b/y"), [1; 3000]).unwrap();
        drop_page_cache(directory.path()).unwrap();
        let mut found = files(directory.path()).unwrap();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let found: Vec<_> = found
            .iter()
            .map(|entry| (entry.path.to_str().unwrap(), entry.bytes))
            .collect();
        assert_eq!(found, [("a/b/y", 3000), ("x", 5000)]);
        assert!(files(&directory.path().join("absent")).unwrap().is_empty());
    }
}
