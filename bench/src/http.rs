//! A blocking HTTP/1.1 client with one kept connection, which is what one sender has.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// After this long without an answer a request has failed.
const TIMEOUT: Duration = Duration::from_secs(120);

/// One connection to one server.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

/// What a server answered.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
}

impl Response {
    /// The body, if the status is a good one.
    ///
    /// # Errors
    /// Any other status; the message has the start of the body.
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
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there, or the runtime could not be made.
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
    /// The connection broke, or there was no answer in time.
    pub fn get(&mut self, path: &str) -> Result<Response> {
        self.send("GET", path, &[], Bytes::new())
    }

    /// Sends a POST.
    ///
    /// # Errors
    /// The connection broke, or there was no answer in time.
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
            // A server may close a connection after an answer that says so: VictoriaMetrics does when it is two minutes
            // old. Nothing of this request has been sent then.
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
    // Ends with the connection; its error reaches the request that waits on it.
    tokio::spawn(async { connection.await.ok() });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request of each connection and closes it.
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
