//! Sends messages to receivers, as each kind of receiver needs it.

mod rate;
mod tokens;

use http::Method;
use tidemark_alerting::notify::message::{HttpMessage, Verdict};
use tidemark_alerting::notify::receiver::{Credentials, HttpOptions, TlsVersion};

use self::rate::RateLimiter;
use self::tokens::AccessTokens;
use crate::outbound::{
    Authorization, HttpClient, RefusedVersions, RequestError, RequestOptions, TlsSettings,
};
use crate::report::chain;

/// The client for notifications and external Alertmanagers, and what some services need remembered between messages.
#[derive(Debug, Default)]
pub(super) struct Transport {
    pub(super) client: HttpClient,
    rates: RateLimiter,
    tokens: AccessTokens,
}

impl Transport {
    /// Sends a message once.
    pub(super) async fn send(&self, message: &HttpMessage, now_ms: i64) -> Verdict {
        if let Some(limit) = message.rate_limit {
            self.rates.wait(message.url.expose(), limit).await;
        }
        let options = request_options(&message.http);
        let token = match &message.token {
            Some(request) => match self.tokens.get(&self.client, request, &options).await {
                Ok(token) => Some(token),
                Err(verdict) => return verdict,
            },
            None => None,
        };
        let url = message.url_at(token.as_ref(), now_ms);
        let body = message.body.clone();
        let request = self
            .client
            .request(Method::POST, url.expose(), &options, body);
        let response = match message.timeout {
            None => request.await,
            Some(timeout) => match tokio::time::timeout(timeout, request).await {
                Ok(response) => response,
                Err(_) => return Verdict::Retry(format!("no answer within {timeout:?}")),
            },
        };
        match response {
            Ok(response) => {
                if let Some(request) = &message.token
                    && (request.is_expired)(&response.body)
                {
                    self.tokens.forget(request);
                    return Verdict::Retry("the token has expired".to_owned());
                }
                (message.judge)(response.status, &response.body)
            }
            Err(error) => retry(&error),
        }
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
            Authorization::basic(username.expose(), password.expose())
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
            refused_versions: match (tls.min_version, tls.max_version) {
                (Some(TlsVersion::Tls13), _) => RefusedVersions::Tls12,
                (_, Some(TlsVersion::Tls12)) => RefusedVersions::Tls13,
                _ => RefusedVersions::None,
            },
        },
    }
}
