//! The agent's own HTTP server: /metrics, /-/healthy and /-/ready.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use common::telemetry::Registry;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::sampler::{SamplerHandle, ScrapeError};

/// Open connections; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 32;
/// Longest wait for the head of a request.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a scrape's answer; more than any tick should take.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug, Clone)]
struct WebState {
    sampler: SamplerHandle,
    registry: Registry,
}

/// A bound listener.
#[derive(Debug)]
pub struct Web {
    listener: TcpListener,
}

impl Web {
    /// Binds `address`. Port 0 selects a free port.
    ///
    /// # Errors
    /// The address is in use or does not belong to this machine.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
        })
    }

    /// Returns the bound address.
    ///
    /// # Errors
    /// The kernel does not report the address.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` fires, which abandons requests in progress.
    pub async fn serve(self, sampler: SamplerHandle, registry: Registry, stop: CancellationToken) {
        let router = Router::new()
            .route("/", get(index))
            .route("/metrics", get(metrics))
            .route("/-/healthy", get(healthy))
            .route("/-/ready", get(ready))
            .with_state(WebState { sampler, registry });
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let next = async {
                // The permit comes first, so that above the limit clients wait in the kernel's queue.
                let permit = Arc::clone(&connections).acquire_owned().await;
                (permit, self.listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                next = next => next,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _peer)) => {
                    let router = router.clone();
                    tokio::spawn(async move {
                        exchange(stream, router).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(error = common::report::chain(&error), "accept connection");
                    // Without free descriptors, accepting again at once would spin.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn exchange(stream: TcpStream, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(error = common::report::chain(&error), "connection ended");
    }
}

async fn metrics(State(state): State<WebState>) -> Response {
    let scrape = tokio::time::timeout(SCRAPE_TIMEOUT, state.sampler.scrape());
    match scrape.await {
        Ok(Ok(mut text)) => {
            state.registry.render(&mut text);
            ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
        }
        Ok(Err(error @ (ScrapeError::Busy | ScrapeError::Stopped))) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
        }
        Err(_elapsed) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "collecting took too long\n",
        )
            .into_response(),
    }
}

async fn index() -> &'static str {
    "tidemark-agent: /metrics /-/healthy /-/ready\n"
}

async fn healthy() -> &'static str {
    "healthy\n"
}

async fn ready(State(state): State<WebState>) -> Response {
    if state.sampler.is_ready() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no tick taken yet\n").into_response()
    }
}
