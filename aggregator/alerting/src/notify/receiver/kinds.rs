//! The kinds of integration, each with its fields and defaults.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::http::{self, HttpOptions, TlsOptions};
use super::{Global, Secret, secret};
use crate::yaml::{Fields, Issue, Issues, Node, Yaml};

/// Where PagerDuty takes events, of either version.
pub(super) const PAGERDUTY_V2: &str = "https://events.pagerduty.com/v2/enqueue";
const PAGERDUTY_V1: &str = "https://events.pagerduty.com/generic/2010-04-15/create_event.json";

/// The kinds that are supported.
pub(super) const KINDS: [&str; 6] = [
    "webhook",
    "email",
    "slack",
    "pagerduty",
    "wechat",
    "dingtalk",
];

/// The kinds that Alertmanager knows beyond them.
pub(super) const FOREIGN_KINDS: [&str; 14] = [
    "discord",
    "incidentio",
    "jira",
    "mattermost",
    "msteams",
    "msteamsv2",
    "opsgenie",
    "pushover",
    "rocketchat",
    "sns",
    "telegram",
    "victorops",
    "webex",
    "feishu",
];

/// One way to tell a receiver. Texts are templates unless said otherwise.
#[derive(Debug, Clone)]
pub enum Integration {
    /// A POST of JSON.
    Webhook(Box<Webhook>),
    /// A mail.
    Email(Box<Email>),
    /// A Slack message.
    Slack(Box<Slack>),
    /// A PagerDuty event.
    PagerDuty(Box<PagerDuty>),
    /// A message in WeChat Work.
    WeChat(Box<WeChat>),
    /// A message of a DingTalk robot.
    DingTalk(Box<DingTalk>),
}

/// A POST of JSON.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Whether to tell of ends.
    pub send_resolved: bool,
    /// Where to.
    pub url: Secret,
    /// How.
    pub http: HttpOptions,
    /// Most alerts in one message; 0 is no limit.
    pub alerts_max: u64,
    /// The most that a request may take; `None`: the flush decides.
    pub timeout: Option<std::time::Duration>,
    /// A body of one's own in place of Alertmanager's.
    pub payload: Option<Payload>,
}

/// A JSON value whose texts are templates.
#[derive(Debug, Clone)]
pub enum Payload {
    /// A template; when it gives JSON the JSON itself is taken.
    Text(String),
    /// A number, truth value or null, as it is.
    Plain(Json),
    /// A list.
    List(Vec<Self>),
    /// An object.
    Map(BTreeMap<String, Self>),
}

/// A mail.
#[derive(Debug, Clone)]
pub struct Email {
    /// Whether to tell of ends.
    pub send_resolved: bool,
    /// Addresses, separated by commas.
    pub to: String,
    /// The sender.
    pub from: String,
    /// The name we greet the server with; no template.
    pub hello: String,
    /// `host:port`; no template.
    pub smarthost: String,
    /// User, when the server wants one; no template.
    pub username: String,
    /// Password.
    pub password: Secret,
    /// Further header lines by name.
    pub headers: BTreeMap<String, String>,
    /// The HTML part.
    pub html: String,
    /// The text part.
    pub text: String,
    /// Whether a connection without TLS is an error.
    pub require_tls: bool,
    /// How the server proves itself, and we to it.
    pub tls: TlsOptions,
}

/// A Slack message.
#[derive(Debug, Clone)]
pub struct Slack {
    /// Whether to tell of ends.
    pub send_resolved: bool,
    /// Where to; no template.
    pub api_url: Secret,
    /// How.
    pub http: HttpOptions,
    /// Texts by the field of the attachment or the message they go to.
    pub texts: BTreeMap<&'static str, String>,
    /// The table inside the attachment.
    pub fields: Vec<SlackField>,
    /// Whether all fields are short unless they say otherwise.
    pub short_fields: bool,
    /// Whether names are linked.
    pub link_names: bool,
    /// Which fields are marked up; no templates.
    pub markdown_in: Vec<String>,
    /// Buttons under the attachment, as objects whose texts are templates.
    pub actions: Vec<Json>,
}

