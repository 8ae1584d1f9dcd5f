//! Requests to other servers: an HTTP client with kept connections, its TLS, its authorization, and DNS.
//!
//! Users: notifications and external Alertmanagers (`alerting`). Scrapes, HTTP service discovery and DNS discovery need
//! the same: build a [`RequestOptions`] from the configuration once, resolve names with [`dns`], and send with
//! [`HttpClient`]. Nothing here knows what is sent, or when a failure deserves a retry.
//!
//! Redirects are not followed: a target is what the configuration says. Bounds: see [`pool`] for connections and for the
//! bytes of an answer; the caller bounds the time of a request.

mod authorization;
pub mod dns;
pub mod pool;
pub mod tls;

use std::fmt;

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::Full;

pub use self::authorization::Authorization;
use self::pool::{Pool, Target};
pub use self::tls::{RefusedVersions, TlsError, TlsSettings};

/// An answer: its status and the beginning of its body.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body; empty if it is longer than [`pool::ANSWER_BYTES_MAX`].
    pub body: Bytes,
}

/// How a client identifies itself, and which servers it trusts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestOptions {
    /// The `Authorization` header. Without one, the user part of the URL is used.
    pub authorization: Authorization,
    /// For `https`.
    pub tls: TlsSettings,
}

/// Why a request got no answer. Another attempt may succeed, except for [`Self::is_invalid`].
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The URL can't be parsed.
    #[error("bad URL")]
    Url(#[from] http::uri::InvalidUri),
    /// The URL names no host.
    #[error("URL has no host")]
    NoHost,
    /// The TLS settings can't be used.
    #[error("TLS settings")]
    Tls(#[from] TlsError),
    /// The request has an invalid header or target.
    #[error("build request")]
    Build(#[source] http::Error),
    /// The connection could not be opened.
    #[error("connect to {0}")]
    Connect(Endpoint, #[source] std::io::Error),
    /// The TLS handshake failed.
    #[error("TLS with {0}")]
    Handshake(Endpoint, #[source] std::io::Error),
    /// The host or the configured server name can't be in a certificate.
    #[error("server name of {0}")]
    ServerName(Endpoint, #[source] rustls_pki_types::InvalidDnsNameError),
    /// The connection broke, or the server does not speak HTTP/1.
    #[error("talk HTTP")]
    Http(#[source] hyper::Error),
}

impl RequestError {
    /// Returns whether the request itself is wrong, so that another attempt fails too.
    #[must_use]
    pub const fn is_invalid(&self) -> bool {
        match self {
            Self::Url(_) | Self::NoHost | Self::Tls(_) | Self::Build(_) | Self::ServerName(..) => {
                true
            }
            Self::Connect(..) | Self::Handshake(..) | Self::Http(_) => false,
        }
    }
}

/// The host and port of a server, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// An HTTP/1.1 client that keeps connections.
#[derive(Debug, Default)]
pub struct HttpClient {
    pool: Pool,
}

impl HttpClient {
    /// Sends one request, over a kept connection if there is one. A body other than of a GET is sent as JSON.
    ///
    /// # Errors
    /// There is no answer. A status other than 2xx is an answer.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; the server may have received the request.
    pub async fn request(
        &self,
        method: Method,
        url: &str,
        options: &RequestOptions,
        body: Bytes,
    ) -> Result<Response, RequestError> {
        let uri: Uri = url.parse()?;
        let target = Target::new(&uri, &options.tls)?;
        let build = || build(method.clone(), &uri, &options.authorization, body.clone());
        self.pool.exchange(target, build).await
    }

    /// Closes connections that were unused for [`pool::IDLE_LIFE`]. Call it every few seconds.
    pub fn close_idle(&self) {
        self.pool.close_idle();
    }
}

fn build(
    method: Method,
    uri: &Uri,
    authorization: &Authorization,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, RequestError> {
    let target = uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    let (user, host) = authority
        .rsplit_once('@')
        .map_or((None, authority), |(user, host)| (Some(user), host));
    let has_body = method != Method::GET;
    let mut builder = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, host)
        .header(
            header::USER_AGENT,
            concat!("Tidemark/", env!("CARGO_PKG_VERSION")),
        );
    if has_body {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
    }
    if let Some(value) = authorization.header(user) {
        builder = builder.header(header::AUTHORIZATION, value);
    }
    builder.body(Full::new(body)).map_err(RequestError::Build)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, authorization: &Authorization, want: (&str, &str, Option<&str>)) {
        let uri: Uri = url.parse().unwrap();
        let request = build(Method::POST, &uri, authorization, Bytes::new()).unwrap();
        let header = |name| {
            let value = request.headers().get(name);
            value.map(|value| value.to_str().unwrap())
        };
        let target = request.uri().to_string();
        let host = header(header::HOST).unwrap_or_default();
        assert_eq!((target.as_str(), host, header(header::AUTHORIZATION)), want);
    }

    #[test]
    fn configured_authorization_wins_over_the_user_of_the_url() {
        let none = Authorization::default();
        check("http://h:1", &none, ("/", "h:1", None));
        check(
            "http://u:p@h/a?b=c",
            &none,
            ("/a?b=c", "h", Some("Basic dTpw")),
        );
        check(
            "http://u:p@h/",
            &Authorization::token("Bearer", "t"),
            ("/", "h", Some("Bearer t")),
        );
        check(
            "http://h/",
            &Authorization::basic("u", "p"),
            ("/", "h", Some("Basic dTpw")),
        );
    }

    #[tokio::test]
    async fn errors_name_the_cause_and_whether_to_retry() {
        let client = HttpClient::default();
        let ask = async |url: &str| {
            let options = RequestOptions::default();
            let asked = client.request(Method::GET, url, &options, Bytes::new());
            let error = asked.await.unwrap_err();
            (crate::report::chain(&error), error.is_invalid())
        };
        let (text, is_invalid) = ask("http://[").await;
        assert!(text.starts_with("bad URL: ") && is_invalid, "{text}");
        assert_eq!(ask("/path").await, ("URL has no host".to_owned(), true));
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let (text, is_invalid) = ask(&format!("http://{address}/")).await;
        let want = format!("connect to {address}: Connection refused");
        assert!(text.starts_with(&want) && !is_invalid, "{text}");
    }
}
