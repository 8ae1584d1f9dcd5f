//! A blocking HTTP/1.1 client with one persistent connection, like a single sender.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

/// A response.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
}

impl Response {
    /// Returns the body if the status is 2xx.
    ///
    /// # Errors
    /// The status is another one; the message contains the start of the body.
    pub fn good(self) -> Result<Bytes> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let text = String::from_utf8_lossy(&self.body);
        let text: String = text.chars().take(300).collect();
        bail!("status {}: {}", self.status, text.trim())
    }
}

impl Client {
    /// Connects to a server.
    ///
    /// # Errors
    /// The connection is refused, or the runtime can't be created.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let sender = runtime.block_on(handshake(address));
        let sender = sender.with_context(|| format!("connect to {address}"))?;
        Ok(Self {
            runtime,
            sender,
            address,
        })
    }

    /// Sends a GET.
    ///
    /// # Errors
    /// The connection broke, or the request timed out.
    pub fn get(&mut self, path: &str) -> Result<Response> {
        self.send("GET", path, &[], Bytes::new())
    }

    /// Sends a POST.
    ///
    /// # Errors
    /// The connection broke, or the request timed out.
    pub fn post(&mut self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Response> {
        self.send("POST", path, headers, body)
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response> {
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("Host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body))?;
        let (sender, address) = (&mut self.sender, self.address);
        let exchange = async {
            // A server may close a connection after a response: VictoriaMetrics does so after two minutes. The request has not
            // been sent in this case.
            if sender.ready().await.is_err() {
                *sender = handshake(address).await?;
                sender.ready().await?;
            }
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::Ok(Response { status, body })
        };
        self.runtime
            .block_on(async { tokio::time::timeout(TIMEOUT, exchange).await })
            .map_err(anyhow::Error::from)
            .flatten()
            .with_context(|| format!("{method} http://{address}{path}"))
    }
}

async fn handshake(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the connection; the pending request receives its error.
    tokio::spawn(async { connection.await.ok() });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request per connection, then closes it.
    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                for line in lines {
                    if line.unwrap().is_empty() {
                        break;
                    }
                }
                stream
                    .write_all(
                        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
                    )
                    .unwrap();
            }
        });
        address
    }

    #[test]
    fn connection_closed_after_an_answer_is_made_anew() {
        let mut client = Client::connect(server()).unwrap();
        for _ in 0..3 {
            let answer = client.get("/").unwrap();
            assert_eq!(answer.good().unwrap(), "ok");
        }
    }
}
