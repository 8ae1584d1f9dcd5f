//! Tests against a small server that counts its connections.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Starts a server that answers the first `answers` requests of each connection and closes it at the next one.
async fn server(answers: usize) -> (Uri, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                for _ in 0..answers {
                    if !read_request(&mut stream).await {
                        return;
                    }
                    stream.write_all(ANSWER).await.unwrap();
                }
                // Read, but never answered.
                read_request(&mut stream).await;
            });
        }
    });
    (uri.parse().unwrap(), connections)
}

/// Reads one request with its body; returns false if the connection ended first.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\nx") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return false;
        }
    }
    true
}

async fn ask(pool: &Pool, uri: &Uri) -> Result<Response, RequestError> {
    let target = Target::new(uri, &TlsSettings::default()).unwrap();
    let build = || {
        let request = Request::post("/").header("host", "here");
        request
            .body(Full::new(Bytes::from_static(b"x")))
            .map_err(RequestError::Build)
    };
    pool.exchange(target, build).await
}

#[tokio::test]
async fn sequential_requests_share_a_connection() {
    let (uri, connections) = server(usize::MAX).await;
    let pool = Pool::default();
    for _ in 0..20 {
        let response = ask(&pool, &uri).await.unwrap();
        assert_eq!((response.status, &response.body[..]), (200, &b"ok"[..]));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn broken_kept_connection_is_replaced_at_once() {
    let (uri, connections) = server(3).await;
    let pool = Pool::default();
    for n in 0..10 {
        assert_eq!(ask(&pool, &uri).await.unwrap().status, 200, "request {n}");
    }
    // Each connection answers three requests; the fourth is sent again over another one.
    assert_eq!(connections.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn broken_new_connection_is_an_error() {
    let (uri, connections) = server(0).await;
    let error = ask(&Pool::default(), &uri).await.unwrap_err();
    assert!(matches!(error, RequestError::Http(_)), "{error}");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn concurrent_requests_are_all_answered() {
    let (uri, _) = server(2).await;
    let pool = Arc::new(Pool::default());
    let asking: Vec<_> = (0..200)
        .map(|_| {
            let (pool, uri) = (Arc::clone(&pool), uri.clone());
            tokio::spawn(async move { ask(&pool, &uri).await })
        })
        .collect();
    for asking in asking {
        assert_eq!(asking.await.unwrap().unwrap().status, 200);
    }
}

#[tokio::test]
async fn server_without_connections_is_forgotten() {
    let (uri, _) = server(0).await;
    let pool = Pool::default();
    ask(&pool, &uri).await.unwrap_err();
    assert_eq!(locked(&pool.servers).len(), 1);
    pool.close_idle();
    assert_eq!(locked(&pool.servers).len(), 0);
}
