//! The file system as the store sees it: every call that changes a file goes through here.
//!
//! In a build for use these are the calls of `std::fs` themselves. In a build for this crate's tests they pass a
//! [`model`] first, which can refuse a call as a failing disk does, and notes each one, so that a test can lay out what a
//! disk would hold if the power had gone at any moment.

#[cfg(test)]
pub(crate) mod model;
#[cfg(not(test))]
mod real;

#[cfg(test)]
pub(crate) use model::{
    File, copy, create_dir, create_dir_all, hard_link, open_for_writing, read_exact_at,
    remove_dir_all, remove_file, rename, sync_directory,
};
#[cfg(not(test))]
pub(crate) use real::{
    File, copy, create_dir, create_dir_all, hard_link, open_for_writing, read_exact_at,
    remove_dir_all, remove_file, rename, sync_directory,
};
