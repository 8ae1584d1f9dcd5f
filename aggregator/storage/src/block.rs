//! Blocks: immutable files with the samples of a time range and the index of their series.
//!
//! ```text
//! magic | chunks | directory | series | symbols | origin | footer
//! ```
//! [`format`] has the layout of the sections. A block is written under a temporary name, synced and renamed, so a file
//! with a final name is complete. Each chunk and section has a CRC32C, which is checked at each read. Files are read
//! with `pread`, because truncating a mapped file would kill the process.
//!
//! **Invariant:** the series of a block are ordered by group, metric name and labels, so columns that compress
//! well together are adjacent, and the columns of a chunk are consecutive series.

pub(crate) mod block_list;
pub(crate) mod cache;
pub(crate) mod format;
pub(crate) mod index;
pub(crate) mod reader;
pub(crate) mod slice;
pub(crate) mod writer;

pub(crate) use reader::Block;

#[cfg(test)]
mod tests;
