//! HTTP to receivers and Alertmanagers. Redirects are not followed: a target is what the configuration says.

mod pool;

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::Full;
use serde_json::Value as Json;
use tidemark_alerting::notify::message::{Answer, HttpMessage, Verdict, WeChatMessage, signed_url};
use tidemark_alerting::notify::receiver::{Credentials, HttpOptions};

use self::pool::{Pool, Target};

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
    pool: Pool,
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
        let sending = self.request(Method::POST, &url, &message.http, message.body.clone());
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
            None => match self.fetch_token(message).await {
                Ok(token) => {
                    locked(&self.tokens).insert(key.clone(), (token.clone(), Instant::now()));
                    token
                }
                Err(verdict) => return verdict,
            },
        };
        let url = format!("{}message/send?access_token={token}", message.api_url);
        let sending = self.request(Method::POST, &url, &message.http, message.body.clone());
        match sending.await {
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

    async fn fetch_token(&self, message: &WeChatMessage) -> Result<String, Verdict> {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("corpid", &message.corp_id)
            .append_pair("corpsecret", message.api_secret.expose())
            .finish();
        let url = format!("{}gettoken?{query}", message.api_url);
        let response = self
            .request(Method::GET, &url, &message.http, Bytes::new())
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

    /// One request, over a connection that is kept where there is one. An error is always worth another try.
    pub(super) async fn request(
        &self,
        method: Method,
        url: &str,
        options: &HttpOptions,
        body: Bytes,
    ) -> Result<Response, String> {
        let uri: Uri = url.parse().map_err(|_| "bad URL".to_owned())?;
        let target = Target::new(&uri, &options.tls)?;
        let make = || build(method.clone(), &uri, options, body.clone());
        self.pool.exchange(target, make).await
    }

    /// Closes connections that nobody has used for a while. To be called now and then.
    pub(super) fn close_idle(&self) {
        self.pool.close_idle();
    }
}

fn error_code(body: &[u8]) -> Option<i64> {
    serde_json::from_slice::<Json>(body)
        .ok()?
        .get("errcode")?
        .as_i64()
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
