//! Frames: a length followed by a message.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::error::DecodeError;
use bincode::{BorrowDecode, Encode};

use super::WireError;
use crate::limits::FRAME_BYTES_MAX;
use crate::telemetry::LabelValue;

/// Why a session or request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, BorrowDecode)]
pub enum RefusalCode {
    /// There is no common protocol version.
    Version,
    /// The certificate is missing, or its identity is not allowed to do this.
    Identity,
    /// The named node differs from the certificate's.
    OtherNode,
    /// The aggregator has its maximum number of sessions.
    Overloaded,
    /// The aggregator is shutting down; retry later or with another one.
    ShuttingDown,
    /// A newer session of the same agent replaces this one.
    Replaced,
    /// A frame is malformed or unexpected.
    Protocol,
    /// The join token is unknown, used up, expired, or for other nodes.
    Token,
    /// The certificate request can't be granted.
    Request,
    /// The request was valid, but the aggregator failed.
    Internal,
}

impl RefusalCode {
    /// All codes.
    pub const ALL: [Self; 10] = [
        Self::Version,
        Self::Identity,
        Self::OtherNode,
        Self::Overloaded,
        Self::ShuttingDown,
        Self::Replaced,
        Self::Protocol,
        Self::Token,
        Self::Request,
        Self::Internal,
    ];

    /// Returns the code as a metric's label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Identity => "identity",
            Self::OtherNode => "other_node",
            Self::Overloaded => "overloaded",
            Self::ShuttingDown => "shutting_down",
            Self::Replaced => "replaced",
            Self::Protocol => "protocol",
            Self::Token => "token",
            Self::Request => "request",
            Self::Internal => "internal",
        }
    }
}

impl LabelValue for RefusalCode {
    const LABEL: &'static str = "reason";

    fn all() -> Vec<Self> {
        Self::ALL.to_vec()
    }

    fn as_label(self) -> &'static str {
        self.as_str()
    }
}

/// Limits of an aggregator for one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Limits {
    /// Maximum size of a frame, in bytes.
    pub frame_bytes_max: u32,
    /// Every `series_ref` must be below this.
    pub series_max: u32,
}

/// A message. The order of the variants is part of the wire format: add new ones at the end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, BorrowDecode)]
pub enum Frame<'a> {
    /// From the agent: opens a session.
    Hello {
        /// Supported protocol versions.
        versions: Vec<u16>,
        /// The node's name. Only used to report a certificate of another node clearly.
        node: &'a str,
        /// Random id of the spool that numbers the ticks.
        instance: [u8; 16],
        /// Oldest sequence number in the spool.
        oldest_sequence: u64,
        /// Time between ticks.
        interval_ms: u32,
        /// Version of the agent.
        program: &'a str,
    },
    /// From the aggregator: the session is open.
    Welcome {
        /// Protocol version of the session.
        version: u16,
        /// Limits of the session.
        limits: Limits,
        /// Last durable sequence number of this spool. The agent sends the ticks after it.
        durable_sequence: Option<u64>,
        /// Wall clock of the aggregator, so that the agent can detect a wrong clock.
        now_ms: i64,
    },
    /// From either: ends the session or the request.
    Refused {
        /// The reason.
        code: RefusalCode,
        /// Description for people.
        reason: &'a str,
    },
    /// From the agent: changes of the series set.
    Schema {
        /// Whether all earlier definitions are void.
        reset: bool,
        /// See [`super::schema`].
        payload: &'a [u8],
    },
    /// From the agent: the state that the next tick is encoded against.
    Base {
        /// See [`super::samples`].
        payload: &'a [u8],
    },
    /// From the agent: one tick.
    Samples {
        /// Sequence number, strictly ascending.
        sequence: u64,
        /// Start of the tick, in milliseconds since the Unix epoch.
        timestamp_ms: i64,
        /// See [`super::samples`].
        payload: &'a [u8],
    },
    /// From the aggregator: all ticks up to this sequence number are durable.
    Ack {
        /// The sequence number.
        sequence: u64,
    },
    /// From the agent: requests a new certificate for its identity.
    Renew {
        /// A PKCS #10 request, DER.
        request: &'a [u8],
    },
    /// From a joining agent: requests its first certificate.
    Join {
        /// The token's id and secret.
        token: &'a str,
        /// The node's name.
        node: &'a str,
        /// A PKCS #10 request, DER.
        request: &'a [u8],
    },
    /// From the aggregator: the certificate.
    Issued {
        /// The leaf, then the intermediates up to the root, each in DER.
        chain: Vec<&'a [u8]>,
        /// The roots to trust from now on, each in DER.
        roots: Vec<&'a [u8]>,
    },
    /// From the agent: it is shutting down, and its series end now.
    Bye,
    /// From the agent: the lane of the following frames. A session begins in the live lane.
    Lane {
        /// Whether it is the backfill lane, for ticks that were skipped before. It has series definitions and a base of its
        /// own, and its sequence numbers are lower than those of the live lane.
        backfill: bool,
    },
    /// From the aggregator: all ticks of the backfill lane up to this sequence number are durable.
    AckBackfill {
        /// The sequence number.
        sequence: u64,
    },
}

