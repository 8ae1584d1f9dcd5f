//! HTTP to receivers and Alertmanagers. Redirects are not followed: a target is what the configuration says.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value as Json;
use tidemark_alerting::notify::message::{Answer, HttpMessage, Verdict, WeChatMessage, signed_url};
use tidemark_alerting::notify::receiver::{Credentials, HttpOptions};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls;

/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// A DingTalk robot that gets more than 20 messages a minute is silenced for ten; stay below.
const ROBOT_MESSAGES_MAX: usize = 18;
const ROBOT_WINDOW: Duration = Duration::from_secs(60);
/// WeChat's tokens hold for two hours.
const TOKEN_LIFE: Duration = Duration::from_secs(7000);

/// An answer: its status and the beginning of its body.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Sends messages; remembers what services want remembered.
#[derive(Debug, Default)]
pub(super) struct Transport {
    /// When the last messages to each robot were sent.
    robots: Mutex<HashMap<String, VecDeque<Instant>>>,
    /// Tokens by company and secret.
    tokens: Mutex<HashMap<(String, String), (String, Instant)>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transport {
    /// Sends a message once.
    pub(super) async fn send(&self, message: &HttpMessage, now_ms: i64) -> Verdict {
        if message.answer == Answer::ErrorCode {
            self.wait_for_robot(message.url.expose()).await;
        }
        let url = signed_url(message.url.expose(), &message.signing_secret, now_ms);
        let sending = request(
            Method::POST,
            &url,
            &message.http,
            Bytes::from(message.body.clone()),
        );
        let response = match message.timeout {
            None => sending.await,
            Some(timeout) => match tokio::time::timeout(timeout, sending).await {
                Ok(response) => response,
                Err(_) => Err(format!("no answer within {timeout:?}")),
            },
        };
        match response {
            Ok(response) => message.answer.judge(response.status, &response.body),
            Err(reason) => Verdict::Retry(reason),
        }
    }

    /// Waits until the robot takes another message.
    async fn wait_for_robot(&self, url: &str) {
        loop {
            let wait = {
                let mut robots = locked(&self.robots);
                let sent = robots.entry(url.to_owned()).or_default();
                sent.retain(|at| at.elapsed() < ROBOT_WINDOW);
                match sent.front() {
                    Some(first) if sent.len() >= ROBOT_MESSAGES_MAX => {
                        ROBOT_WINDOW.saturating_sub(first.elapsed())
                    }
                    _ => {
                        sent.push_back(Instant::now());
                        return;
                    }
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Sends a message to WeChat once; a token that is no longer good is replaced.
    pub(super) async fn send_wechat(&self, message: &WeChatMessage) -> Verdict {
        let key = (
            message.corp_id.clone(),
            message.api_secret.expose().to_owned(),
        );
        let known = locked(&self.tokens)
            .get(&key)
            .filter(|(_, since)| since.elapsed() < TOKEN_LIFE)
            .cloned();
        let token = match known {
            Some((token, _)) => token,
            None => match fetch_token(message).await {
                Ok(token) => {
                    locked(&self.tokens).insert(key.clone(), (token.clone(), Instant::now()));
                    token
                }
                Err(verdict) => return verdict,
            },
        };
        let url = format!("{}message/send?access_token={token}", message.api_url);
        match request(
            Method::POST,
            &url,
            &message.http,
            Bytes::from(message.body.clone()),
        )
        .await
        {
            Err(reason) => Verdict::Retry(reason),
            Ok(response) => {
                let code = error_code(&response.body);
                if matches!(code, Some(40_014 | 42_001)) {
                    locked(&self.tokens).remove(&key);
                    return Verdict::Retry("the token has expired".to_owned());
                }
                Answer::ErrorCode.judge(response.status, &response.body)
            }
        }
    }
}

fn error_code(body: &[u8]) -> Option<i64> {
    serde_json::from_slice::<Json>(body)
        .ok()?
        .get("errcode")?
        .as_i64()
}

async fn fetch_token(message: &WeChatMessage) -> Result<String, Verdict> {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("corpid", &message.corp_id)
        .append_pair("corpsecret", message.api_secret.expose())
        .finish();
    let url = format!("{}gettoken?{query}", message.api_url);
    let response = request(Method::GET, &url, &message.http, Bytes::new())
        .await
        .map_err(Verdict::Retry)?;
    let token = serde_json::from_slice::<Json>(&response.body)
        .ok()
        .and_then(|json| Some(json.get("access_token")?.as_str()?.to_owned()));
    match (
        token,
        Answer::ErrorCode.judge(response.status, &response.body),
    ) {
        (Some(token), Verdict::Sent) if !token.is_empty() => Ok(token),
        (_, Verdict::Sent) => Err(Verdict::Failed("the answer has no token".to_owned())),
        (_, verdict) => Err(verdict),
    }
}

/// One request over a connection of its own. An error is always worth another try.
pub(super) async fn request(
    method: Method,
    url: &str,
    options: &HttpOptions,
    body: Bytes,
) -> Result<Response, String> {
    let uri: Uri = url.parse().map_err(|_| "bad URL".to_owned())?;
    let host = uri.host().ok_or("the URL has no host")?.to_owned();
    let bare_host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let request = build(method, &uri, options, body)?;
    let stream = TcpStream::connect((bare_host.as_str(), port))
        .await
        .map_err(|error| format!("connect to {host}:{port}: {error}"))?;
    if !is_tls {
        return exchange(stream, request).await;
    }
    let expected = options.tls.server_name.clone().unwrap_or(bare_host);
    let name = ServerName::try_from(expected).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(tls::client(&options.tls)?))
        .connect(name, stream)
        .await
        .map_err(|error| format!("TLS with {host}:{port}: {error}"))?;
    exchange(stream, request).await
}

fn build(
    method: Method,
    uri: &Uri,
    options: &HttpOptions,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, String> {
    let target = uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    let (user, host) = authority
        .rsplit_once('@')
        .map_or((None, authority), |(user, host)| (Some(user), host));
    let authorization = match (&options.credentials, user) {
        (Credentials::Basic { username, password }, _) => Some(format!(
            "Basic {}",
            STANDARD.encode(format!("{username}:{}", password.expose()))
        )),
        (Credentials::Token { kind, token }, _) => Some(format!("{kind} {}", token.expose())),
        (Credentials::None, Some(user)) => Some(format!("Basic {}", STANDARD.encode(user))),
        (Credentials::None, None) => None,
    };
    let has_body = method != Method::GET;
    let mut builder = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, host)
        .header(
            header::USER_AGENT,
            concat!("Tidemark/", env!("CARGO_PKG_VERSION")),
        );
    if has_body {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
    }
    if let Some(authorization) = authorization {
        builder = builder.header(header::AUTHORIZATION, authorization);
    }
    builder
        .body(Full::new(body))
        .map_err(|error| error.to_string())
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| format!("talk HTTP: {}", crate::report::chain(&error));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let driver = AbortOnDrop(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status().as_u16();
    // A body beyond the bound says nothing that we need.
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await;
    drop(driver);
    Ok(Response {
        status,
        body: body.map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes),
    })
}

/// Ends the connection's task when its request is given up.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
