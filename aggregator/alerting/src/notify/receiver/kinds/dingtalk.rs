//! `dingtalk_configs`: a message of a DingTalk robot.

use super::super::http::HttpOptions;
use super::super::{Global, Secret};
use super::KindReader;

/// A message of a DingTalk robot.
#[derive(Debug, Clone)]
pub struct DingTalk {
    /// Whether to tell of ends.
    pub send_resolved: bool,
    /// The robot's URL with its token; no template.
    pub url: Secret,
    /// How.
    pub http: HttpOptions,
    /// Signs the request when it is there.
    pub secret: Secret,
    /// Heading, for messages of type markdown.
    pub title: String,
    /// The text.
    pub text: String,
    /// `text` or `markdown`.
    pub message_type: String,
    /// Telephone numbers of those to call by name.
    pub at_mobiles: Vec<String>,
    /// Whether all are called.
    pub at_all: bool,
}

impl KindReader<'_, '_> {
    pub(super) fn dingtalk(&mut self, global: &Global) -> DingTalk {
        let url = self.secret("url");
        self.require(!url.is_empty(), "one of url or url_file must be configured");
        self.require_url(url.expose());
        let dingtalk = DingTalk {
            send_resolved: self.bool("send_resolved", true),
            url,
            http: self.http(global),
            secret: self.secret("secret"),
            title: self.text("title", r#"{{ template "__subject" . }}"#),
            text: self.text("text", r#"{{ template "dingtalk.default.text" . }}"#),
            message_type: self.text("message_type", "markdown"),
            at_mobiles: self
                .fields
                .take("at_mobiles")
                .map_or_else(Vec::new, |node| node.read_texts(self.issues)),
            at_all: self.bool("at_all", false),
        };
        let is_known = matches!(dingtalk.message_type.as_str(), "text" | "markdown");
        self.require(
            is_known,
            "DingTalk message type does not match valid options text|markdown",
        );
        dingtalk
    }
}