const fn config() -> Configuration<LittleEndian, Varint, Limit<FRAME_BYTES_MAX>> {
    bincode::config::standard().with_limit::<FRAME_BYTES_MAX>()
}

impl<'a> Frame<'a> {
    /// Appends the length and the message to `out`.
    ///
    /// # Errors
    /// The message is longer than [`FRAME_BYTES_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        let encoded = bincode::encode_into_std_write(self, out, config());
        let len = out.len() - start - 4;
        let checked = encoded
            .map_err(WireError::Encode)
            .and_then(|_| check_len(len as u64, FRAME_BYTES_MAX));
        match checked {
            Ok(()) => {
                out[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
                Ok(())
            }
            Err(error) => {
                out.truncate(start);
                Err(error)
            }
        }
    }

    /// Decodes a message, without its length.
    ///
    /// # Errors
    /// The message is malformed, of an unknown kind, or followed by other bytes.
    pub fn decode(message: &'a [u8]) -> Result<Self, WireError> {
        check_len(message.len() as u64, FRAME_BYTES_MAX)?;
        let (frame, consumed) =
            bincode::borrow_decode_from_slice(message, config()).map_err(decode_error)?;
        match message.len() - consumed {
            0 => Ok(frame),
            bytes => Err(WireError::Trailing { bytes }),
        }
    }

    /// Returns the variant's name, for logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::Welcome { .. } => "Welcome",
            Self::Refused { .. } => "Refused",
            Self::Schema { .. } => "Schema",
            Self::Base { .. } => "Base",
            Self::Samples { .. } => "Samples",
            Self::Ack { .. } => "Ack",
            Self::Renew { .. } => "Renew",
            Self::Join { .. } => "Join",
            Self::Issued { .. } => "Issued",
            Self::Bye => "Bye",
            Self::Lane { .. } => "Lane",
            Self::AckBackfill { .. } => "AckBackfill",
        }
    }
}

const fn check_len(bytes: u64, limit: usize) -> Result<(), WireError> {
    if bytes > limit as u64 {
        let what = "frame";
        return Err(WireError::TooLong { what, bytes, limit });
    }
    Ok(())
}

/// Names the frame or code that this version does not know.
fn decode_error(error: DecodeError) -> WireError {
    match error {
        DecodeError::UnexpectedVariant {
            type_name, found, ..
        } => WireError::Unknown {
            what: type_name,
            tag: found,
        },
        error => WireError::Decode(error),
    }
}

/// Splits a stream of bytes into messages.
///
/// Holds at most one incomplete message and the bytes received with it. A message beyond the limit is refused as soon as its
/// length is known, before memory is reserved for it.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
    limit: usize,
}

impl FrameBuffer {
    /// Creates an empty buffer for messages of up to `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            limit,
        }
    }

    /// Adds bytes of the stream.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
        } else if self.start > 0 {
            self.bytes.drain(..self.start);
        }
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Sets the maximum message size, in bytes.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether no message is incomplete, so that the stream may end.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Returns the next message, without its length; `None` when more bytes are needed.
    ///
    /// # Errors
    /// The next message exceeds the limit.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, WireError> {
        let Some(len) = self.message_len()? else {
            return Ok(None);
        };
        let from = self.start + 4;
        self.start = from + len;
        Ok(self.bytes.get(from..from + len))
    }

    /// Whether [`Self::next_message`] would return a message.
    ///
    /// # Errors
    /// The next message exceeds the limit.
    pub fn has_message(&self) -> Result<bool, WireError> {
        Ok(self.message_len()?.is_some())
    }

    /// Returns the length of the next message if it is complete.
    fn message_len(&self) -> Result<Option<usize>, WireError> {
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        let Some((head, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*head);
        check_len(u64::from(len), self.limit)?;
        Ok((rest.len() >= len as usize).then_some(len as usize))
    }
}

#[cfg(test)]
mod tests;
