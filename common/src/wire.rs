//! The wire protocol between agent and aggregator: frames and their payloads. No I/O.
//!
//! A session is one bidirectional stream. The agent opens it with [`Frame::Hello`] and waits for [`Frame::Welcome`].
//! Then it sends the existing series ([`schema`]) and their last values ([`Frame::Base`]), and for each tick the changes of
//! the schema and the values ([`samples`]). The aggregator sends [`Frame::Ack`] when more ticks are durable.
//!
//! Within a session, `series_ref` is the agent's number of a series. It indexes the columns of a tick's payload.
//!
//! **Invariant:** memory for decoding is bounded by the received bytes and by the caller's limits, never by a count that
//! the peer claims. No type here is recursive. An unknown frame, entry or layout is an error that names it
//! ([`WireError::Unknown`]), never skipped.

pub mod compress;
pub mod frame;
pub mod samples;
pub mod schema;
pub mod varint;

pub use compress::Compressor;
pub use frame::{Frame, FrameBuffer, Limits, RefusalCode};
pub use samples::TickState;
pub use schema::{SchemaEntry, SchemaReader, SchemaWriter};

/// ALPN of the data protocol. Both ends present certificates.
pub const ALPN: &[u8] = b"tidemark/1";
/// ALPN of joining. The aggregator presents its certificate, the agent a token.
pub const ALPN_JOIN: &[u8] = b"tidemark-join/1";
/// Newest protocol version.
pub const VERSION: u16 = 2;
/// Supported protocol versions, newest first.
pub const VERSIONS: [u16; 2] = [VERSION, 1];
/// First protocol version with a second lane, for skipped ticks.
pub const VERSION_LANES: u16 = 2;

/// Returns the newest supported version among those a peer names.
#[must_use]
pub fn common_version(named: &[u16]) -> Option<u16> {
    VERSIONS.into_iter().find(|version| named.contains(version))
}

/// Why bytes from a peer or from the spool can't be decoded. The session ends.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A frame or a decompressed payload exceeds its limit.
    #[error("{what} of {bytes} bytes, at most {limit} allowed")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// The length.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
    /// The bytes are not a frame.
    #[error("decode frame")]
    Decode(#[source] bincode::error::DecodeError),
    /// A frame could not be encoded.
    #[error("encode frame")]
    Encode(#[source] bincode::error::EncodeError),
    /// A frame has trailing bytes.
    #[error("{bytes} bytes after the end of the frame")]
    Trailing {
        /// Number of bytes.
        bytes: usize,
    },
    /// A payload ends early.
    #[error("payload ends within {what}")]
    Truncated {
        /// The incomplete part.
        what: &'static str,
    },
    /// The bytes use something that this version does not know.
    #[error("unknown {what} {tag}")]
    Unknown {
        /// What is unknown.
        what: &'static str,
        /// Its number on the wire.
        tag: u32,
    },
    /// A payload contradicts itself or the session.
    #[error("bad payload: {what}")]
    Bad {
        /// The contradiction.
        what: &'static str,
    },
    /// A payload can't be decompressed.
    #[error("decompress: {message}")]
    Compression {
        /// The message of zstd.
        message: &'static str,
    },
    /// A label set is not valid for a series.
    #[error("bad labels")]
    Labels(#[from] crate::model::LabelsError),
}
