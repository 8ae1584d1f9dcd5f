//! Blocks: immutable files with the samples of a span of time and the index of their series.
//!
//! ```text
//! magic | chunks | directory | series | symbols | origin | footer
//! ```
//! Layout of the sections: [`format`]. A block is written under another name, synced and renamed, so a file with the
//! right name is whole; each chunk and section has its CRC32C, checked whenever it is read. Files are read with
//! `pread`: a mapped file that someone truncates would kill the process.
//!
//! **Invariant:** the series of a block are ordered by group, metric name and labels, so the columns that compress
//! well together are neighbours, and the columns of a chunk are consecutive series.

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