/// A field of a Slack attachment.
#[derive(Debug, Clone)]
pub struct SlackField {
    /// Its title.
    pub title: String,
    /// Its text.
    pub value: String,
    /// Whether it may share a line.
    pub short: Option<bool>,
}

/// A PagerDuty event, of version 1 when there is a service key.
#[derive(Debug, Clone)]
pub struct PagerDuty {
    /// Whether to tell of ends.
    pub send_resolved: bool,
    /// Where to; no template.
    pub url: String,
    /// How.
    pub http: HttpOptions,
    /// The key of the integration, version 2.
    pub routing_key: Secret,
    /// The key of the integration, version 1.
    pub service_key: Secret,
    /// Texts by the event's field.
    pub texts: BTreeMap<&'static str, String>,
    /// `custom_details`.
    pub details: BTreeMap<String, String>,
    /// Pictures, as objects whose texts are templates.
    pub images: Vec<Json>,
    /// Links, likewise.
    pub links: Vec<Json>,
}

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

impl Integration {
    /// The word for the kind, as in `KIND_configs`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Email(_) => "email",
            Self::Slack(_) => "slack",
            Self::PagerDuty(_) => "pagerduty",
            Self::WeChat(_) => "wechat",
            Self::DingTalk(_) => "dingtalk",
        }
    }

    /// Whether it is told of ends.
    #[must_use]
    pub const fn send_resolved(&self) -> bool {
        match self {
            Self::Webhook(config) => config.send_resolved,
            Self::Email(config) => config.send_resolved,
            Self::Slack(config) => config.send_resolved,
            Self::PagerDuty(config) => config.send_resolved,
            Self::WeChat(config) => config.send_resolved,
            Self::DingTalk(config) => config.send_resolved,
        }
    }
}

/// Reads one entry of `KIND_configs`.
pub(super) fn read(kind: &str, node: &Node, global: &Global, issues: &mut Issues) -> Integration {
    let mut reader = KindReader {
        node,
        fields: Fields::new(node, "config", issues),
        issues,
    };
    let integration = match kind {
        "email" => Integration::Email(Box::new(reader.email(global))),
        "slack" => Integration::Slack(Box::new(reader.slack(global))),
        "pagerduty" => Integration::PagerDuty(Box::new(reader.pagerduty(global))),
        "wechat" => Integration::WeChat(Box::new(reader.wechat(global))),
        "dingtalk" => Integration::DingTalk(Box::new(reader.dingtalk(global))),
        _ => Integration::Webhook(Box::new(reader.webhook(global))),
    };
    reader.fields.finish(reader.issues);
    integration
}

struct KindReader<'a, 'i> {
    node: &'a Node,
    fields: Fields<'a>,
    issues: &'i mut Issues,
}

impl KindReader<'_, '_> {
    fn text(&mut self, name: &str, default: &str) -> String {
        self.fields
            .text(name, self.issues)
            .unwrap_or_else(|| default.to_owned())
    }

    fn bool(&mut self, name: &str, default: bool) -> bool {
        self.fields.bool(name, self.issues).unwrap_or(default)
    }

    fn secret(&mut self, name: &str) -> Secret {
        secret(&mut self.fields, name, self.issues)
    }

    fn http(&mut self, global: &Global) -> HttpOptions {
        match self.fields.take("http_config") {
            Some(node) => http::read(node, self.issues),
            None => global.http.clone(),
        }
    }

    fn require(&mut self, is_there: bool, message: &str) {
        if !is_there {
            self.issues.push(Issue::new(self.node.place, message));
        }
    }

    fn require_url(&mut self, url: &str) {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        let is_good =
            url == "<secret>" || url.is_empty() || matches!(scheme, Some("http" | "https"));
        self.require(is_good, "unsupported scheme of URL, want http or https");
    }

