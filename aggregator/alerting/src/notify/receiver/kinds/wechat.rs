//! `wechat_configs`: WeChat Work messages.

use std::time::Duration;

use common::secret::Secret;
use serde_json::{Map, Value as Json, json};

use super::super::http::HttpConfig;
use super::super::options::OptionsReader;
use super::super::source::SecretSource;
use crate::notify::message::{
    HttpMessage, Message, TokenRequest, Verdict, error_code, judge_error_code,
};
use crate::notify::render::{RenderError, Renderer};

/// How long a token is used. WeChat's tokens are valid for two hours; they are renewed slightly earlier.
const TOKEN_LIFETIME: Duration = Duration::from_secs(7000);

/// Options of a WeChat Work application.
#[derive(Debug, Clone)]
pub struct WeChat {
    /// Whether resolved alerts are sent.
    pub(super) send_resolved: bool,
    /// The URL of the API with a trailing slash. Not a template.
    api_url: String,
    http: HttpConfig,
    /// The template of the company id.
    corp_id: String,
    /// The secret of the application.
    api_secret: SecretSource,
    /// The template of the application id.
    agent_id: String,
    /// The templates of the recipients: `touser`, `toparty`, `totag`.
    to: [String; 3],
    /// The template of the text.
    message: String,
    /// `text` or `markdown`.
    message_type: String,
}

impl WeChat {
    pub(super) fn read(reader: &mut OptionsReader<'_, '_>) -> Self {
        let global = reader.global;
        let mut api_url = reader.text("api_url", &global.wechat_url);
        reader.check_url(&api_url);
        if !api_url.ends_with('/') {
            api_url.push('/');
        }
        let mut wechat = Self {
            send_resolved: reader.bool("send_resolved", false),
            api_url,
            http: reader.http(),
            corp_id: reader.text("corp_id", &global.wechat_corp_id),
            api_secret: reader.secret("api_secret").or(&global.wechat_secret),
            agent_id: reader.text("agent_id", r#"{{ template "wechat.default.agent_id" . }}"#),
            to: [
                reader.text("to_user", r#"{{ template "wechat.default.to_user" . }}"#),
                reader.text("to_party", r#"{{ template "wechat.default.to_party" . }}"#),
                reader.text("to_tag", r#"{{ template "wechat.default.to_tag" . }}"#),
            ],
            message: reader.text("message", r#"{{ template "wechat.default.message" . }}"#),
            message_type: reader.text("message_type", "text"),
        };
        if wechat.message_type.is_empty() {
            "text".clone_into(&mut wechat.message_type);
        }
        reader.require(!wechat.corp_id.is_empty(), "no global Wechat CorpID set");
        reader.require(wechat.api_secret.is_set(), "no global Wechat ApiSecret set");
        reader.require(
            matches!(wechat.message_type.as_str(), "text" | "markdown"),
            "WeChat message type does not match valid options text|markdown",
        );
        wechat
    }

    pub(super) fn render(&self, renderer: &Renderer<'_>) -> Result<Message, RenderError> {
        let kind = self.message_type.as_str();
        let mut body = Map::new();
        // Each message contains both kinds. One of them is empty.
        for name in ["text", "markdown"] {
            body.insert(name.to_owned(), json!({ "content": "" }));
        }
        let content = renderer.expand(&self.message)?;
        body.insert(kind.to_owned(), json!({ "content": content }));
        for (name, source) in ["touser", "toparty", "totag"].into_iter().zip(&self.to) {
            let text = renderer.expand(source)?;
            if !text.is_empty() {
                body.insert(name.to_owned(), Json::String(text));
            }
        }
        let agent_id = renderer.expand(&self.agent_id)?;
        body.insert("agentid".to_owned(), Json::String(agent_id));
        body.insert("safe".to_owned(), json!("0"));
        body.insert("msgtype".to_owned(), json!(kind));
        // The transport appends the token to the URL.
        let url = format!("{}message/send?access_token=", self.api_url);
        let mut message = HttpMessage::new(
            Secret::new(url),
            self.http.load()?,
            Json::Object(body).to_string(),
            judge_error_code,
        );
        message.token = Some(self.token_request(renderer)?);
        Ok(Message::Http(Box::new(message)))
    }

    fn token_request(&self, renderer: &Renderer<'_>) -> Result<TokenRequest, RenderError> {
        let query = [
            ("corpid", renderer.expand(&self.corp_id)?),
            ("corpsecret", self.api_secret.load()?.expose().clone()),
        ]
        .map(|(name, value)| format!("{name}={}", crate::template::escape_query(&value)))
        .join("&");
        Ok(TokenRequest {
            url: Secret::new(format!("{}gettoken?{query}", self.api_url)),
            lifetime: TOKEN_LIFETIME,
            read: read_token,
            is_expired: |body| matches!(error_code(body), Some(40_014 | 42_001)),
        })
    }
}

fn read_token(status: u16, body: &[u8]) -> Result<Secret<String>, Verdict> {
    let token = serde_json::from_slice::<Json>(body)
        .ok()
        .and_then(|json| Some(json.get("access_token")?.as_str()?.to_owned()));
    match (token, judge_error_code(status, body)) {
        (Some(token), Verdict::Sent) if !token.is_empty() => Ok(Secret::new(token)),
        (_, Verdict::Sent) => Err(Verdict::Failed("the answer has no token".to_owned())),
        (_, verdict @ (Verdict::Retry(_) | Verdict::Failed(_))) => Err(verdict),
    }
}
