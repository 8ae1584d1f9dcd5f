//! Responses that are written while they are sent: the writer works on a blocking thread, a few chunks ahead of the
//! socket, and compresses on the way. What fits into one chunk goes out whole, with its length.

use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::{HeaderMap, HeaderValue, header};
use hyper::body::Frame;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::error::{ApiError, ErrorType};

/// Bytes that are gathered before they are compressed and handed on.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that may wait for the socket.
const CHUNKS_AHEAD: usize = 4;
/// Below this, compression costs more than it saves.
const COMPRESS_FROM_BYTES: usize = 1024;

/// How a response is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Deflate,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// The best of what the client takes.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let accepted = headers
            .get_all(header::ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|part| {
                let mut pieces = part.split(';');
                let name = pieces.next()?.trim();
                let refused = pieces.any(|q| {
                    q.trim()
                        .strip_prefix("q=")
                        .is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|q| q == 0.0))
                });
                (!refused).then_some(name)
            });
        let mut best = Self::Identity;
        for name in accepted {
            match name {
                "zstd" => return Self::Zstd,
                "gzip" => best = Self::Gzip,
                "deflate" if best == Self::Identity => best = Self::Deflate,
                _ => {}
            }
        }
        best
    }

    const fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
            Self::Zstd => Some("zstd"),
        }
    }
}

enum Encoder {
    Identity(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    fn new(encoding: Encoding) -> io::Result<Self> {
        let fast = flate2::Compression::fast();
        Ok(match encoding {
            Encoding::Identity => Self::Identity(Vec::new()),
            Encoding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), fast)),
            Encoding::Deflate => Self::Deflate(ZlibEncoder::new(Vec::new(), fast)),
            Encoding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
        })
    }

    /// Takes text, gives what has come out so far.
    fn feed(&mut self, text: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity(_) => return Ok(std::mem::take(text)),
            Self::Gzip(encoder) => encoder.write_all(text)?,
            Self::Deflate(encoder) => encoder.write_all(text)?,
            Self::Zstd(encoder) => encoder.write_all(text)?,
        }
        text.clear();
        Ok(std::mem::take(self.output()))
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Identity(out) => out,
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Deflate(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self, mut text: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity(_) => Ok(text),
            Self::Gzip(mut encoder) => {
                encoder.write_all(&text)?;
                encoder.finish()
            }
            Self::Deflate(mut encoder) => {
                encoder.write_all(&text)?;
                encoder.finish()
            }
            Self::Zstd(mut encoder) => {
                encoder.write_all(&text)?;
                text.clear();
                encoder.finish()
            }
        }
    }
}

type Chunks = mpsc::Receiver<Bytes>;

enum Head {
    Whole { body: Vec<u8>, encoding: Encoding },
    Streamed(Chunks),
    Failed(ApiError),
}

/// Where a response is written to. Until the first chunk is full an error can still become an error response.
pub struct Sink {
    /// Text that was not handed on yet; writers append here and call [`Self::flush_chunk`] now and then.
    pub text: Vec<u8>,
    encoding: Encoding,
    encoder: Option<Encoder>,
    head: Option<oneshot::Sender<Head>>,
    chunks: Option<mpsc::Sender<Bytes>>,
    runtime: Handle,
    stall_max: Duration,
    /// More than this is not taken, for nobody may block where the writer runs.
    whole_max: usize,
}

/// Bytes of a response that is written where its request arrived: less than a chunk, which would have to be sent.
const INLINE_BYTES_MAX: usize = 48 << 10;
/// The same when it is compressed, which takes about a millisecond for 32 KiB.
const INLINE_COMPRESSED_MAX: usize = 16 << 10;

impl Sink {
    fn new(encoding: Encoding, head: oneshot::Sender<Head>, stall_max: Duration) -> Self {
        Self {
            text: Vec::with_capacity(4096),
            encoding,
            encoder: None,
            head: Some(head),
            chunks: None,
            runtime: Handle::current(),
            stall_max,
            whole_max: usize::MAX,
        }
    }

