//! `wechat_configs`: a message in WeChat Work.

use super::super::http::HttpOptions;
use super::super::{Global, Secret};
use super::KindReader;

/// A message in WeChat Work.
#[derive(Debug, Clone)]
pub struct WeChat {
    /// Whether to tell of ends.
    pub send_resolved: bool,
    /// The API, with a slash at the end; no template.
    pub api_url: String,
    /// How.
    pub http: HttpOptions,
    /// The company; no template.
    pub corp_id: String,
    /// The application's secret.
    pub api_secret: Secret,
    /// The application.
    pub agent_id: String,
    /// Who gets it: `touser`, `toparty`, `totag`.
    pub to: [String; 3],
    /// The text.
    pub message: String,
    /// `text` or `markdown`.
    pub message_type: String,
}

impl KindReader<'_, '_> {
    pub(super) fn wechat(&mut self, global: &Global) -> WeChat {
        let own = self.secret("api_secret");
        let mut api_url = self.text("api_url", &global.wechat_url);
        if !api_url.ends_with('/') {
            api_url.push('/');
        }
        self.require_url(&api_url);
        let wechat = WeChat {
            send_resolved: self.bool("send_resolved", false),
            api_url,
            http: self.http(global),
            corp_id: self.text("corp_id", &global.wechat_corp_id),
            api_secret: if own.is_empty() {
                global.wechat_secret.clone()
            } else {
                own
            },
            agent_id: self.text("agent_id", r#"{{ template "wechat.default.agent_id" . }}"#),
            to: [
                self.text("to_user", r#"{{ template "wechat.default.to_user" . }}"#),
                self.text("to_party", r#"{{ template "wechat.default.to_party" . }}"#),
                self.text("to_tag", r#"{{ template "wechat.default.to_tag" . }}"#),
            ],
            message: self.text("message", r#"{{ template "wechat.default.message" . }}"#),
            message_type: self.text("message_type", "text"),
        };
        self.require(!wechat.corp_id.is_empty(), "no global Wechat CorpID set");
        self.require(
            !wechat.api_secret.is_empty(),
            "no global Wechat ApiSecret set",
        );
        let is_known = matches!(wechat.message_type.as_str(), "text" | "markdown");
        self.require(
            is_known,
            "WeChat message type does not match valid options text|markdown",
        );
        wechat
    }
}
