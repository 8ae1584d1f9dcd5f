//! What receivers are sent on the wire: the request of the real Alertmanager and ours, for the same alerts and the same
//! configuration, must be the same. What it does not have, or can't be pointed here, is held against its documentation.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::alertmanager::{Side, ours, theirs};
use super::{assert_alike, peer};
use crate::alerting::Received;
use crate::harness::{eventually, now_ms};
use crate::http;

/// Name of the receiver and its integration; `HOST` is the recorder's address.
const RECEIVERS: &[(&str, &str)] = &[
    (
        "slack",
        "slack_configs: [{api_url: 'http://HOST/slack', channel: '#a', send_resolved: true}]",
    ),
    (
        "slack-full",
        "slack_configs: [{api_url: 'http://HOST/slack-full', channel: '#{{ .CommonLabels.team }}', username: me, title: 'T {{ .Status }}', \
         title_link: 'http://x/{{ .GroupLabels.alertname }}', pretext: p, text: '{{ range .Alerts }}{{ .Annotations.s }};{{ end }}', fallback: f, \
         icon_emoji: ':a:', icon_url: 'http://i/', image_url: 'http://m/', thumb_url: 'http://t/', footer: foot, callback_id: c, color: '#fff', \
         short_fields: true, link_names: true, mrkdwn_in: [text], fields: [{title: a, value: '{{ .CommonLabels.team }}'}, {title: b, value: c, short: false}], \
         actions: [{type: button, text: 'go {{ .Status }}', url: 'http://g/', style: danger, name: n, value: v, confirm: {text: sure, title: t, ok_text: y, dismiss_text: n}}]}]",
    ),
    (
        "slack-defaults",
        "slack_configs: [{api_url: 'http://HOST/slack-defaults', text: '[{{ template \"__alertmanager\" . }}] \
         [{{ template \"__alertmanagerURL\" . }}] \
         [{{ template \"__subject\" . }}] \
         [{{ template \"__description\" . }}] \
         [{{ template \"slack.default.title\" . }}] \
         [{{ template \"slack.default.username\" . }}] \
         [{{ template \"slack.default.fallback\" . }}] \
         [{{ template \"slack.default.callbackid\" . }}] \
         [{{ template \"slack.default.color\" . }}] \
         [{{ template \"slack.default.pretext\" . }}] \
         [{{ template \"slack.default.titlelink\" . }}] \
         [{{ template \"slack.default.iconemoji\" . }}] \
         [{{ template \"slack.default.iconurl\" . }}] \
         [{{ template \"slack.default.text\" . }}] \
         [{{ template \"slack.default.footer\" . }}] \
         [{{ template \"mattermost.default.title\" . }}] \
         [{{ template \"mattermost.default.username\" . }}] \
         [{{ template \"mattermost.default.fallback\" . }}] \
         [{{ template \"mattermost.default.pretext\" . }}] \
         [{{ template \"mattermost.default.titlelink\" . }}] \
         [{{ template \"mattermost.default.text\" . }}] \
         [{{ template \"mattermost.default.footer\" . }}] \
         [{{ template \"mattermost.default.color\" . }}] \
         [{{ template \"mattermost.default.iconurl\" . }}] \
         [{{ template \"mattermost.default.iconemoji\" . }}] \
         [{{ template \"rocketchat.default.title\" . }}] \
         [{{ template \"rocketchat.default.alias\" . }}] \
         [{{ template \"rocketchat.default.titlelink\" . }}] \
         [{{ template \"rocketchat.default.emoji\" . }}] \
         [{{ template \"rocketchat.default.iconurl\" . }}] \
         [{{ template \"rocketchat.default.text\" . }}] \
         [{{ template \"pagerduty.default.description\" . }}] \
         [{{ template \"pagerduty.default.client\" . }}] \
         [{{ template \"pagerduty.default.clientURL\" . }}] \
         [{{ template \"opsgenie.default.message\" . }}] \
         [{{ template \"opsgenie.default.description\" . }}] \
         [{{ template \"opsgenie.default.source\" . }}] \
         [{{ template \"wechat.default.message\" . }}] \
         [{{ template \"wechat.default.to_user\" . }}] \
         [{{ template \"wechat.default.to_party\" . }}] \
         [{{ template \"wechat.default.to_tag\" . }}] \
         [{{ template \"wechat.default.agent_id\" . }}] \
         [{{ template \"victorops.default.state_message\" . }}] \
         [{{ template \"victorops.default.entity_display_name\" . }}] \
         [{{ template \"victorops.default.monitoring_tool\" . }}] \
         [{{ template \"pushover.default.title\" . }}] \
         [{{ template \"pushover.default.message\" . }}] \
         [{{ template \"pushover.default.url\" . }}] \
         [{{ template \"sns.default.subject\" . }}] \
         [{{ template \"sns.default.message\" . }}] \
         [{{ template \"telegram.default.message\" . }}] \
         [{{ template \"discord.default.title\" . }}] \
         [{{ template \"discord.default.message\" . }}] \
         [{{ template \"webex.default.message\" . }}] \
         [{{ template \"msteams.default.summary\" . }}] \
         [{{ template \"msteams.default.title\" . }}] \
         [{{ template \"msteams.default.text\" . }}] \
         [{{ template \"msteamsv2.default.title\" . }}] \
         [{{ template \"msteamsv2.default.text\" . }}] \
         [{{ template \"jira.default.summary\" . }}] \
         [{{ template \"jira.default.description\" . }}] \
         [{{ template \"jira.default.priority\" . }}] \
         [{{ template \"email.default.subject\" . }}] \
         [{{ template \"__text_alert_list\" .Alerts }}] [{{ template \"__text_alert_list_markdown\" .Alerts }}] \
         [{{ template \"pagerduty.default.instances\" .Alerts }}]'}]",
    ),
    (
        "slack-values",
        "slack_configs: [{api_url: 'http://HOST/slack-values', text: '{{ .CommonLabels }} {{ .GroupLabels.SortedPairs }} \
         {{ printf \"%v %s %q %d\" .CommonLabels .CommonLabels .CommonLabels .CommonLabels }} {{ index .CommonLabels.SortedPairs 0 }} \
         {{ .CommonLabels.String }} {{ .CommonLabels.Names }} {{ .CommonLabels | js }} {{ (index .Alerts 0).StartsAt.Format \".000 ,000 x.999\" }}', \
         title: '{{ \"CRITICAL foo bar-baz x_y 1st 3RD ß ǆ a.b HELLO-WORLD mcDonald\" | title }}'}]",
    ),
    (
        "slack-broken-text",
        "slack_configs: [{api_url: 'http://HOST/slack-broken-text', channel: c, text: 'is {{ .Status }} {{ .Nope }} after', footer: f, \
         fields: [{title: t, value: v}], actions: [{type: button, text: a, url: u}]}]",
    ),
    (
        "slack-broken-title",
        "slack_configs: [{api_url: 'http://HOST/slack-broken-title', title: 'x{{ template \"nope\" . }}', text: t}]",
    ),
    (
        "slack-no-function",
        "slack_configs: [{api_url: 'http://HOST/slack-no-function', text: 'x{{ nofunc }}', title: t}]",
    ),
    (
        "pagerduty",
        "pagerduty_configs: [{url: 'http://HOST/pagerduty/enqueue', routing_key: key}]",
    ),
    (
        "pagerduty-full",
        "pagerduty_configs: [{url: 'http://HOST/pagerduty-full/enqueue', routing_key: key, client: c, client_url: 'http://c/', description: 'd {{ .Status }}', \
         severity: '{{ .CommonLabels.sev }}', source: s, class: k, component: o, group: g, details: {a: '{{ .CommonLabels.team }}', num_firing: none}, \
         images: [{src: 'http://i/', alt: a, href: 'http://h/'}], links: [{href: 'http://l/{{ .Status }}', text: t}]}]",
    ),
    (
        "wechat",
        "wechat_configs: [{api_url: 'http://HOST/wechat/', corp_id: corp, api_secret: hush, agent_id: '7', to_user: u, send_resolved: true}]",
    ),
    (
        "wechat-full",
        "wechat_configs: [{api_url: 'http://HOST/wechat-full/', corp_id: corp2, api_secret: hush2, agent_id: '8', to_user: '{{ .CommonLabels.team }}', to_party: p, to_tag: t, \
         message: '{{ range .Alerts }}{{ .Labels.n }}{{ end }}', message_type: markdown}]",
    ),
    (
        "payload",
        "webhook_configs: [{url: 'http://HOST/payload', payload: {count: '{{ len .Alerts }}', alerts: '{{ .Alerts | toJson }}', text: 'is {{ .Status }}', \
         list: [1, '{{ .Status }}', true, null], map: {'{{ .Status }}': x}, quoted: '5', empty: [], half: 0.5}}]",
    ),
];

