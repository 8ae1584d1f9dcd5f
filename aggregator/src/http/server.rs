//! The listener: accepts a bounded number of connections, optionally over TLS, and stops gracefully.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use common::metric;
use common::report::chain;
use common::telemetry::{Counter, Gauge, MetricDef, Registry};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const CONNECTIONS: MetricDef<Gauge> = metric!(
    Gauge,
    "aggregator_http_connections",
    "Open HTTP connections."
);
const CONNECTIONS_MAX: MetricDef<Gauge> = metric!(
    Gauge,
    "aggregator_http_connections_max",
    "HTTP connections that may be open at the same time."
);
const CONNECTION_ERRORS: MetricDef<Counter> = metric!(
    Counter,
    "aggregator_http_connection_errors_total",
    "HTTP connections that failed before their first request, by stage."
);

use super::path::decode_unreserved;

/// Maximum bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Maximum header lines of a request.
const HEADERS_MAX: usize = 128;

/// How connections are served.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// TLS configuration; `None` = plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Maximum connections; others wait in the kernel's queue.
    pub connections_max: u32,
    /// Time limit for a request's head, and for the TLS handshake.
    pub read_timeout: Duration,
}

/// A bound listener.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    options: ServerOptions,
    connections: Arc<Semaphore>,
    accept_errors: Arc<Counter>,
    handshake_errors: Arc<Counter>,
}

impl Server {
    /// Binds `address`; port 0 takes a free port.
    ///
    /// # Errors
    /// The address is in use, or not local.
    pub async fn bind(
        address: SocketAddr,
        options: ServerOptions,
        registry: &Registry,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let connections = Arc::new(Semaphore::new(options.connections_max as usize));
        let (free, max) = (Arc::clone(&connections), options.connections_max);
        CONNECTIONS.register_fn(registry, &[], move || {
            f64::from(max) - free.available_permits() as f64
        });
        let maximum = CONNECTIONS_MAX.register(registry, &[]);
        maximum.set(f64::from(max));
        let errors = |stage| CONNECTION_ERRORS.register(registry, &[("stage", stage)]);
        Ok(Self {
            listener,
            connections,
            accept_errors: errors("accept"),
            handshake_errors: errors("tls"),
            options,
        })
    }

    /// The bound address.
    ///
    /// # Errors
    /// The kernel does not report it.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then finishes the requests in progress. The caller bounds how long that may take.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let tracker = TaskTracker::new();
        loop {
            let next = async {
                // Accepting only with a permit leaves further clients in the kernel's queue.
                let permit = Arc::clone(&self.connections).acquire_owned().await;
                (permit, self.listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                next = next => next,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, _peer)) => {
                    let (options, router) = (self.options.clone(), router.clone());
                    let (stop, errors) = (stop.clone(), Arc::clone(&self.handshake_errors));
                    tracker.spawn(async move {
                        connection(stream, options, router, stop, &errors).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    self.accept_errors.inc();
                    tracing::warn!(error = chain(&error), "accept connection");
                    // Without descriptors, accepting again at once would spin.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        tracker.close();
        tracker.wait().await;
    }
}

async fn connection(
    stream: TcpStream,
    options: ServerOptions,
    router: Router,
    stop: CancellationToken,
    handshake_errors: &Counter,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = chain(&error), "set TCP_NODELAY");
    }
    let Some(tls) = &options.tls else {
        return exchange(stream, &options, router, stop).await;
    };
    let handshake = TlsAcceptor::from(Arc::clone(tls)).accept(stream);
    match tokio::time::timeout(options.read_timeout, handshake).await {
        Ok(Ok(stream)) => exchange(stream, &options, router, stop).await,
        Ok(Err(error)) => {
            handshake_errors.inc();
            tracing::debug!(error = chain(&error), "TLS handshake");
        }
        Err(_) => handshake_errors.inc(),
    }
}

async fn exchange<S>(stream: S, options: &ServerOptions, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = TowerToHyperService::new(router);
    // Paths are decoded before routing: the route table holds decoded ones.
    let service = service_fn(move |request| routes.call(decode_unreserved(request)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.read_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error = chain(&error), "HTTP connection");
    }
}

/// Adds the headers of the web configuration to a response.
pub fn with_headers(
    mut response: Response,
    headers: &[(http::HeaderName, http::HeaderValue)],
) -> Response {
    for (name, value) in headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response.into_response()
}
