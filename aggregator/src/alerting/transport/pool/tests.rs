//! Against a server of a few lines that says how its connections came to be.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server; of each connection the first `answers` requests are answered, and the next one ends it.
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
                // Taken, and never answered.
                read_request(&mut stream).await;
            });
        }
    });
    (uri.parse().unwrap(), connections)
}

/// Reads up to the end of a request's body; says whether there was one.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\nx") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return false;
        }
    }
    true
}

async fn ask(pool: &Pool, uri: &Uri) -> Result<Response, String> {
    let target = Target::new(uri, &TlsOptions::default()).unwrap();
    let make = || {
        let request = Request::post("/").header("host", "here");
        request
            .body(Full::new(Bytes::from_static(b"x")))
            .map_err(|error| error.to_string())
    };
    pool.exchange(target, make).await
}

#[tokio::test]
async fn requests_after_each_other_share_a_connection() {
    let (uri, connections) = server(usize::MAX).await;
    let pool = Pool::default();
    for _ in 0..20 {
        let response = ask(&pool, &uri).await.unwrap();
        assert_eq!((response.status, &response.body[..]), (200, &b"ok"[..]));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn kept_connection_that_breaks_is_replaced_at_once() {
    let (uri, connections) = server(3).await;
    let pool = Pool::default();
    for n in 0..10 {
        assert_eq!(ask(&pool, &uri).await.unwrap().status, 200, "request {n}");
    }
    // Three each; the next request breaks the connection and goes over another.
    assert_eq!(connections.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn new_connection_that_breaks_is_an_error() {
    let (uri, connections) = server(0).await;
    let error = ask(&Pool::default(), &uri).await.unwrap_err();
    assert!(error.starts_with("talk HTTP: "), "{error}");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn many_at_once_are_all_answered() {
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
