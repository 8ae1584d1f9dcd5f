//! The kinds of integration. Each kind has one row in the table and one file with its options and message.

mod dingtalk;
mod email;
mod pagerduty;
mod slack;
mod webhook;
mod wechat;

use std::path::Path;

use common::yaml::{Fields, Issues, Node};

use super::Global;
use super::options::OptionsReader;
use crate::notify::message::Message;
use crate::notify::render::{RenderError, Renderer};

pub(in crate::notify) use dingtalk::signed_url;
pub(super) use email::MailServer;
pub(super) use email::has_port;
pub(super) use pagerduty::PAGERDUTY_V2;
pub(in crate::notify) use webhook::Payload;

/// A supported kind of integration.
#[derive(Debug)]
pub struct Kind {
    /// The name of the kind, as in `NAME_configs`.
    pub name: &'static str,
    read: fn(&mut OptionsReader<'_, '_>) -> Integration,
}

/// Declares the kinds. Each row has the variant, which is also the name of the options type, the name and the module.
macro_rules! kinds {
    ($($variant:ident $name:literal $module:ident),* $(,)?) => {
        /// An integration through which to reach a receiver.
        #[derive(Debug, Clone)]
        pub enum Integration {
            $(#[doc = concat!("An entry of `", $name, "_configs`.")]
            $variant(Box<$module::$variant>),)*
        }

        /// The supported kinds.
        pub const KINDS: &[Kind] = &[
            $(Kind {
                name: $name,
                read: |reader| Integration::$variant(Box::new($module::$variant::read(reader))),
            },)*
        ];

        impl Integration {
            /// Returns the name of the kind, as in `NAME_configs`.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            /// Reports whether resolved alerts are sent.
            #[must_use]
            pub const fn send_resolved(&self) -> bool {
                match self {
                    $(Self::$variant(options) => options.send_resolved,)*
                }
            }

            /// Renders the message for a notification.
            pub(in crate::notify) fn render(
                &self,
                renderer: &Renderer<'_>,
            ) -> Result<Message, RenderError> {
                match self {
                    $(Self::$variant(options) => options.render(renderer),)*
                }
            }
        }
    };
}

kinds! {
    Webhook "webhook" webhook,
    Email "email" email,
    Slack "slack" slack,
    PagerDuty "pagerduty" pagerduty,
    WeChat "wechat" wechat,
    DingTalk "dingtalk" dingtalk,
}

impl Integration {
    /// Reports whether the message renders within microseconds, because it needs neither templates nor files.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        match self {
            Self::Webhook(webhook) => webhook.is_quick(),
            Self::Email(_)
            | Self::Slack(_)
            | Self::PagerDuty(_)
            | Self::WeChat(_)
            | Self::DingTalk(_) => false,
        }
    }
}

/// Kinds that Alertmanager supports and this program refuses.
pub(super) const UNSUPPORTED_KINDS: [&str; 14] = [
    "discord",
    "feishu",
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
];

/// Reads one entry of `KIND_configs`, using the global defaults and the folder of the file.
pub(super) fn read(
    kind: &Kind,
    node: &Node,
    (global, folder): (&Global, &Path),
    issues: &mut Issues,
) -> Integration {
    let mut reader = OptionsReader {
        node,
        global,
        folder,
        fields: Fields::new(node, "config", issues),
        issues,
    };
    let integration = (kind.read)(&mut reader);
    reader.fields.finish(reader.issues);
    integration
}

impl Kind {
    /// Returns the names of its options in the order in which they are read.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let Ok(Some(node)) = common::yaml::read_tree("{}") else {
            return Vec::new();
        };
        let global = Global::default();
        let mut issues = Issues::new();
        let mut reader = OptionsReader {
            node: &node,
            global: &global,
            folder: Path::new("."),
            fields: Fields::new(&node, "config", &mut Issues::new()),
            issues: &mut issues,
        };
        (self.read)(&mut reader);
        reader.fields.known().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn docs_list_the_options_of_each_kind() {
        let page = include_str!("../../../../../docs/receivers.md");
        let mut sections = page.split("\n## ").skip(1);
        for kind in KINDS {
            let section = sections.next().unwrap();
            let title = section.lines().next().unwrap();
            assert_eq!(title, format!("{}_configs", kind.name));
            let cells = section
                .lines()
                .filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
            let listed: BTreeSet<&str> = cells
                .flat_map(|cell| cell.split(", "))
                .map(|name| name.trim_matches('`'))
                .collect();
            let options = kind.options();
            let options: BTreeSet<&str> = options.iter().map(String::as_str).collect();
            assert_eq!(listed, options, "{title}");
        }
        assert_eq!(sections.next(), None);
        for name in UNSUPPORTED_KINDS {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }
}
