//! The wire protocol between agent and aggregator: frames, and what is in them. No I/O here.
//!
//! A session is one bidirectional stream. The agent opens it with [`Frame::Hello`] and may send nothing else until
//! [`Frame::Welcome`] has come. Then it sends the series that exist ([`schema`]), the values they had last
//! ([`Frame::Base`]), and from there on for each tick the schema's changes and the values ([`samples`]). The
//! aggregator answers with [`Frame::Ack`] whenever more of it is on disk.
//!
//! **Invariant:** decoding allocates in proportion to the bytes that came and to limits that the caller states,
//! never to a number that the peer claims. No type here is recursive.

pub mod compress;
pub mod frame;
pub mod samples;
pub mod schema;
pub mod varint;

pub use compress::Compressor;
pub use frame::{Frame, FrameBuffer, Limits, RefusalCode};
pub use samples::TickState;
pub use schema::{SchemaEntry, SchemaReader, SchemaWriter};

/// ALPN of the data protocol; both ends show certificates.
pub const ALPN: &[u8] = b"tidemark/1";
/// ALPN of joining: the aggregator shows its certificate, the agent a token.
pub const ALPN_JOIN: &[u8] = b"tidemark-join/1";
/// The newest protocol version.
pub const VERSION: u16 = 2;
/// The protocol versions that both ends speak, the newest first.
pub const VERSIONS: [u16; 2] = [VERSION, 1];
/// From this version on there is a second lane, for ticks that were passed over.
pub const VERSION_LANES: u16 = 2;

/// The newest version that a peer speaks too, of those it names.
#[must_use]
pub fn common_version(named: &[u16]) -> Option<u16> {
    VERSIONS.into_iter().find(|version| named.contains(version))
}

/// Why bytes from a peer, or from the spool, can't be understood. The session that brought them ends.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A frame or a decompressed payload beyond its limit.
    #[error("{what} of {bytes} bytes, at most {limit} allowed")]
    TooLong {
        /// What it is the length of.
        what: &'static str,
        /// The length.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
    /// A frame that is none of ours.
    #[error("decode frame")]
    Decode(#[source] bincode::error::DecodeError),
    /// A frame that could not be written.
    #[error("encode frame")]
    Encode(#[source] bincode::error::EncodeError),
    /// Bytes behind the end of a frame.
    #[error("{bytes} bytes behind the end of the frame")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A payload that ends early.
    #[error("payload ends within {what}")]
    Truncated {
        /// Within what.
        what: &'static str,
    },
    /// A payload that contradicts itself or the session so far.
    #[error("bad payload: {what}")]
    Bad {
        /// In what way.
        what: &'static str,
    },
    /// A payload that does not decompress.
    #[error("decompress: {message}")]
    Compression {
        /// What zstd says.
        message: &'static str,
    },
    /// A label set that no series may have.
    #[error("bad labels")]
    Labels(#[from] crate::model::LabelsError),
}
