//! Content encodings of responses, and their encoders.

use std::convert::Infallible;
use std::io::{self, Write as _};

use axum::extract::FromRequestParts;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::request::Parts;
use http::{HeaderMap, header};

/// Below this size compression costs more than it saves.
const COMPRESS_FROM_BYTES: usize = 1024;

/// Content encoding of a response. As an extractor: the best one that the client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// No compression.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Deflate,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// Chooses from the `Accept-Encoding` headers: zstd, then gzip, then deflate.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let accepted = headers
            .get_all(header::ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(accepted_name);
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

    /// The value of `Content-Encoding`; `None` for no compression.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// The name in one part of `Accept-Encoding`, unless its weight is 0.
fn accepted_name(part: &str) -> Option<&str> {
    let mut pieces = part.split(';');
    let name = pieces.next()?.trim();
    let is_refused = pieces.any(|piece| {
        piece
            .trim()
            .strip_prefix("q=")
            .is_some_and(|weight| weight.trim().parse::<f32>().is_ok_and(|q| q == 0.0))
    });
    (!is_refused).then_some(name)
}

impl<S: Send + Sync> FromRequestParts<S> for Encoding {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::from_headers(&parts.headers))
    }
}

/// A streaming encoder.
pub(super) enum Encoder {
    Identity(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    pub(super) fn new(encoding: Encoding) -> io::Result<Self> {
        let fast = flate2::Compression::fast();
        Ok(match encoding {
            Encoding::Identity => Self::Identity(Vec::new()),
            Encoding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), fast)),
            Encoding::Deflate => Self::Deflate(ZlibEncoder::new(Vec::new(), fast)),
            Encoding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
        })
    }

    /// Encodes and clears `text`; returns the output available so far.
    pub(super) fn feed(&mut self, text: &mut Vec<u8>) -> io::Result<Vec<u8>> {
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

    /// Encodes the rest of the text and returns the rest of the output.
    pub(super) fn finish(self, mut text: Vec<u8>) -> io::Result<Vec<u8>> {
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

/// Encodes a complete body, compressed if that pays; returns the encoding used.
pub(super) fn encode_whole(text: Vec<u8>, encoding: Encoding) -> io::Result<(Vec<u8>, Encoding)> {
    let encoding = if text.len() < COMPRESS_FROM_BYTES {
        Encoding::Identity
    } else {
        encoding
    };
    let body = Encoder::new(encoding)?.finish(text)?;
    Ok((body, encoding))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(Encoding::from_headers(&headers), want, "{accept}");
        }
    }
}
