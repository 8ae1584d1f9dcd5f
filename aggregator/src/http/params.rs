//! Request parameters from the query string and a form body. Repeated parameters are kept.

use axum::extract::{FromRequest, Request};
use common::report::chain;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::error::ApiError;
use super::time::{self, parse_limit, parse_time};

/// The parameters of a request. As in Go's `FormValue`, the body's come before those of the URL.
#[derive(Debug, Clone, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
    /// Why the first malformed pair was dropped, in Go's words.
    malformed: Option<String>,
}

impl Params {
    /// Parses text of the form `a=1&b=2`. As in Go, pairs with a bad escape or a semicolon are dropped. Bytes that are
    /// not UTF-8 become replacement characters.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut params = Self::default();
        params.add(text);
        params
    }

    fn add(&mut self, text: &[u8]) {
        for piece in text.split(|&b| b == b'&').filter(|piece| !piece.is_empty()) {
            match pair(piece) {
                Ok(pair) => self.pairs.push(pair),
                Err(reason) => drop(self.malformed.get_or_insert(reason)),
            }
        }
    }

    /// Fails if a pair was dropped. Only some of Prometheus' endpoints check this.
    ///
    /// # Errors
    /// A pair is malformed.
    pub fn well_formed(&self) -> Result<(), ApiError> {
        match &self.malformed {
            Some(reason) => Err(ApiError::bad_data(format!(
                "error parsing form values: {reason}"
            ))),
            None => Ok(()),
        }
    }

    /// The first value of a parameter; empty if there is none.
    #[must_use]
    pub fn get<'a>(&'a self, name: &str) -> &'a str {
        let named = self.pairs.iter().find(|(candidate, _)| candidate == name);
        named.map_or("", |(_, value)| value.as_str())
    }

    /// All values of a parameter, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(candidate, _)| candidate == name)
            .map(|(_, value)| value.as_str())
    }

    /// An optional time, in milliseconds.
    ///
    /// # Errors
    /// It is not a time.
    pub fn time_or(&self, name: &str, default_ms: i64) -> Result<i64, ApiError> {
        match self.get(name) {
            "" => Ok(default_ms),
            text => parse_time(text).map_err(|reason| {
                let reason = format!("invalid time value for '{name}': {reason}");
                ApiError::invalid_parameter(name, reason)
            }),
        }
    }

    /// A required time, in milliseconds.
    ///
    /// # Errors
    /// It is missing or not a time.
    pub fn time(&self, name: &str) -> Result<i64, ApiError> {
        parse_time(self.get(name)).map_err(|reason| ApiError::invalid_parameter(name, reason))
    }

    /// `start` and `end` in milliseconds; by default all of time.
    ///
    /// # Errors
    /// One of them is not a time.
    pub fn range(&self) -> Result<(i64, i64), ApiError> {
        Ok((
            self.time_or("start", time::MIN_MS)?,
            self.time_or("end", time::MAX_MS)?,
        ))
    }

    /// `limit`: the maximum number of results.
    ///
    /// # Errors
    /// It is not a number, or negative.
    pub fn limit(&self) -> Result<Option<usize>, ApiError> {
        parse_limit(self.get("limit")).map_err(|e| ApiError::invalid_parameter("limit", e))
    }
}

/// Parses a boolean as Go's `strconv.ParseBool` does.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn pair(piece: &[u8]) -> Result<(String, String), String> {
    if piece.contains(&b';') {
        return Err("invalid semicolon separator in query".to_owned());
    }
    let equals = piece.iter().position(|&b| b == b'=');
    let (name, value) = match equals {
        Some(at) => (&piece[..at], &piece[at + 1..]),
        None => (piece, &[][..]),
    };
    Ok((text(decode(name)?), text(decode(value)?)))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Decodes percent encoding, and `+` as a space.
///
/// # Errors
/// A `%` without two hexadecimal digits.
pub fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex = |b: &u8| (*b as char).to_digit(16);
                let (Some(high), Some(low)) =
                    (after.first().and_then(hex), after.get(1).and_then(hex))
                else {
                    let escape = &after[..after.len().min(2)];
                    let escape = format!("%{}", String::from_utf8_lossy(escape));
                    return Err(format!("invalid URL escape {escape:?}"));
                };
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => bytes.push(byte),
        }
    }
    Ok(bytes)
}

/// Maximum size of a form body; the router adds it to the request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct FormBytesMax(pub usize);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let url_query = request.uri().query().unwrap_or("").as_bytes().to_vec();
        let mut params = Self::default();
        if request.method() == Method::POST && is_form(&request) {
            let max = request
                .extensions()
                .get::<FormBytesMax>()
                .map_or(10 << 20, |max| max.0);
            params.add(&read_limited(request, max).await?);
        }
        params.add(&url_query);
        Ok(params)
    }
}

fn is_form(request: &Request) -> bool {
    request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            let kind = value.split(';').next().unwrap_or("").trim();
            kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        })
}

/// Reads a whole body of at most `max` bytes.
///
/// # Errors
/// The body is larger (413), or the client stopped sending (400).
pub async fn read_limited(request: Request, max: usize) -> Result<bytes::Bytes, ApiError> {
    match Limited::new(request.into_body(), max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(
            ApiError::bad_data(format!("body is larger than {max} bytes"))
                .with_status(StatusCode::PAYLOAD_TOO_LARGE),
        ),
        Err(error) => {
            let reason = chain(error.as_ref());
            Err(ApiError::bad_data(format!("error reading body: {reason}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_parameters_are_kept_in_order() {
        let params = Params::parse(b"match[]=up&match%5B%5D=a%7Bb%3D%22c+d%22%7D&x");
        let all: Vec<_> = params.all("match[]").collect();
        assert_eq!(all, ["up", "a{b=\"c d\"}"]);
        assert_eq!(params.get("x"), "");
        assert_eq!(params.get("y"), "");
    }

    #[test]
    fn malformed_pairs_are_dropped_and_reported() {
        for (text, want) in [
            (&b"a=%zz"[..], "invalid URL escape \"%zz\""),
            (b"a=%f", "invalid URL escape \"%f\""),
            (b"a=1;2", "invalid semicolon separator in query"),
        ] {
            let params = Params::parse(&[text, b"&b=2"].concat());
            assert_eq!((params.get("a"), params.get("b")), ("", "2"));
            let error = params.well_formed().unwrap_err();
            assert_eq!(error.message, format!("error parsing form values: {want}"));
        }
        let params = Params::parse(b"a=%ffx");
        assert_eq!(params.get("a"), "\u{fffd}x");
        assert!(params.well_formed().is_ok());
    }
}