    /// Hands the text on once it fills a chunk. Blocks while the client is slow.
    ///
    /// # Errors
    /// The client is gone, or has read nothing for too long.
    pub fn flush_chunk(&mut self) -> Result<(), ApiError> {
        if self.text.len() > self.whole_max {
            return Err(ApiError::new(
                ErrorType::Canceled,
                "too large to be written here",
            ));
        }
        if self.text.len() < CHUNK_BYTES {
            return Ok(());
        }
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::new(self.encoding).map_err(|e| ApiError::internal("compress", &e))?,
        };
        let chunk = encoder
            .feed(&mut self.text)
            .map_err(|e| ApiError::internal("compress", &e))?;
        self.encoder = Some(encoder);
        self.send(chunk)
    }

    fn send(&mut self, chunk: Vec<u8>) -> Result<(), ApiError> {
        let gone = || ApiError::new(ErrorType::Canceled, "client is gone");
        if let Some(head) = self.head.take() {
            let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
            head.send(Head::Streamed(receiver)).map_err(|_| gone())?;
            self.chunks = Some(sender);
        }
        let Some(chunks) = self.chunks.as_ref().filter(|_| !chunk.is_empty()) else {
            return Ok(());
        };
        let send = chunks.send_timeout(Bytes::from(chunk), self.stall_max);
        self.runtime.block_on(send).map_err(|_| gone())
    }

    fn finish(mut self) -> Result<(), ApiError> {
        let failed = |e: io::Error| ApiError::internal("compress", &e);
        let text = std::mem::take(&mut self.text);
        if let Some(encoder) = self.encoder.take() {
            let rest = encoder.finish(text).map_err(failed)?;
            self.send(rest)?;
            // An empty chunk tells the body that nothing is missing.
            if let Some(chunks) = self.chunks.take() {
                let end = chunks.send_timeout(Bytes::new(), self.stall_max);
                self.runtime
                    .block_on(end)
                    .map_err(|_| ApiError::new(ErrorType::Canceled, "client is gone"))?;
            }
            return Ok(());
        }
        let (body, encoding) = whole(text, self.encoding).map_err(failed)?;
        if let Some(head) = self.head.take() {
            // Nobody listens when the client is gone.
            drop(head.send(Head::Whole { body, encoding }));
        }
        Ok(())
    }
}

/// A body that goes out at once, compressed when that pays.
fn whole(text: Vec<u8>, encoding: Encoding) -> io::Result<(Vec<u8>, Encoding)> {
    let encoding = match encoding {
        _ if text.len() < COMPRESS_FROM_BYTES => Encoding::Identity,
        encoding => encoding,
    };
    let body = Encoder::new(encoding)?.finish(text)?;
    Ok((body, encoding))
}

/// Runs `work` where it is called, which must not be for long. `None` when it failed or wrote too much: then it has to
/// be done again with [`reply`], which knows what to say.
pub fn reply_inline(
    options: ReplyOptions,
    work: impl FnOnce(&mut Sink) -> Result<(), ApiError>,
) -> Option<Response> {
    let (head, _) = oneshot::channel();
    let mut sink = Sink::new(options.encoding, head, options.stall_max);
    sink.whole_max = match options.encoding {
        Encoding::Identity => INLINE_BYTES_MAX,
        _ => INLINE_COMPRESSED_MAX,
    };
    let worked = catch_unwind(AssertUnwindSafe(|| work(&mut sink)));
    worked.ok()?.ok()?;
    let (body, encoding) = whole(std::mem::take(&mut sink.text), options.encoding).ok()?;
    Some(response(Body::from(body), options.content_type, encoding))
}

/// How a request wants its response.
#[derive(Debug, Clone, Copy)]
pub struct ReplyOptions {
    /// Compression.
    pub encoding: Encoding,
    /// The body's type.
    pub content_type: &'static str,
    /// How long a client may read nothing.
    pub stall_max: Duration,
}

/// Runs `work` on a blocking thread and sends what it writes. An error before the first chunk becomes the response,
/// a later one breaks the connection off, so that no client takes half a result for a whole one.
pub async fn reply(
    options: ReplyOptions,
    work: impl FnOnce(&mut Sink) -> Result<(), ApiError> + Send + 'static,
) -> Response {
    let (head_sender, head) = oneshot::channel();
    let mut sink = Sink::new(options.encoding, head_sender, options.stall_max);
    let task = tokio::task::spawn_blocking(move || match work(&mut sink) {
        Ok(()) => {
            if let Err(error) = sink.finish() {
                tracing::debug!(error = %error, "response was broken off");
            }
        }
        Err(error) => match sink.head.take() {
            Some(head) => drop(head.send(Head::Failed(error))),
            None => tracing::debug!(error = %error, "response was broken off"),
        },
    });
    let Ok(head) = head.await else {
        // The sender is dropped without a word only when the task panicked.
        let cause = task.await.err().map_or_else(String::new, |e| e.to_string());
        tracing::error!(error = cause, "request handler died");
        return ApiError::new(ErrorType::Internal, "request handler died").into_response();
    };
    let (body, encoding) = match head {
        Head::Failed(error) => return error.into_response(),
        Head::Whole { body, encoding } => (Body::from(body), encoding),
        Head::Streamed(chunks) => {
            let body = ChunkBody {
                chunks,
                ended: false,
            };
            (Body::new(body), options.encoding)
        }
    };
    response(body, options.content_type, encoding)
}

