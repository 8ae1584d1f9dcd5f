//! Sends messages to receivers, as each kind of receiver needs it.

mod rate;
mod wechat;

use http::Method;
use tidemark_alerting::notify::message::{HttpMessage, Verdict, WeChatMessage, signed_url};
use tidemark_alerting::notify::receiver::{Credentials, HttpOptions};

use self::rate::RateLimiter;
use self::wechat::AccessTokens;
use crate::outbound::{Authorization, HttpClient, RequestError, RequestOptions, TlsSettings};
use crate::report::chain;

/// The client for notifications and external Alertmanagers, and what some services need remembered between messages.
#[derive(Debug, Default)]
pub(super) struct Transport {
    pub(super) client: HttpClient,
    rates: RateLimiter,
    wechat_tokens: AccessTokens,
}

impl Transport {
    /// Sends a message once.
    pub(super) async fn send(&self, message: &HttpMessage, now_ms: i64) -> Verdict {
        if let Some(limit) = message.rate_limit {
            self.rates.wait(message.url.expose(), limit).await;
        }
        let url = signed_url(message.url.expose(), &message.signing_secret, now_ms);
        let options = request_options(&message.http);
        let body = message.body.clone();
        let request = self.client.request(Method::POST, &url, &options, body);
        let response = match message.timeout {
            None => request.await,
            Some(timeout) => match tokio::time::timeout(timeout, request).await {
                Ok(response) => response,
                Err(_) => return Verdict::Retry(format!("no answer within {timeout:?}")),
            },
        };
        match response {
            Ok(response) => message.answer.judge(response.status, &response.body),
            Err(error) => retry(&error),
        }
    }

    /// Sends a message to WeChat once.
    pub(super) async fn send_wechat(&self, message: &WeChatMessage) -> Verdict {
        self.wechat_tokens.send(&self.client, message).await
    }
}

fn retry(error: &RequestError) -> Verdict {
    Verdict::Retry(chain(error))
}

/// Translates the options of a receiver.
pub(super) fn request_options(options: &HttpOptions) -> RequestOptions {
    let authorization = match &options.credentials {
        Credentials::None => Authorization::default(),
        Credentials::Basic { username, password } => {
            Authorization::basic(username, password.expose())
        }
        Credentials::Token { kind, token } => Authorization::token(kind, token.expose()),
    };
    let tls = &options.tls;
    RequestOptions {
        authorization,
        tls: TlsSettings {
            ca_pem: tls.ca_pem.clone(),
            cert_pem: tls.cert_pem.clone(),
            key_pem: tls.key_pem.as_ref().map(|key| key.expose().to_owned()),
            server_name: tls.server_name.clone(),
            insecure_skip_verify: tls.insecure_skip_verify,
        },
    }
}
