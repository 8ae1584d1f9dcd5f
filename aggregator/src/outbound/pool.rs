//! Keeps connections between requests, so that a burst of requests shares a few of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio_rustls::TlsConnector;

use super::tls::{self, TlsSettings};
use super::{Endpoint, RequestError, Response};
use crate::report::chain;

/// Longest body of an answer that is read.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Most connections to one server being opened at a time. A waiting request takes a connection that is returned earlier.
const OPENING_MAX: usize = 8;
/// Most unused connections to one server that are kept.
const IDLE_MAX: usize = 64;
/// How long an unused connection is kept: a burst is over by then, and few servers close theirs sooner.
pub const IDLE_LIFE: Duration = Duration::from_secs(5);
/// How long a connection may take after an answer until it accepts another request.
const READY_WAIT: Duration = Duration::from_secs(1);

/// Kept connections by server.
#[derive(Debug, Default)]
pub struct Pool {
    servers: Mutex<HashMap<Target, Arc<Server>>>,
}

/// A server and the TLS settings to reach it with. Connections are shared only between equal targets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    host: String,
    port: u16,
    /// `None` for plain HTTP.
    tls: Option<TlsSettings>,
}

/// One server and its unused connections.
struct Server {
    target: Target,
    tls: Option<TlsConnector>,
    idle: Mutex<Vec<Idle>>,
    /// Signals that a connection was returned.
    returned: Notify,
    opening: Semaphore,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Whether a request was answered over it.
    is_used: bool,
    _driver: AbortOnDrop,
}

/// Aborts the connection's task when the connection is dropped.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Target {
    /// Returns the target of a URL.
    pub(super) fn new(uri: &Uri, tls: &TlsSettings) -> Result<Self, RequestError> {
        let host = uri.host().ok_or(RequestError::NoHost)?;
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            tls: is_tls.then(|| tls.clone()),
        })
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: self.host.clone(),
            port: self.port,
        }
    }
}

impl Pool {
    /// Sends one request. `build` is called again when a kept connection turns out to be dead.
    pub(super) async fn exchange(
        &self,
        target: Target,
        build: impl Fn() -> Result<Request<Full<Bytes>>, RequestError>,
    ) -> Result<Response, RequestError> {
        let server = self.server(target)?;
        let mut connection = server.take().await?;
        loop {
            let is_used = connection.is_used;
            match connection.exchange(build()?).await {
                Ok((response, is_whole)) => {
                    if is_whole {
                        server.give_back(connection).await;
                    }
                    return Ok(response);
                }
                // The server closed it just as we took it.
                Err(_) if is_used => connection = server.open().await?,
                Err(error) => return Err(error),
            }
        }
    }

    fn server(&self, target: Target) -> Result<Arc<Server>, RequestError> {
        if let Some(server) = locked(&self.servers).get(&target) {
            return Ok(Arc::clone(server));
        }
        let tls = match &target.tls {
            None => None,
            Some(settings) => Some(TlsConnector::from(Arc::new(tls::client(settings)?))),
        };
        let server = Arc::new(Server {
            target: target.clone(),
            tls,
            idle: Mutex::default(),
            returned: Notify::new(),
            opening: Semaphore::new(OPENING_MAX),
        });
        Ok(Arc::clone(
            locked(&self.servers).entry(target).or_insert(server),
        ))
    }

    /// Closes connections that were unused for [`IDLE_LIFE`].
    pub(super) fn close_idle(&self) {
        locked(&self.servers).retain(|_, server| {
            let mut idle = locked(&server.idle);
            idle.retain(|one| one.since.elapsed() < IDLE_LIFE);
            !idle.is_empty() || Arc::strong_count(server) > 1
        });
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("host", &self.target.host)
            .field("port", &self.target.port)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Returns a kept connection or a new one, whichever is available first.
    async fn take(&self) -> Result<Connection, RequestError> {
        loop {
            if let Some(connection) = self.take_idle() {
                return Ok(connection);
            }
            tokio::select! {
                permit = self.opening.acquire() => {
                    if let Some(connection) = self.take_idle() {
                        return Ok(connection);
                    }
                    let connection = self.open().await;
                    drop(permit);
                    return connection;
                }
                () = self.returned.notified() => {}
            }
        }
    }

    /// Takes the connection used last, so that the others expire.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = locked(&self.idle);
        loop {
            let one = idle.pop()?;
            if !one.connection.sender.is_closed() && one.since.elapsed() < IDLE_LIFE {
                return Some(one.connection);
            }
        }
    }

    async fn give_back(&self, mut connection: Connection) {
        let ready = tokio::time::timeout(READY_WAIT, connection.sender.ready());
        if !matches!(ready.await, Ok(Ok(()))) {
            return;
        }
        connection.is_used = true;
        let mut idle = locked(&self.idle);
        if idle.len() < IDLE_MAX {
            let since = Instant::now();
            idle.push(Idle { connection, since });
        }
        drop(idle);
        self.returned.notify_one();
    }

    async fn open(&self) -> Result<Connection, RequestError> {
        let Target { host, port, tls } = &self.target;
        let failed = |source| RequestError::Connect(self.target.endpoint(), source);
        let stream = TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(failed)?;
        // A request is written in one go: delaying small packets only adds latency.
        stream.set_nodelay(true).map_err(failed)?;
        let (Some(settings), Some(connector)) = (tls, &self.tls) else {
            return Connection::over(stream).await;
        };
        let expected = settings.server_name.clone().unwrap_or_else(|| host.clone());
        let name = ServerName::try_from(expected)
            .map_err(|source| RequestError::ServerName(self.target.endpoint(), source))?;
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|source| RequestError::Handshake(self.target.endpoint(), source))?;
        Connection::over(stream).await
    }
}

impl Connection {
    async fn over<S>(stream: S) -> Result<Self, RequestError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(RequestError::Http)?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                // The request over it fails with the same error.
                tracing::debug!(error = chain(&error), "connection ended");
            }
        });
        Ok(Self {
            sender,
            is_used: false,
            _driver: AbortOnDrop(driver),
        })
    }

    /// Returns the answer to a request, and whether its body was read to the end.
    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response, bool), RequestError> {
        let response = self.sender.send_request(request).await;
        let response = response.map_err(RequestError::Http)?;
        let status = response.status().as_u16();
        // No caller needs a longer body.
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let (body, is_whole) = match body.collect().await {
            Ok(body) => (body.to_bytes(), true),
            Err(_) => (Bytes::new(), false),
        };
        Ok((Response { status, body }, is_whole))
    }
}

#[cfg(test)]
mod tests;
