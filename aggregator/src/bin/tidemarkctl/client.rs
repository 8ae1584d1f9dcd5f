//! The HTTP client. Each request has a connection of its own.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use common::report::chain;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::args::Connection;
use super::output::Failure;

/// Maximum bytes of a response.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Address of the aggregator, and the credentials for it.
#[derive(Debug)]
pub(crate) struct Client {
    base: Uri,
    prefix: String,
    authorization: Option<String>,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
}

fn failed(doing: &str, error: &(dyn Error + 'static)) -> Failure {
    Failure::Failed(format!("{doing}: {}", chain(error)))
}

fn no_answer(base: &Uri) -> Failure {
    Failure::Failed(format!("{base}: no answer in time"))
}

impl Client {
    pub(crate) fn new(connection: &Connection) -> Result<Self, Failure> {
        let url = &connection.url;
        let base: Uri = url
            .parse()
            .map_err(|e| failed(&format!("URL {url:?}"), &e))?;
        let tls = match base.scheme_str() {
            Some("http") => None,
            Some("https") => Some(Arc::new(tls_config(connection.ca_file.as_deref())?)),
            _ => {
                let reason = format!("URL {url:?}: neither http nor https");
                return Err(Failure::Failed(reason));
            }
        };
        if base.host().is_none() {
            return Err(Failure::Failed(format!("URL {url:?}: no host")));
        }
        Ok(Self {
            prefix: base.path().trim_end_matches('/').to_owned(),
            base,
            authorization: authorization(connection)?,
            tls,
            timeout: Duration::from_secs(connection.timeout),
        })
    }

    /// URL of the aggregator.
    pub(crate) fn url(&self) -> String {
        self.base.to_string()
    }

    /// Sends form parameters to Prometheus' API and returns `data`.
    pub(crate) fn api(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Value, Failure> {
        let (status, body) = self.exchange(method, &format!("/api/v1/{path}"), parameters)?;
        if body.is_empty() && status.is_success() {
            return Ok(Value::Null);
        }
        let answer: Value = serde_json::from_slice(&body).map_err(|_| {
            let text = String::from_utf8_lossy(&body);
            Failure::Failed(format!("{status}: {}", text.trim()))
        })?;
        for kind in ["warnings", "infos"] {
            for text in answer
                .get(kind)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                note(text.as_str().unwrap_or_default());
            }
        }
        match answer.get("status").and_then(Value::as_str) {
            Some("success") => Ok(answer.get("data").cloned().unwrap_or(Value::Null)),
            _ => {
                let text = |name| answer.get(name).and_then(Value::as_str).unwrap_or("");
                let (kind, reason) = (text("errorType"), text("error"));
                Err(Failure::Failed(format!("{kind}: {reason}")))
            }
        }
    }

    /// Sends a request to Alertmanager's API and returns the response.
    pub(crate) fn v2(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let mut request = self.request(Method::GET, &format!("/api/v2/{path}"), parameters)?;
        *request.method_mut() = method;
        if let Some(body) = body {
            let json = http::HeaderValue::from_static("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, json);
            *request.body_mut() = Full::new(Bytes::from(body.to_string()));
        }
        let (status, answer) = self.exchange_request(request)?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(answer);
        }
        let reason = answer
            .as_str()
            .map_or_else(|| answer.to_string(), str::to_owned);
        Err(Failure::Failed(format!("{status}: {reason}")))
    }

    /// Requests a page of text.
    pub(crate) fn text(&self, path: &str) -> Result<String, Failure> {
        let (status, body) = self.exchange(Method::GET, path, &[])?;
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        if status.is_success() {
            Ok(text)
        } else {
            Err(Failure::Failed(format!("{status}: {text}")))
        }
    }

    fn exchange(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<(StatusCode, Bytes), Failure> {
        let request = self.request(method, path, parameters)?;
        self.exchange_request(request)
    }

    fn exchange_request(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let send = self.send(request);
            match tokio::time::timeout(self.timeout, send).await {
                Ok(result) => result,
                Err(_) => Err(no_answer(&self.base)),
            }
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        let mut target = format!("{}{path}", self.prefix);
        let post = method == Method::POST;
        if !post && !form.is_empty() {
            target = format!("{target}?{form}");
        }
        let authority = self
            .base
            .authority()
            .map_or("", http::uri::Authority::as_str);
        let mut builder = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, authority)
            .header(header::USER_AGENT, "tidemarkctl");
        if let Some(authorization) = &self.authorization {
            builder = builder.header(header::AUTHORIZATION, authorization);
        }
        if post {
            builder = builder.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let body = if post {
            Bytes::from(form)
        } else {
            Bytes::new()
        };
        builder
            .body(Full::new(body))
            .map_err(|e| failed("build the request", &e))
    }

    /// Streams a response of text lines to `each`. An incomplete response is an error.
    pub(crate) fn lines(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        mut each: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let request = self.request(Method::POST, path, parameters)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let open = tokio::time::timeout(self.timeout, self.open(request));
            let response = open.await.map_err(|_| no_answer(&self.base))??;
            let status = response.status();
            let mut body = response.into_body();
            let mut text = Vec::new();
            while let Some(frame) = tokio::time::timeout(self.timeout, body.frame())
                .await
                .map_err(|_| no_answer(&self.base))?
            {
                let frame = frame.map_err(|error| failed("read the response", &error))?;
                text.extend_from_slice(&frame.into_data().unwrap_or_default());
                let Some(end) = text.iter().rposition(|&byte| byte == b'\n') else {
                    continue;
                };
                if status.is_success() {
                    let whole: Vec<u8> = text.drain(..=end).collect();
                    let whole = String::from_utf8_lossy(&whole);
                    whole.lines().try_for_each(&mut each)?;
                }
            }
            let rest = String::from_utf8_lossy(&text).into_owned();
            match status.is_success() {
                true if rest.is_empty() => Ok(()),
                true => Err(Failure::Failed(
                    "read the response: it ends within a line".to_owned(),
                )),
                false => Err(Failure::Failed(format!("{status}: {}", rest.trim()))),
            }
        })
    }

    /// Posts a body; returns status and response text.
    pub(crate) fn post(
        &self,
        path: &str,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, String), Failure> {
        let mut request = self.request(Method::POST, path, &[])?;
        let content_type = http::HeaderValue::from_static(content_type);
        request
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
        *request.body_mut() = Full::new(Bytes::from(body));
        let (status, answer) = self.exchange_request(request)?;
        Ok((status, String::from_utf8_lossy(&answer).trim().to_owned()))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
        let response = self.open(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|e| failed("read the response", e.as_ref()))?;
        Ok((status, body.to_bytes()))
    }

    /// Sends a request over a new connection, which lives as long as the runtime.
    async fn open(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let host = self.base.host().unwrap_or_default();
        let bare_host = host.trim_start_matches('[').trim_end_matches(']');
        let default_port = if self.tls.is_some() { 443 } else { 80 };
        let port = self.base.port_u16().unwrap_or(default_port);
        let stream = TcpStream::connect((bare_host, port))
            .await
            .map_err(|e| failed(&format!("connect to {host}:{port}"), &e))?;
        let Some(tls) = &self.tls else {
            return open_over(stream, request).await;
        };
        let name = ServerName::try_from(bare_host.to_owned())
            .map_err(|e| failed(&format!("host {bare_host:?}"), &e))?;
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(name, stream)
            .await
            .map_err(|e| failed(&format!("TLS handshake with {host}:{port}"), &e))?;
        open_over(stream, request).await
    }
}

async fn open_over<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed("open the HTTP connection", &e))?;
    tokio::spawn(connection);
    sender
        .send_request(request)
        .await
        .map_err(|e| failed("send the request", &e))
}

#[expect(
    clippy::print_stderr,
    reason = "annotations are not part of the result"
)]
fn note(text: &str) {
    eprintln!("{text}");
}

fn authorization(connection: &Connection) -> Result<Option<String>, Failure> {
    let Some(user) = &connection.user else {
        return Ok(None);
    };
    let password = match &connection.password_file {
        None => String::new(),
        Some(path) => {
            std::fs::read_to_string(path).map_err(|e| failed(&path.display().to_string(), &e))?
        }
    };
    let pair = format!("{user}:{}", password.trim_end_matches(['\n', '\r']));
    Ok(Some(format!("Basic {}", STANDARD.encode(pair))))
}

fn tls_config(ca_file: Option<&Path>) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let show = path.display().to_string();
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| failed(&show, &e))? {
                let certificate = certificate.map_err(|e| failed(&show, &e))?;
                roots.add(certificate).map_err(|e| failed(&show, &e))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| failed("set up TLS", &e))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
