//! The writer's end of a response: a buffer that turns into compressed chunks once it is large enough.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::encoding::{Encoder, Encoding, encode_whole};
use crate::http::error::{ApiError, ErrorType};

/// Bytes of text that become one chunk.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that may wait for the socket.
const CHUNKS_AHEAD: usize = 4;
/// Largest response written inline: less than a chunk, because an inline writer must not wait for the socket.
const INLINE_BYTES_MAX: usize = 48 << 10;
/// The same for compressed responses: compressing 32 KiB takes about a millisecond.
const INLINE_COMPRESSED_MAX: usize = 16 << 10;

/// The chunks of a streamed response. An empty chunk marks the end of a complete body.
pub(super) type Chunks = mpsc::Receiver<Bytes>;

/// How a response begins.
pub(super) enum ResponseStart {
    /// The whole body is known.
    Whole { body: Vec<u8>, encoding: Encoding },
    /// The body follows in chunks.
    Streamed(Chunks),
    /// The writer failed before the first chunk.
    Failed(ApiError),
}

/// Receives the text of a response. Until the first chunk is full, an error can still become an error response.
pub struct Sink {
    /// Text not yet sent. Writers append here and call [`Self::flush_chunk`] after each item.
    pub text: Vec<u8>,
    encoding: Encoding,
    encoder: Option<Encoder>,
    /// Taken by the first chunk, by the end or by an error.
    start: Option<oneshot::Sender<ResponseStart>>,
    chunks: Option<mpsc::Sender<Bytes>>,
    runtime: Handle,
    /// How long a client may read nothing.
    stall_max: Duration,
    /// Bytes of text before the writer is interrupted.
    text_bytes_max: usize,
}

impl Sink {
    /// Creates a sink that reports the start of its response to `start`.
    pub(super) fn new(
        encoding: Encoding,
        start: oneshot::Sender<ResponseStart>,
        stall_max: Duration,
    ) -> Self {
        Self {
            text: Vec::with_capacity(4096),
            encoding,
            encoder: None,
            start: Some(start),
            chunks: None,
            runtime: Handle::current(),
            stall_max,
            text_bytes_max: usize::MAX,
        }
    }

    /// Creates a sink that never blocks: it fails as soon as the response is too large to be written inline.
    pub(super) fn inline(encoding: Encoding, stall_max: Duration) -> Self {
        let (start, _) = oneshot::channel();
        let text_bytes_max = match encoding {
            Encoding::Identity => INLINE_BYTES_MAX,
            Encoding::Gzip | Encoding::Deflate | Encoding::Zstd => INLINE_COMPRESSED_MAX,
        };
        Self {
            text_bytes_max,
            ..Self::new(encoding, start, stall_max)
        }
    }

    /// Sends the text as a chunk if there is enough of it. Blocks while the client is slow.
    ///
    /// # Errors
    /// The client is gone or has read nothing for too long.
    pub fn flush_chunk(&mut self) -> Result<(), ApiError> {
        if self.text.len() > self.text_bytes_max {
            return Err(ApiError::new(
                ErrorType::Canceled,
                "response is too large to be written inline",
            ));
        }
        if self.text.len() < CHUNK_BYTES {
            return Ok(());
        }
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::new(self.encoding).map_err(compress_failed)?,
        };
        let chunk = encoder.feed(&mut self.text).map_err(compress_failed)?;
        self.encoder = Some(encoder);
        self.send(chunk)
    }

    fn send(&mut self, chunk: Vec<u8>) -> Result<(), ApiError> {
        if let Some(start) = self.start.take() {
            let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
            start
                .send(ResponseStart::Streamed(receiver))
                .map_err(|_| client_gone())?;
            self.chunks = Some(sender);
        }
        if chunk.is_empty() {
            return Ok(());
        }
        self.send_to_socket(Bytes::from(chunk))
    }

    fn send_to_socket(&self, chunk: Bytes) -> Result<(), ApiError> {
        let Some(chunks) = &self.chunks else {
            return Ok(());
        };
        let send = chunks.send_timeout(chunk, self.stall_max);
        self.runtime.block_on(send).map_err(|_| client_gone())
    }

    /// Sends the rest and marks the body as complete.
    pub(super) fn finish(mut self) -> Result<(), ApiError> {
        let text = std::mem::take(&mut self.text);
        if let Some(encoder) = self.encoder.take() {
            let rest = encoder.finish(text).map_err(compress_failed)?;
            self.send(rest)?;
            return self.send_to_socket(Bytes::new());
        }
        let (body, encoding) = encode_whole(text, self.encoding).map_err(compress_failed)?;
        if let Some(start) = self.start.take() {
            // Sending fails only if the client is gone.
            drop(start.send(ResponseStart::Whole { body, encoding }));
        }
        Ok(())
    }

    /// Makes `error` the response. Returns it if the response has already begun.
    pub(super) fn fail(&mut self, error: ApiError) -> Result<(), ApiError> {
        match self.start.take() {
            Some(start) => {
                drop(start.send(ResponseStart::Failed(error)));
                Ok(())
            }
            None => Err(error),
        }
    }

    /// Encodes everything written so far, for a response that is complete.
    pub(super) fn into_whole(self) -> io::Result<(Vec<u8>, Encoding)> {
        encode_whole(self.text, self.encoding)
    }
}

fn client_gone() -> ApiError {
    ApiError::new(ErrorType::Canceled, "client is gone")
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "an argument of map_err takes the error"
)]
fn compress_failed(error: io::Error) -> ApiError {
    ApiError::internal("compress the response", &error)
}
