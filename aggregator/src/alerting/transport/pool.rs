//! Connections that are used again: a storm of notifications goes over a few of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tidemark_alerting::notify::receiver::TlsOptions;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio_rustls::TlsConnector;

use super::Response;
use crate::alerting::tls;

/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Connections to one server that are being opened at a time; who waits for one takes one that comes free before.
const OPENING_MAX: usize = 8;
/// Unused connections to one server that are kept.
const IDLE_MAX: usize = 64;
/// How long they are kept: a burst is over by then, and few servers close theirs sooner.
const IDLE_LIFE: Duration = Duration::from_secs(5);
/// A connection that is not ready for another request so long after an answer is given up.
const READY_WAIT: Duration = Duration::from_secs(1);

/// Connections by where they go.
#[derive(Debug, Default)]
pub(super) struct Pool {
    servers: Mutex<HashMap<Target, Arc<Server>>>,
}

/// Where a connection goes, and what it has to know of the other side.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    host: String,
    port: u16,
    /// `None`: without TLS.
    tls: Option<TlsOptions>,
}

/// One server, and the connections to it that nobody uses.
struct Server {
    target: Target,
    tls: Option<TlsConnector>,
    idle: Mutex<Vec<Idle>>,
    /// Somebody has given a connection back.
    returned: Notify,
    opening: Semaphore,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Whether it has had an answer already.
    is_used: bool,
    _driver: AbortOnDrop,
}

/// Ends the connection's task with the connection.
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
    /// Where `uri` leads.
    pub(super) fn new(uri: &Uri, tls: &TlsOptions) -> Result<Self, String> {
        let host = uri.host().ok_or("the URL has no host")?;
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            tls: is_tls.then(|| tls.clone()),
        })
    }
}

impl Pool {
    /// Sends one request. `make` makes it, a second time when a connection that was kept turns out to be dead.
    pub(super) async fn exchange(
        &self,
        target: Target,
        make: impl Fn() -> Result<Request<Full<Bytes>>, String>,
    ) -> Result<Response, String> {
        let server = self.server(target)?;
        let mut connection = server.take().await?;
        loop {
            let is_used = connection.is_used;
            match connection.exchange(make()?).await {
                Ok((response, is_whole)) => {
                    if is_whole {
                        server.give_back(connection).await;
                    }
                    return Ok(response);
                }
                // Closed by the other side in the moment that we took it: an error would be tried again anyway.
                Err(_) if is_used => connection = server.open().await?,
                Err(reason) => return Err(reason),
            }
        }
    }

    fn server(&self, target: Target) -> Result<Arc<Server>, String> {
        if let Some(server) = locked(&self.servers).get(&target) {
            return Ok(Arc::clone(server));
        }
        let tls = match &target.tls {
            None => None,
            Some(options) => Some(TlsConnector::from(Arc::new(tls::client(options)?))),
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

    /// Closes what nobody has used for a while. To be called now and then.
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
    /// A connection that was kept, or a new one, whichever is there first.
    async fn take(&self) -> Result<Connection, String> {
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

    /// The one that was used last; so the others grow old.
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

    async fn open(&self) -> Result<Connection, String> {
        let Target { host, port, tls } = &self.target;
        let stream = TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(|error| format!("connect to {host}:{port}: {error}"))?;
        // A request is written at once; waiting for more only delays it.
        stream
            .set_nodelay(true)
            .map_err(|error| format!("connection to {host}:{port}: {error}"))?;
        let (Some(options), Some(connector)) = (tls, &self.tls) else {
            return Connection::over(stream).await;
        };
        let expected = options.server_name.clone().unwrap_or_else(|| host.clone());
        let name = ServerName::try_from(expected).map_err(|error| error.to_string())?;
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|error| format!("TLS with {host}:{port}: {error}"))?;
        Connection::over(stream).await
    }
}

fn broken(error: &hyper::Error) -> String {
    format!("talk HTTP: {}", crate::report::chain(error))
}

impl Connection {
    async fn over<S>(stream: S) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Who has sent a request over it is told the same.
                tracing::debug!(%error, "connection to a receiver ended");
            }
        });
        Ok(Self {
            sender,
            is_used: false,
            _driver: AbortOnDrop(driver),
        })
    }

    /// The answer to a request, and whether all of it was read.
    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response, bool), String> {
        let response = self.sender.send_request(request).await;
        let response = response.map_err(|error| broken(&error))?;
        let status = response.status().as_u16();
        // A body beyond the bound says nothing that we need.
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
