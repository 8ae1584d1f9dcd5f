//! The templates that receivers use by default, under the names that users' own templates refer to.

use crate::template::{Set, notification};

/// Names and texts. A text ends without a newline.
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
        "{{ template \"__subject\" . }}\n{{ join \" \" .CommonAnnotations.SortedPairs.Values }}\n\
         {{ if .Alerts.Firing }}Alerts Firing:\n\
         {{ template \"__text_alert_list\" .Alerts.Firing }}{{ end }}\n\
         {{ if .Alerts.Resolved }}Alerts Resolved:\n\
         {{ template \"__text_alert_list\" .Alerts.Resolved }}{{ end }}\n\
         AlertmanagerUrl:\n{{ template \"__alertmanagerURL\" . }}",
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
    ("email.default.subject", "{{ template \"__subject\" . }}"),
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

/// The set of them.
pub(super) fn set() -> Set {
    let mut set = Set::default();
    for (name, text) in TEMPLATES {
        let added = set.add(name, text, notification::lookup);
        debug_assert!(added.is_ok(), "default template {name}: {added:?}");
    }
    set
}
