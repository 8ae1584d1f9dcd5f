//! The file system as the store sees it: every call that changes a file goes through here.
//!
//! In normal builds these are the calls of `std::fs` themselves. In test builds of this crate they first go through a
//! [`model`]. The model can fail a call as a broken disk does, and records each call, so that a test can rebuild what a
//! disk would hold after a power loss at any point.

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
