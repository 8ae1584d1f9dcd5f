//! HTTP client of the kubelet. Each request has its own connection and is bounded in time and size.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::verify::{KubeletVerifier, Trust, TrustError};

/// Timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for an answer. Overloaded kubelets have taken minutes for a summary; the next request waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Largest answer. 110 pods of 10 KB make 1 MB, 500 pods with large annotations some tens of MB.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest part of a refusal that is logged, in characters.
const REFUSAL_CHARS_MAX: usize = 200;

/// Address of the kubelet and credentials for it.
#[derive(Debug, Clone)]
pub struct KubeletOptions {
    /// `https://HOST:10250`; `http://` for the read-only port.
    pub url: String,
    /// File of the bearer token, read for each request because the token is replaced every hour.
    pub token_file: PathBuf,
    /// How the kubelet's certificate is verified.
    pub trust: Trust,
    /// Timeout for an answer.
    pub timeout: Duration,
}

impl KubeletOptions {
    /// Creates options with the default timeout.
    #[must_use]
    pub const fn new(url: String, token_file: PathBuf, trust: Trust) -> Self {
        Self {
            url,
            token_file,
            trust,
            timeout: ANSWER_TIMEOUT,
        }
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The URL is invalid.
    #[error("--kubelet.url {url:?}: {reason}")]
    Url {
        /// URL as configured.
        url: String,
        /// Cause.
        reason: &'static str,
    },
    /// The token cannot be read.
    #[error("read {}", path.display())]
    Token {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The kubelet's certificate cannot be verified.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The connection could not be opened or failed.
    #[error("connect to kubelet")]
    Connect(#[source] io::Error),
    /// The HTTP exchange failed.
    #[error("talk to kubelet")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer arrived in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Status 401 or 403: the account lacks a permission, or the token is invalid.
    #[error("refused with {status}: {said}")]
    Refused {
        /// Status.
        status: StatusCode,
        /// Start of the kubelet's message.
        said: String,
    },
    /// The status is neither 200 nor a refusal.
    #[error("answered {0}")]
    Status(StatusCode),
    /// The answer cannot be parsed.
    #[error("parse the answer of {path}")]
    Malformed {
        /// Endpoint.
        path: &'static str,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl KubeletError {
    /// Returns the label value for metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Url { .. } | Self::Token { .. } | Self::Trust(_) => "config",
            Self::Connect(_) | Self::Http(_) => "connect",
            Self::Timeout(_) => "timeout",
            Self::Refused { .. } => "refused",
            Self::Status(_) => "status",
            Self::Malformed { .. } => "malformed",
        }
    }
}

/// Client of one kubelet.
#[derive(Debug)]
pub struct KubeletClient {
    options: KubeletOptions,
    host: String,
    port: u16,
    is_tls: bool,
}

impl KubeletClient {
    /// Creates a client for `options.url`.
    ///
    /// # Errors
    /// The URL has an unknown scheme or no host.
    pub fn new(options: KubeletOptions) -> Result<Self, KubeletError> {
        let error = |reason| KubeletError::Url {
            url: options.url.clone(),
            reason,
        };
        let uri: Uri = options.url.parse().map_err(|_| error("not a URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(error("must begin with https:// or http://")),
        };
        let trust = &options.trust;
        if is_tls && !trust.anybody && trust.ca_file.is_none() && trust.pinned_file.is_none() {
            return Err(TrustError::Nothing.into());
        }
        let host = uri.host().ok_or_else(|| error("has no host"))?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = uri
            .port_u16()
            .unwrap_or(if is_tls { 10_250 } else { 10_255 });
        Ok(Self {
            host,
            port,
            is_tls,
            options,
        })
    }

    /// Returns the body of a GET request.
    ///
    /// # Errors
    /// See [`KubeletError`].
    pub async fn get(&self, path: &str) -> Result<Bytes, KubeletError> {
        let timeout = self.options.timeout;
        tokio::time::timeout(timeout, self.get_unbounded(path))
            .await
            .map_err(|_| KubeletError::Timeout(timeout))?
    }

    async fn get_unbounded(&self, path: &str) -> Result<Bytes, KubeletError> {
        let request = self.request(path)?;
        let connect = TcpStream::connect((&*self.host, self.port));
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| KubeletError::Timeout(CONNECT_TIMEOUT))?
            .map_err(KubeletError::Connect)?;
        if !self.is_tls {
            return exchange(stream, request).await;
        }
        let verifier = KubeletVerifier::new(&self.options.trust)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| KubeletError::Http(error.into()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let name = ServerName::try_from(self.host.clone()).map_err(|_| KubeletError::Url {
            url: self.options.url.clone(),
            reason: "host is neither name nor address",
        })?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(KubeletError::Connect)?;
        exchange(stream, request).await
    }

    fn request(&self, path: &str) -> Result<Request<Empty<Bytes>>, KubeletError> {
        let mut request = Request::get(path)
            .header(header::HOST, &self.host)
            .header(header::ACCEPT, "application/json, text/plain");
        // The token is sent over TLS only.
        if self.is_tls {
            let path = &self.options.token_file;
            let token = std::fs::read_to_string(path).map_err(|source| KubeletError::Token {
                path: path.clone(),
                source,
            })?;
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        request
            .body(Empty::new())
            .map_err(|error| KubeletError::Http(error.into()))
    }
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Bytes, KubeletError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let error = |error: hyper::Error| KubeletError::Http(error.into());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(error)?;
    // Ends when `sender` is dropped, also by a timeout around this call.
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(error)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(KubeletError::Http)?
        .to_bytes();
    driver.abort();
    match status {
        StatusCode::OK => Ok(body),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let said = String::from_utf8_lossy(&body)
                .trim()
                .chars()
                .take(REFUSAL_CHARS_MAX)
                .collect();
            Err(KubeletError::Refused { status, said })
        }
        status => Err(KubeletError::Status(status)),
    }
}