fn config(host: &str, receivers: &[(&str, &str)]) -> String {
    let mut routes = String::new();
    let mut list = String::from("- name: root\n");
    for (name, integration) in receivers {
        routes.push_str(&format!(
            "  - {{receiver: {name}, continue: true, matchers: [alertname=A]}}\n"
        ));
        let integration = integration.replace("HOST", host);
        list.push_str(&format!("- name: {name}\n  {integration}\n"));
    }
    format!(
        "route:\n  receiver: root\n  group_by: [alertname]\n  group_wait: 1s\n  group_interval: 1s\n  repeat_interval: 1h\n  routes:\n{routes}receivers:\n{list}"
    )
}

/// Two alerts of one group, each with its start and, when it is over, its end.
fn post(side: &Side, starts_at_ms: i64, ends_at_ms: Option<i64>) {
    let time = tidemark_alerting::notify::message::format_time;
    let alert = |n: &str| {
        let mut alert = json!({
            "labels": {"alertname": "A", "team": "blue", "sev": "critical", "n": n},
            "annotations": {"c": "common", "s": format!("it is <{n}> & \"more\"")},
            "startsAt": time(starts_at_ms),
            "generatorURL": format!("http://g/{n}"),
        });
        if let Some(end) = ends_at_ms {
            alert["endsAt"] = Value::from(time(end));
        }
        alert
    };
    let body = json!([alert("first"), alert("second")]).to_string();
    let headers = [("content-type", "application/json")];
    let path = "/api/v2/alerts";
    let answer = http::request(&side.address, "POST", path, &headers, body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// What of a request a service looks at; the recorder's own address and that of the sender differ.
fn shown(request: &Received, side: &Side) -> Value {
    let mut headers: BTreeMap<&str, &str> = BTreeMap::new();
    for name in ["content-type", "authorization"] {
        if let Some(value) = request.headers.get(name) {
            headers.insert(name, value);
        }
    }
    // Both call themselves by a URL with the host's name and the port they listen on.
    let port = side.address.rsplit_once(':').unwrap().1;
    let mut body = request.body.clone();
    replace_url(&mut body, port);
    json!({"method": request.method, "path": request.path, "headers": headers, "body": body})
}

fn replace_url(value: &mut Value, port: &str) {
    match value {
        Value::String(text) => {
            while let Some(end) = text.find(&format!(":{port}")) {
                let start = text.split_at(end).0.rfind("http://").unwrap();
                text.replace_range(start..end + port.len() + 1, "OUR-URL");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace_url(item, port)),
        Value::Object(fields) => fields.values_mut().for_each(|item| replace_url(item, port)),
        _ => {}
    }
}

/// The paths that the receivers' requests go to, and how many they are in a round of firing and one of ends.
const PATHS: &[(&str, usize)] = &[
    ("/slack", 2),
    ("/slack-full", 1),
    ("/pagerduty/enqueue", 2),
    ("/pagerduty-full/enqueue", 2),
    ("/wechat/gettoken?corpid=corp&corpsecret=hush", 1),
    ("/wechat/message/send?access_token=a-token", 2),
    ("/wechat-full/gettoken?corpid=corp2&corpsecret=hush2", 1),
    ("/wechat-full/message/send?access_token=a-token", 1),
    ("/payload", 2),
];

#[test]
fn services_are_sent_what_alertmanager_sends() {
    let Some(program) = peer("ALERTMANAGER") else {
        return;
    };
    let config = |host: &str| config(host, RECEIVERS);
    let sides = [ours(&config), theirs(program, &config)];
    let starts_at_ms = now_ms();
    for side in &sides {
        post(side, starts_at_ms, None);
    }
    let all = |path: &str, count: usize| {
        for side in &sides {
            eventually(&format!("{count} requests to {path}"), || {
                (side.webhook.requests(path).len() >= count).then_some(())
            });
        }
    };
    PATHS.iter().for_each(|(path, _)| all(path, 1));
    let ends_at_ms = now_ms();
    for side in &sides {
        post(side, starts_at_ms, Some(ends_at_ms));
    }
    PATHS.iter().for_each(|(path, count)| all(path, *count));
    assert_alike(PATHS.iter().map(|(path, count)| {
        let [got, want] = [&sides[0], &sides[1]].map(|side| {
            let requests = side.webhook.requests(path);
            let shown = requests.iter().map(|request| shown(request, side));
            shown.collect::<Vec<Value>>()
        });
        assert_eq!((got.len(), want.len()), (*count, *count), "{path}");
        ((*path).to_owned(), got, want)
    }));
}

/// DingTalk's robots, which Alertmanager does not know, and PagerDuty's first API, which it reaches at one address only.
#[test]
fn services_beyond_alertmanager_are_sent_what_they_document() {
    let receivers = [
        (
            "dingtalk",
            "dingtalk_configs: [{url: 'http://HOST/robot/send?access_token=robot', secret: SECabc, title: 'T {{ .Status }}', \
             text: '{{ len .Alerts }} of {{ .CommonLabels.team }}', at_mobiles: ['139'], message_type: markdown}]",
        ),
        (
            "dingtalk-plain",
            "dingtalk_configs: [{url: 'http://HOST/plain/send?access_token=robot2', text: 'hello', at_all: true, message_type: text}]",
        ),
        (
            "pagerduty-v1",
            "pagerduty_configs: [{url: 'http://HOST/v1/create_event.json', service_key: key, client: c, client_url: 'http://c/', description: 'd {{ .Status }}', details: {a: b}}]",
        ),
    ];
    let side = ours(&|host| config(host, &receivers));
    let starts_at_ms = now_ms();
    post(&side, starts_at_ms, None);
    let plain = "/plain/send?access_token=robot2";
    let request = eventually("message", || {
        side.webhook.requests(plain).into_iter().next()
    });
    let text = json!({"msgtype": "text", "text": {"content": "hello"}, "at": {"atMobiles": [], "isAtAll": true}});
    assert_eq!((request.method.as_str(), &request.body), ("POST", &text));
    assert_eq!(request.headers["content-type"], "application/json");
    let signed = eventually("signed message", || {
        side.webhook
            .find("/robot/send?access_token=robot&timestamp=")
    });
    let markdown = json!({
        "msgtype": "markdown", "markdown": {"title": "T firing", "text": "2 of blue"},
        "at": {"atMobiles": ["139"], "isAtAll": false},
    });
    assert_eq!(signed.body, markdown);
    check_signature(&signed.path);
    let path = "/v1/create_event.json";
    eventually("event", || side.webhook.requests(path).into_iter().next());
    post(&side, starts_at_ms, Some(now_ms()));
    let events = eventually("event of the end", || {
        Some(side.webhook.at(path)).filter(|events| events.len() == 2)
    });
    let details = |firing: u32, resolved: u32| (json!(firing), json!(resolved), json!("b"));
    for (event, (kind, counts)) in events
        .iter()
        .zip([("trigger", details(2, 0)), ("resolve", details(0, 2))])
    {
        assert_eq!(event["service_key"], "key");
        assert_eq!(event["event_type"], kind);
        assert_eq!(event["incident_key"], events[0]["incident_key"]);
        let is_end = kind == "resolve";
        let status = if is_end { "d resolved" } else { "d firing" };
        assert_eq!(event["description"], status);
        // Only the first event names the sender.
        assert_eq!(event.get("client").is_none(), is_end);
        assert_eq!(event.get("client_url").is_none(), is_end);
        let got = &event["details"];
        let got = (
            got["num_firing"].clone(),
            got["num_resolved"].clone(),
            got["a"].clone(),
        );
        assert_eq!(got, counts);
    }
}

/// `sign` is the Base64 of HMAC-SHA256 over time and secret with the secret as its key, encoded for a URL.
fn check_signature(path: &str) {
    use base64::Engine as _;
    let query = path.split_once('?').unwrap().1;
    let fields: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let age_ms = now_ms() - fields["timestamp"].parse::<i64>().unwrap();
    // DingTalk takes what is at most an hour old.
    assert!((0..3_600_000).contains(&age_ms), "{age_ms}");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"SECabc");
    let signature = base64::engine::general_purpose::STANDARD
        .decode(&fields["sign"])
        .unwrap();
    let text = format!("{}\nSECabc", fields["timestamp"]);
    ring::hmac::verify(&key, text.as_bytes(), &signature).unwrap();
}
