//! Frames: a length and a message.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{BorrowDecode, Encode};

use super::WireError;
use crate::limits::FRAME_BYTES_MAX;
use crate::telemetry::LabelValue;

/// Why a peer is sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, BorrowDecode)]
pub enum RefusalCode {
    /// No protocol version in common.
    Version,
    /// No certificate, or one without an identity that may do this.
    Identity,
    /// The node named is not that of the certificate.
    OtherNode,
    /// As many sessions as the aggregator takes.
    Overloaded,
    /// The aggregator stops; another one, or a later try, will do.
    ShuttingDown,
    /// A newer session of the same agent has taken over.
    Replaced,
    /// A frame that can't be understood, or at the wrong time.
    Protocol,
    /// The join token is unknown, spent, expired, or for others.
    Token,
    /// The certificate request can't be granted.
    Request,
    /// Nothing was wrong with the request; the aggregator could not do it.
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

    /// The code as a metric's label value.
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

/// What an aggregator takes in one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Limits {
    /// Bytes of a frame.
    pub frame_bytes_max: u32,
    /// Numbers are below this.
    pub series_max: u32,
}

/// A message. The order of the variants is the wire format: new ones go to the end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, BorrowDecode)]
pub enum Frame<'a> {
    /// Agent: opens a session.
    Hello {
        /// Protocol versions it speaks.
        versions: Vec<u16>,
        /// Its node, for a clear refusal if the certificate is another's; it decides nothing.
        node: &'a str,
        /// Which spool the sequences count in: random, made with the spool.
        instance: [u8; 16],
        /// The oldest sequence that the spool still holds.
        oldest_sequence: u64,
        /// How far ticks lie apart.
        interval_ms: u32,
        /// Its program version.
        program: &'a str,
    },
    /// Aggregator: the session is open.
    Welcome {
        /// The protocol version from here on.
        version: u16,
        /// What it takes.
        limits: Limits,
        /// The last sequence of this instance that is on disk; what follows is to be sent.
        durable_sequence: Option<u64>,
        /// Its wall clock, for the agent to notice that one of both is wrong.
        now_ms: i64,
    },
    /// Either: the session, or the request, ends here.
    Refused {
        /// Why.
        code: RefusalCode,
        /// For people.
        reason: &'a str,
    },
    /// Agent: changes of the series set.
    Schema {
        /// Whether all numbers so far are void.
        reset: bool,
        /// See [`super::schema`].
        payload: &'a [u8],
    },
    /// Agent: what the next tick is encoded against.
    Base {
        /// See [`super::samples`].
        payload: &'a [u8],
    },
    /// Agent: one tick.
    Samples {
        /// Ascends by at least 1.
        sequence: u64,
        /// When the tick began, milliseconds since the Unix epoch.
        timestamp_ms: i64,
        /// See [`super::samples`].
        payload: &'a [u8],
    },
    /// Aggregator: everything up to this sequence is on disk.
    Ack {
        /// The sequence.
        sequence: u64,
    },
    /// Agent: asks for a certificate with the identity that it has already.
    Renew {
        /// A PKCS #10 request, DER.
        request: &'a [u8],
    },
    /// Agent, where nobody has a certificate yet: asks for the first one.
    Join {
        /// The token's id and secret.
        token: &'a str,
        /// The node's name.
        node: &'a str,
        /// A PKCS #10 request, DER.
        request: &'a [u8],
    },
    /// Aggregator: the certificate.
    Issued {
        /// The leaf, then what leads to the root, DER each.
        chain: Vec<&'a [u8]>,
        /// The roots to trust from here on, DER each.
        roots: Vec<&'a [u8]>,
    },
    /// Agent: it stops on purpose; its series end now.
    Bye,
    /// Agent: to which lane the frames belong that follow. A session begins in the live one.
    Lane {
        /// Ticks that were passed over before, with numbers and a base of their own; they lie behind those of the live lane,
        /// so their sequences say nothing about it.
        backfill: bool,
    },
    /// Aggregator: everything sent in the backfill lane up to this sequence is on disk.
    AckBackfill {
        /// The sequence.
        sequence: u64,
    },
}

const fn config() -> Configuration<LittleEndian, Varint, Limit<FRAME_BYTES_MAX>> {
    bincode::config::standard().with_limit::<FRAME_BYTES_MAX>()
}

impl<'a> Frame<'a> {
    /// Appends length and message to `out`.
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

    /// Reads a message, without its length.
    ///
    /// # Errors
    /// It is no message of ours, or has bytes behind its end.
    pub fn decode(message: &'a [u8]) -> Result<Self, WireError> {
        check_len(message.len() as u64, FRAME_BYTES_MAX)?;
        let (frame, consumed) =
            bincode::borrow_decode_from_slice(message, config()).map_err(WireError::Decode)?;
        match message.len() - consumed {
            0 => Ok(frame),
            bytes => Err(WireError::Trailing { bytes }),
        }
    }

    /// The variant's name, for logs.
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

/// Cuts a stream of bytes into messages.
///
/// Holds at most one incomplete message and what came with it; a message beyond the limit is refused as soon as its length
/// is known, before anything is set aside for it.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
    limit: usize,
}

impl FrameBuffer {
    /// An empty buffer for messages of up to `limit` bytes.
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

    /// Lets messages be up to `limit` bytes long from here on.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether the stream may end here: no message is incomplete.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// The next message, without its length; `None` when more bytes are needed.
    ///
    /// # Errors
    /// The next message is beyond the limit.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, WireError> {
        let Some(len) = self.message_len()? else {
            return Ok(None);
        };
        let from = self.start + 4;
        self.start = from + len;
        Ok(self.bytes.get(from..from + len))
    }

    /// Whether [`Self::next_message`] would give a message.
    ///
    /// # Errors
    /// The next message is beyond the limit.
    pub fn has_message(&self) -> Result<bool, WireError> {
        Ok(self.message_len()?.is_some())
    }

    /// The length of the next message, if all of it is there.
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