fn response(body: Body, content_type: &'static str, encoding: Encoding) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(name) = encoding.name() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    response
}

/// The chunks of a streamed response; fails unless the writer said that it is complete.
struct ChunkBody {
    chunks: Chunks,
    ended: bool,
}

impl hyper::body::Body for ChunkBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.chunks.poll_recv(context).map(|chunk| match chunk {
            Some(chunk) if chunk.is_empty() => {
                self.ended = true;
                None
            }
            Some(chunk) => Some(Ok(Frame::data(chunk))),
            None => {
                self.ended = true;
                Some(Err(io::Error::other("response was broken off")))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use http_body_util::BodyExt as _;

    use super::*;

    const fn options(encoding: Encoding) -> ReplyOptions {
        ReplyOptions {
            encoding,
            content_type: "text/plain",
            stall_max: Duration::from_secs(10),
        }
    }

    fn write_lines(count: usize) -> impl FnOnce(&mut Sink) -> Result<(), ApiError> + Send {
        move |sink| {
            for line in 0..count {
                sink.text
                    .extend_from_slice(format!("line {line}\n").as_bytes());
                sink.flush_chunk()?;
            }
            Ok(())
        }
    }

    fn expected(count: usize) -> String {
        (0..count).map(|line| format!("line {line}\n")).collect()
    }

    fn decode(encoding: Option<&str>, body: &[u8]) -> String {
        let mut text = String::new();
        match encoding {
            None => text.push_str(std::str::from_utf8(body).unwrap()),
            Some("gzip") => drop(
                flate2::read::GzDecoder::new(body)
                    .read_to_string(&mut text)
                    .unwrap(),
            ),
            Some("deflate") => drop(
                flate2::read::ZlibDecoder::new(body)
                    .read_to_string(&mut text)
                    .unwrap(),
            ),
            Some("zstd") => text = String::from_utf8(zstd::decode_all(body).unwrap()).unwrap(),
            Some(other) => panic!("{other}"),
        }
        text
    }

    #[tokio::test]
    async fn bodies_of_any_size_survive_every_encoding() {
        for encoding in [
            Encoding::Identity,
            Encoding::Gzip,
            Encoding::Deflate,
            Encoding::Zstd,
        ] {
            for count in [0, 3, 1000, 50_000] {
                let response = reply(options(encoding), write_lines(count)).await;
                let name = response.headers().get(header::CONTENT_ENCODING).cloned();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                let name = name.as_ref().map(|value| value.to_str().unwrap());
                assert_eq!(decode(name, &body), expected(count), "{encoding:?} {count}");
                let compressed = count >= 1000 && encoding != Encoding::Identity;
                assert_eq!(name.is_some(), compressed, "{encoding:?} {count}");
            }
        }
    }

    #[tokio::test]
    async fn error_before_the_first_chunk_is_the_response() {
        let response = reply(options(Encoding::Gzip), |sink| {
            sink.text.extend_from_slice(b"{\"half\":");
            Err(ApiError::bad_data("no"))
        })
        .await;
        assert_eq!(response.status(), http::StatusCode::BAD_REQUEST);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            &body[..],
            br#"{"status":"error","errorType":"bad_data","error":"no"}"#
        );
    }

    #[tokio::test]
    async fn error_after_the_first_chunk_breaks_the_body_off() {
        let response = reply(options(Encoding::Identity), |sink| {
            write_lines(50_000)(sink)?;
            Err(ApiError::bad_data("too late"))
        })
        .await;
        assert_eq!(response.status(), http::StatusCode::OK);
        assert!(response.into_body().collect().await.is_err());
    }

    #[test]
    fn client_chooses_the_encoding() {
        for (accept, want) in [
            ("", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("gzip, deflate, br", Encoding::Gzip),
            ("gzip, zstd", Encoding::Zstd),
            ("deflate", Encoding::Deflate),
            ("gzip;q=0", Encoding::Identity),
            ("gzip;q=0.5", Encoding::Gzip),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, accept.parse().unwrap());
            assert_eq!(Encoding::of(&headers), want, "{accept}");
        }
    }
}
