//! WeChat: a message needs an access token, which is fetched with the secret of the application and kept.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use serde_json::Value as Json;
use tidemark_alerting::notify::message::{Answer, Verdict, WeChatMessage};

use super::{request_options, retry};
use crate::outbound::HttpClient;

/// Tokens are valid for two hours.
const TOKEN_LIFE: Duration = Duration::from_secs(7000);
/// `errcode` of an invalid and of an expired token.
const TOKEN_ERRORS: [i64; 2] = [40_014, 42_001];

/// Company and secret of an application.
type Application = (String, String);

/// Access tokens by application. Applications come from the configuration, so they are few.
#[derive(Debug, Default)]
pub(super) struct AccessTokens {
    tokens: Mutex<HashMap<Application, (String, Instant)>>,
}

impl AccessTokens {
    /// Sends a message once. A token that is no longer valid is dropped, and the next attempt fetches another.
    pub(super) async fn send(&self, client: &HttpClient, message: &WeChatMessage) -> Verdict {
        let application = (
            message.corp_id.clone(),
            message.api_secret.expose().to_owned(),
        );
        let known = self
            .tokens()
            .get(&application)
            .filter(|(_, since)| since.elapsed() < TOKEN_LIFE)
            .map(|(token, _)| token.clone());
        let token = match known {
            Some(token) => token,
            None => match fetch_token(client, message).await {
                Ok(token) => {
                    let fetched = (token.clone(), Instant::now());
                    self.tokens().insert(application.clone(), fetched);
                    token
                }
                Err(verdict) => return verdict,
            },
        };
        let url = format!("{}message/send?access_token={token}", message.api_url);
        let options = request_options(&message.http);
        let body = message.body.clone();
        match client.request(Method::POST, &url, &options, body).await {
            Err(error) => retry(&error),
            Ok(response) => {
                let code = error_code(&response.body);
                if code.is_some_and(|code| TOKEN_ERRORS.contains(&code)) {
                    self.tokens().remove(&application);
                    return Verdict::Retry("the token has expired".to_owned());
                }
                Answer::ErrorCode.judge(response.status, &response.body)
            }
        }
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<Application, (String, Instant)>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch_token(client: &HttpClient, message: &WeChatMessage) -> Result<String, Verdict> {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("corpid", &message.corp_id)
        .append_pair("corpsecret", message.api_secret.expose())
        .finish();
    let url = format!("{}gettoken?{query}", message.api_url);
    let options = request_options(&message.http);
    let response = client
        .request(Method::GET, &url, &options, Bytes::new())
        .await
        .map_err(|error| retry(&error))?;
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

fn error_code(body: &[u8]) -> Option<i64> {
    serde_json::from_slice::<Json>(body)
        .ok()?
        .get("errcode")?
        .as_i64()
}
