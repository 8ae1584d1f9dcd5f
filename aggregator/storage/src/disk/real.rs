//! The calls of `std::fs`.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

pub(crate) use std::fs::{
    File, copy, create_dir, create_dir_all, hard_link, remove_dir_all, remove_file, rename,
};

/// Opens an existing file for writing.
///
/// # Errors
/// The file can't be opened.
pub(crate) fn open_for_writing(path: &Path) -> io::Result<File> {
    File::options().write(true).open(path)
}

/// Fills `buffer` with the bytes of a file from `offset` on.
///
/// # Errors
/// The file can't be read or is too short.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

/// Makes the entries of a directory durable.
///
/// # Errors
/// The directory can't be opened or synced.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
