//! Chunks: columns of values that share their timestamps, compressed together.
//!
//! Each column is transformed into small integers ([`column`]). Their bytes are arranged in planes over all columns, and
//! each plane is compressed with zstd. Decoding returns every bit of every f64.
//!
//! ```text
//! rows varint | columns varint | head length varint | stored head length varint | head
//! head:    first time, then second differences of the times, zigzag varints; then each column's description
//! planes:  count u8, { encoding u8, stored length varint }*, bytes
//! ```

pub(crate) mod chunk;
mod column;
pub(crate) mod decimal;
mod pack;

pub(crate) use chunk::{Chunk, ChunkBuilder, Presence};

#[cfg(test)]
mod tests;