    fn webhook(&mut self, global: &Global) -> Webhook {
        let url = self.secret("url");
        self.require(!url.is_empty(), "one of url or url_file must be configured");
        self.require_url(url.expose());
        let alerts_max = self
            .fields
            .take("max_alerts")
            .map_or(0, |node| node.read_int(self.issues));
        Webhook {
            send_resolved: self.bool("send_resolved", true),
            http: self.http(global),
            url,
            alerts_max: u64::try_from(alerts_max).unwrap_or(0),
            timeout: self
                .fields
                .duration("timeout", self.issues)
                .filter(|timeout| !timeout.is_zero()),
            payload: self.fields.take("payload").map(payload),
        }
    }

    fn email(&mut self, global: &Global) -> Email {
        let mut headers = BTreeMap::new();
        for (name, value) in self
            .fields
            .take("headers")
            .map_or_else(Vec::new, |node| node.read_pairs(self.issues))
        {
            if headers.insert(title_case(&name), value).is_some() {
                let message = format!("duplicate header {name:?} in email config");
                self.issues.push(Issue::new(self.node.place, message));
            }
        }
        let password = self.secret("auth_password");
        let email = Email {
            send_resolved: self.bool("send_resolved", false),
            to: self.text("to", ""),
            from: self.text("from", &global.smtp_from),
            hello: self.text("hello", &global.smtp_hello),
            smarthost: self.text("smarthost", &global.smtp_smarthost),
            username: self.text("auth_username", &global.smtp_username),
            password: if password.is_empty() {
                global.smtp_password.clone()
            } else {
                password
            },
            headers,
            html: self.text("html", r#"{{ template "email.default.html" . }}"#),
            text: self.text("text", ""),
            require_tls: self.bool("require_tls", global.smtp_require_tls),
            tls: match self.fields.take("tls_config") {
                Some(node) => http::read_tls(node, self.issues),
                None => global.smtp_tls.clone(),
            },
        };
        self.fields.take("auth_identity");
        for unsupported in [
            "auth_secret",
            "auth_secret_file",
            "force_implicit_tls",
            "threading",
        ] {
            if let Some(node) = self.fields.take(unsupported) {
                self.issues.push(Issue::new(
                    node.place,
                    format!("{unsupported} is not supported in email_configs"),
                ));
            }
        }
        self.require(!email.to.is_empty(), "missing to address in email config");
        self.require(!email.smarthost.is_empty(), "no global SMTP smarthost set");
        self.require(
            email.smarthost.is_empty() || email.smarthost.contains(':'),
            "missing port in SMTP smarthost",
        );
        self.require(!email.from.is_empty(), "no global SMTP from set");
        email
    }

    fn slack(&mut self, global: &Global) -> Slack {
        let own = self.secret("api_url");
        let api_url = if own.is_empty() {
            global.slack_api_url.clone()
        } else {
            own
        };
        self.require(
            !api_url.is_empty(),
            "no global Slack API URL set either inline or in a file",
        );
        self.require_url(api_url.expose());
        let defaults = [
            ("channel", ""),
            ("username", r#"{{ template "slack.default.username" . }}"#),
            (
                "color",
                r#"{{ if eq .Status "firing" }}danger{{ else }}good{{ end }}"#,
            ),
            ("title", r#"{{ template "slack.default.title" . }}"#),
            (
                "title_link",
                r#"{{ template "slack.default.titlelink" . }}"#,
            ),
            ("pretext", r#"{{ template "slack.default.pretext" . }}"#),
            ("text", r#"{{ template "slack.default.text" . }}"#),
            ("fallback", r#"{{ template "slack.default.fallback" . }}"#),
            (
                "callback_id",
                r#"{{ template "slack.default.callbackid" . }}"#,
            ),
            (
                "icon_emoji",
                r#"{{ template "slack.default.iconemoji" . }}"#,
            ),
            ("icon_url", r#"{{ template "slack.default.iconurl" . }}"#),
            ("image_url", ""),
            ("thumb_url", ""),
            ("footer", r#"{{ template "slack.default.footer" . }}"#),
        ];
        let texts = defaults
            .into_iter()
            .map(|(name, default)| (name, self.text(name, default)))
            .collect();
        let markdown = self
            .fields
            .take("mrkdwn_in")
            .map(|node| node.read_texts(self.issues));
        Slack {
            send_resolved: self.bool("send_resolved", false),
            api_url,
            http: self.http(global),
            texts,
            fields: self.slack_fields(),
            actions: self.slack_actions(),
            short_fields: self.bool("short_fields", false),
            link_names: self.bool("link_names", false),
            markdown_in: markdown
                .filter(|names| !names.is_empty())
                .unwrap_or_else(|| ["fallback", "pretext", "text"].map(str::to_owned).to_vec()),
        }
    }

    fn slack_fields(&mut self) -> Vec<SlackField> {
        let items = self.fields.take("fields").map_or(&[][..], |node| {
            node.read_list("[]config.SlackField", self.issues)
        });
        let mut slack_fields = Vec::with_capacity(items.len());
        for item in items {
            let mut fields = Fields::new(item, "config.SlackField", self.issues);
            let field = SlackField {
                title: fields.text("title", self.issues).unwrap_or_default(),
                value: fields.text("value", self.issues).unwrap_or_default(),
                short: fields.bool("short", self.issues),
            };
            if field.title.is_empty() || field.value.is_empty() {
                self.issues.push(Issue::new(
                    item.place,
                    "missing title or value in Slack field configuration",
                ));
            }
            fields.finish(self.issues);
            slack_fields.push(field);
        }
        slack_fields
    }

    fn slack_actions(&mut self) -> Vec<Json> {
        let items = self.fields.take("actions").map_or(&[][..], |node| {
            node.read_list("[]config.SlackAction", self.issues)
        });
        let mut actions = Vec::with_capacity(items.len());
        for item in items {
            let mut fields = Fields::new(item, "config.SlackAction", self.issues);
            let mut action = texts(
                &mut fields,
                &["type", "text", "url", "style", "name", "value"],
                self.issues,
            );
            for name in ["type", "text"] {
                if !action.contains_key(name) {
                    let message = format!("missing {name} in Slack action configuration");
                    self.issues.push(Issue::new(item.place, message));
                }
            }
            if !action.contains_key("url") && !action.contains_key("name") {
                let message = "missing name or url in Slack action configuration";
                self.issues.push(Issue::new(item.place, message));
            }
            if let Some(confirm) = fields.take("confirm") {
                let mut fields = Fields::new(confirm, "config.SlackConfirmationField", self.issues);
                let names = ["title", "text", "ok_text", "dismiss_text"];
                let confirmation = texts(&mut fields, &names, self.issues);
                fields.finish(self.issues);
                if !confirmation.contains_key("text") {
                    let message = "missing text in Slack confirmation configuration";
                    self.issues.push(Issue::new(confirm.place, message));
                }
                action.insert("confirm".to_owned(), Json::Object(confirmation));
            }
            fields.finish(self.issues);
            actions.push(Json::Object(action));
        }
        actions
    }

    /// A list of objects of texts.
    fn objects(&mut self, name: &str, kind: &'static str, fields_of: &[&str]) -> Vec<Json> {
        let list = format!("[]{kind}");
        let items = self
            .fields
            .take(name)
            .map_or(&[][..], |node| node.read_list(&list, self.issues));
        let mut objects = Vec::with_capacity(items.len());
        for item in items {
            let mut fields = Fields::new(item, kind, self.issues);
            let object = texts(&mut fields, fields_of, self.issues);
            fields.finish(self.issues);
            objects.push(Json::Object(object));
        }
        objects
    }

    fn pagerduty(&mut self, global: &Global) -> PagerDuty {
        let routing_key = self.secret("routing_key");
        let service_key = self.secret("service_key");
        self.require(
            !routing_key.is_empty() || !service_key.is_empty(),
            "missing service or routing key in PagerDuty config",
        );
        let defaults = [
            ("client", r#"{{ template "pagerduty.default.client" . }}"#),
            (
                "client_url",
                r#"{{ template "pagerduty.default.clientURL" . }}"#,
            ),
            (
                "description",
                r#"{{ template "pagerduty.default.description" .}}"#,
            ),
            ("severity", "error"),
            ("source", ""),
            ("class", ""),
            ("component", ""),
            ("group", ""),
        ];
        let mut texts: BTreeMap<&'static str, String> = defaults
            .into_iter()
            .map(|(name, default)| (name, self.text(name, default)))
            .collect();
        if texts.get("source").is_some_and(String::is_empty) {
            let client = texts.get("client").cloned().unwrap_or_default();
            texts.insert("source", client);
        }
        let details = self.pagerduty_details();
        let images = self.objects("images", "config.PagerdutyImage", &["src", "alt", "href"]);
        let links = self.objects("links", "config.PagerdutyLink", &["href", "text"]);
        let mut url = self.text("url", &global.pagerduty_url);
        if !service_key.is_empty() && url == PAGERDUTY_V2 {
            PAGERDUTY_V1.clone_into(&mut url);
        }
        self.require_url(&url);
        let send_resolved = self.bool("send_resolved", true);
        PagerDuty {
            send_resolved,
            url,
            http: self.http(global),
            routing_key,
            service_key,
            texts,
            details,
            images,
            links,
        }
    }

    fn pagerduty_details(&mut self) -> BTreeMap<String, String> {
        let mut details: BTreeMap<String, String> = [
            (
                "firing",
                r#"{{ template "pagerduty.default.instances" .Alerts.Firing }}"#,
            ),
            (
                "resolved",
                r#"{{ template "pagerduty.default.instances" .Alerts.Resolved }}"#,
            ),
            ("num_firing", "{{ .Alerts.Firing | len }}"),
            ("num_resolved", "{{ .Alerts.Resolved | len }}"),
        ]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect();
        if let Some(node) = self.fields.take("details") {
            details.extend(node.read_pairs(self.issues));
        }
        details
    }

    fn wechat(&mut self, global: &Global) -> WeChat {
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

    fn dingtalk(&mut self, global: &Global) -> DingTalk {
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

/// The texts among `names` that are there and not empty.
fn texts(fields: &mut Fields<'_>, names: &[&str], issues: &mut Issues) -> Map<String, Json> {
    let mut map = Map::new();
    for name in names {
        if let Some(text) = fields.text(name, issues).filter(|text| !text.is_empty()) {
            map.insert((*name).to_owned(), Json::String(text));
        }
    }
    map
}

/// `x-prio` as `X-Prio`.
fn title_case(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut chars = word.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase());
        first
            .into_iter()
            .chain(chars.map(|c| c.to_ascii_lowercase()))
            .collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

fn payload(node: &Node) -> Payload {
    match &node.value {
        Yaml::Null => Payload::Plain(Json::Null),
        Yaml::Scalar { text, plain } => {
            let value = serde_json::from_str(text)
                .ok()
                .filter(|value: &Json| *plain && !value.is_string());
            value.map_or_else(|| Payload::Text(text.clone()), Payload::Plain)
        }
        Yaml::List(items) => Payload::List(items.iter().map(|item| payload(item)).collect()),
        Yaml::Map(entries) => {
            let pairs = entries
                .iter()
                .map(|(key, value)| (key.text().unwrap_or_default().to_owned(), payload(value)));
            Payload::Map(pairs.collect())
        }
    }
}
