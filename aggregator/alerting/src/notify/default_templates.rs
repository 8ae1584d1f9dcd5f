//! The default templates under Alertmanager's names. Users' templates refer to these names, including those of
//! unsupported receivers. Tests compare their output with a real Alertmanager.

use crate::template::{Set, notification};

/// A one-line summary of the notification.
const SUBJECT: &str = "{{ template \"__subject\" . }}";
/// A link to the alerts.
const LINK: &str = "{{ template \"__alertmanagerURL\" . }}";
/// The name of the sender.
const PRODUCT: &str = "{{ template \"__alertmanager\" . }}";
/// The alerts as text.
const SPACED: &str = "\n{{ template \"__spaced_alerts\" . }}";
/// The alerts as Markdown.
const MARKDOWN: &str = "{{ template \"__markdown_alerts\" . }}";

/// Names of templates that are empty unless users define them.
const EMPTY: &[&str] = &[
    "mattermost.default.authorname",
    "mattermost.default.footer",
    "mattermost.default.iconemoji",
    "mattermost.default.iconurl",
    "mattermost.default.pretext",
    "rocketchat.default.emoji",
    "rocketchat.default.iconurl",
    "rocketchat.default.text",
];

/// Names and texts of the default templates.
const TEMPLATES: &[(&str, &str)] = &[
    ("__alertmanager", "Alertmanager"),
    (
        "__alertmanagerURL",
        "{{ .ExternalURL }}/#/alerts?receiver={{ .Receiver | urlquery }}",
    ),
    (
        "__subject",
        "[{{ .Status | toUpper }}{{ if eq .Status \"firing\" }}:{{ len .Alerts.Firing }}{{ end }}] \
         {{ join \" \" .GroupLabels.SortedPairs.Values }} \
         {{ if gt (len .CommonLabels) (len .GroupLabels) }}(\
         {{ with .CommonLabels.Remove .GroupLabels.Names }}{{ join \" \" .Values }}{{ end }}\
         ){{ end }}",
    ),
    ("__description", ""),
    (
        "__text_alert_list",
        "{{ range . }}Labels:\n{{ range .Labels.SortedPairs }} - {{ .Name }} = {{ .Value }}\n{{ end }}\
         Annotations:\n{{ range .Annotations.SortedPairs }} - {{ .Name }} = {{ .Value }}\n{{ end }}\
         Source: {{ .GeneratorURL }}\n{{ end }}",
    ),
    (
        "__text_alert_list_markdown",
        "{{ range . }}\nLabels:\n{{ range .Labels.SortedPairs }}  - {{ .Name }} = {{ .Value }}\n{{ end }}\n\
         Annotations:\n{{ range .Annotations.SortedPairs }}  - {{ .Name }} = {{ .Value }}\n{{ end }}\n\
         Source: {{ .GeneratorURL }}\n\n{{ end }}",
    ),
    // The alerts of a message: as text in two forms, and as Markdown.
    (
        "__compact_alerts",
        "{{ if gt (len .Alerts.Firing) 0 }}Alerts Firing:\n{{ template \"__text_alert_list\" .Alerts.Firing }}{{ end }}\n\
         {{ if gt (len .Alerts.Resolved) 0 }}Alerts Resolved:\n\
         {{ template \"__text_alert_list\" .Alerts.Resolved }}{{ end }}",
    ),
    (
        "__spaced_alerts",
        "{{ if gt (len .Alerts.Firing) 0 }}\nAlerts Firing:\n\
         {{ template \"__text_alert_list\" .Alerts.Firing }}\n{{ end }}\n\
         {{ if gt (len .Alerts.Resolved) 0 }}\nAlerts Resolved:\n\
         {{ template \"__text_alert_list\" .Alerts.Resolved }}\n{{ end }}\n",
    ),
    (
        "__markdown_alerts",
        "\n{{ if gt (len .Alerts.Firing) 0 }}\n# Alerts Firing:\n\
         {{ template \"__text_alert_list_markdown\" .Alerts.Firing }}\n{{ end }}\n\
         {{ if gt (len .Alerts.Resolved) 0 }}\n# Alerts Resolved:\n\
         {{ template \"__text_alert_list_markdown\" .Alerts.Resolved }}\n{{ end }}\n",
    ),
    (
        "__annotations_line",
        "{{ .CommonAnnotations.SortedPairs.Values | join \" \" }}\n",
    ),
    (
        "__markdown_alert_list",
        "{{ range . }}\n- **{{ .Labels.alertname }}**\
         {{ range (.Labels.Remove (stringSlice \"alertname\")).SortedPairs }} {{ .Name }}={{ .Value }}{{ end }}\
         {{ range .Annotations.SortedPairs }}\n  - {{ .Name }}: {{ .Value }}{{ end }}{{ end }}",
    ),
    ("slack.default.title", "{{ template \"__subject\" . }}"),
    (
        "slack.default.username",
        "{{ template \"__alertmanager\" . }}",
    ),
    (
        "slack.default.fallback",
        "{{ template \"slack.default.title\" . }} | {{ template \"slack.default.titlelink\" . }}",
    ),
    ("slack.default.callbackid", ""),
    ("slack.default.pretext", ""),
    (
        "slack.default.titlelink",
        "{{ template \"__alertmanagerURL\" . }}",
    ),
    ("slack.default.iconemoji", ""),
    ("slack.default.iconurl", ""),
    ("slack.default.text", ""),
    ("slack.default.footer", ""),
    (
        "slack.default.color",
        "{{ if eq .Status \"firing\" }}danger{{ else }}good{{ end }}",
    ),
    (
        "pagerduty.default.description",
        "{{ template \"__subject\" . }}",
    ),
    (
        "pagerduty.default.client",
        "{{ template \"__alertmanager\" . }}",
    ),
    (
        "pagerduty.default.clientURL",
        "{{ template \"__alertmanagerURL\" . }}",
    ),
    (
        "pagerduty.default.instances",
        "{{ template \"__text_alert_list\" . }}",
    ),
    (
        "wechat.default.message",
        "{{ template \"__subject\" . }}\n{{ template \"__annotations_line\" . }}\
         {{ template \"__compact_alerts\" . }}\nAlertmanagerUrl:\n{{ template \"__alertmanagerURL\" . }}",
    ),
    ("wechat.default.to_user", ""),
    ("wechat.default.to_party", ""),
    ("wechat.default.to_tag", ""),
    ("wechat.default.agent_id", ""),
    (
        "dingtalk.default.text",
        "### [{{ template \"__subject\" . }}]({{ template \"__alertmanagerURL\" . }})\n\
         {{ if .Alerts.Firing }}**Firing**\n{{ template \"__markdown_alert_list\" .Alerts.Firing }}\n{{ end }}\
         {{ if .Alerts.Resolved }}**Resolved**\n{{ template \"__markdown_alert_list\" .Alerts.Resolved }}\n{{ end }}",
    ),
    ("email.default.subject", SUBJECT),
    ("discord.default.title", SUBJECT),
    ("discord.default.message", SPACED),
    ("jira.default.description", MARKDOWN),
    ("jira.default.priority", ""),
    ("jira.default.summary", SUBJECT),
    (
        "mattermost.default.color",
        "{{ template \"slack.default.color\" . }}",
    ),
    (
        "mattermost.default.fallback",
        "{{ template \"slack.default.fallback\" . }}",
    ),
    ("mattermost.default.text", MARKDOWN),
    ("mattermost.default.title", SUBJECT),
    ("mattermost.default.titlelink", LINK),
    ("mattermost.default.username", PRODUCT),
    ("msteams.default.summary", SUBJECT),
    ("msteams.default.text", MARKDOWN),
    ("msteams.default.title", SUBJECT),
    ("msteamsv2.default.text", MARKDOWN),
    ("msteamsv2.default.title", SUBJECT),
    (
        "opsgenie.default.description",
        "{{ template \"__annotations_line\" . }}{{ template \"__compact_alerts\" . }}",
    ),
    ("opsgenie.default.message", SUBJECT),
    ("opsgenie.default.source", LINK),
    (
        "pushover.default.message",
        "{{ template \"__annotations_line\" . }}{{ template \"__spaced_alerts\" . }}",
    ),
    ("pushover.default.title", SUBJECT),
    ("pushover.default.url", LINK),
    ("rocketchat.default.alias", PRODUCT),
    ("rocketchat.default.title", SUBJECT),
    ("rocketchat.default.titlelink", LINK),
    (
        "sns.default.message",
        "{{ template \"__annotations_line\" . }}{{ template \"__spaced_alerts\" . }}",
    ),
    ("sns.default.subject", SUBJECT),
    ("telegram.default.message", SPACED),
    ("victorops.default.entity_display_name", SUBJECT),
    ("victorops.default.monitoring_tool", PRODUCT),
    (
        "victorops.default.state_message",
        "{{ template \"opsgenie.default.description\" . }}",
    ),
    (
        "webex.default.message",
        "{{ template \"__annotations_line\" . }}{{ template \"__spaced_alerts\" . }}",
    ),
    (
        "__email_alert_list",
        "{{ range . }}<li style=\"margin-bottom:1em\"><strong>{{ .Labels.alertname }}</strong>\n<table>\n\
         {{ range .Labels.SortedPairs }}<tr><td>{{ .Name }}</td><td>{{ .Value }}</td></tr>\n{{ end }}\
         {{ range .Annotations.SortedPairs }}<tr><td><em>{{ .Name }}</em></td><td>{{ .Value }}</td></tr>\n{{ end }}\
         </table>\n{{ if .GeneratorURL }}<a href=\"{{ .GeneratorURL }}\">Source</a>{{ end }}</li>\n{{ end }}",
    ),
    (
        "email.default.html",
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>{{ template \"__subject\" . }}</title></head>\n\
         <body style=\"font-family:sans-serif\">\n\
         <h2 style=\"color:{{ if eq .Status \"firing\" }}#c00{{ else }}#080{{ end }}\">\
         {{ template \"__subject\" . }}</h2>\n\
         <p><a href=\"{{ template \"__alertmanagerURL\" . }}\">View</a></p>\n\
         {{ if .Alerts.Firing }}<h3>[{{ len .Alerts.Firing }}] Firing</h3>\n<ul>\n\
         {{ template \"__email_alert_list\" .Alerts.Firing }}</ul>\n{{ end }}\
         {{ if .Alerts.Resolved }}<h3>[{{ len .Alerts.Resolved }}] Resolved</h3>\n<ul>\n\
         {{ template \"__email_alert_list\" .Alerts.Resolved }}</ul>\n{{ end }}\
         </body></html>\n",
    ),
];

/// Returns the set of all default templates.
pub(super) fn set() -> Set {
    let mut set = Set::default();
    let empty = EMPTY.iter().map(|name| (*name, ""));
    for (name, text) in TEMPLATES.iter().copied().chain(empty) {
        let added = set.add(name, text, notification::lookup);
        debug_assert!(added.is_ok(), "default template {name}: {added:?}");
    }
    set
}
