//! Valid and invalid configurations. The integration tests compare `verdicts.txt` with a real amtool.

use common::model::Labels;

use super::*;
use crate::notify::message::{Message, Notification};
use crate::notify::receiver::Credentials;
use crate::notify::render::render;

const BASE: &str = "route: {receiver: r}\nreceivers:\n- name: r\n";

fn issues_of(text: &str) -> Vec<String> {
    match Config::parse(text, Path::new(".")) {
        Ok(_) => Vec::new(),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

#[track_caller]
fn check(text: &str, want: &[&str]) {
    assert_eq!(issues_of(text), want, "{text}");
}

#[test]
fn issues_have_positions() {
    check(BASE, &[]);
    check("", &["1:1: no route provided in config"]);
    check(
        "route: {}\n",
        &["1:8: root route must specify a default receiver"],
    );
    check(
        "route: {receiver: x}\n",
        &["1:19: undefined receiver \"x\" used in route"],
    );
    check(
        "route: {receiver: r, matchers: [a=b]}\nreceivers: [{name: r}]",
        &["1:8: root route must not have any matchers"],
    );
    check(
        &format!("{BASE}- name: r\n"),
        &["4:3: notification config name \"r\" is not unique"],
    );
    check(
        &format!("{BASE}nope: 1\n"),
        &["4:1: field nope not found in type config.plain"],
    );
    check(
        "route: {receiver: r, routes: [{mute_time_intervals: [x]}]}\nreceivers: [{name: r}]",
        &["1:53: undefined time interval \"x\" used in route"],
    );
    check(
        "route: {receiver: r, group_by: ['...', a]}\nreceivers: [{name: r}]",
        &["1:32: cannot have wildcard group_by (`...`) and other labels at the same time"],
    );
    check(
        "route: {receiver: r, group_interval: 0s}\nreceivers: [{name: r}]",
        &["1:8: group_interval cannot be zero"],
    );
}

#[test]
fn unsupported_receivers_are_refused_by_name() {
    let issues = issues_of(&format!("{BASE}  opsgenie_configs: [{{api_key: x}}]\n"));
    assert_eq!(issues.len(), 1);
    assert!(
        issues[0].starts_with("4:21: receiver \"r\": opsgenie_configs is not supported"),
        "{issues:?}"
    );
    let issues = issues_of(&format!("{BASE}  fax_configs: []\n"));
    assert_eq!(
        issues,
        ["4:3: field fax_configs not found in type config.Receiver"]
    );
}

#[test]
fn receivers_say_what_they_lack() {
    let one = |config: &str| issues_of(&format!("{BASE}  {config}\n"));
    assert_eq!(
        one("webhook_configs: [{}]"),
        ["4:21: one of url or url_file must be configured"]
    );
    assert_eq!(
        one("webhook_configs: [{url: 'ftp://x'}]"),
        ["4:21: unsupported scheme of URL, want http or https"]
    );
    assert_eq!(
        one("slack_configs: [{channel: x}]"),
        ["4:19: no global Slack API URL set either inline or in a file"]
    );
    assert_eq!(
        one("email_configs: [{to: x}]"),
        [
            "4:19: no global SMTP smarthost set",
            "4:19: no global SMTP from set"
        ]
    );
    assert_eq!(
        one("pagerduty_configs: [{}]"),
        ["4:23: missing service or routing key in PagerDuty config"]
    );
    assert_eq!(
        one("wechat_configs: [{corp_id: x}]"),
        ["4:20: no global Wechat ApiSecret set"]
    );
    assert_eq!(
        one("webhook_configs: [{url: 'http://x', http_config: {oauth2: {}}}]"),
        ["4:61: oauth2 is not supported"]
    );
}

#[test]
fn shown_configuration_has_no_secrets_and_loads_again() {
    let text = "
global: {smtp_auth_password: hush, smtp_smarthost: 'm:25', smtp_from: f}
route: {receiver: r, routes: [{matchers: ['a=~\"x|y\"'], receiver: r}]}
receivers:
- name: r
  webhook_configs: [{url: 'http://hush', http_config: {basic_auth: {username: u, password: hush}}}]
  email_configs: [{to: 'a@b', headers: {Subject: '{{ .Status }}'}}]
";
    let config = Config::parse(text, Path::new(".")).unwrap();
    assert!(!config.original.contains("hush"), "{}", config.original);
    assert!(!format!("{config:?}").contains("hush"));
    let again = Config::parse(&config.original, Path::new(".")).unwrap();
    assert_eq!(again.original, config.original);
}

fn notification() -> Notification {
    Notification {
        receiver: "r".to_owned(),
        group_key: String::new(),
        group_labels: Labels::empty(),
        alerts: Vec::new(),
        reason: crate::notify::log::Reason::First,
        route_labels: Labels::empty(),
        now_ms: 0,
        external_url: String::new(),
    }
}

/// Returns the URLs, passwords and CAs of the rendered messages.
fn contents(config: &Config) -> Vec<String> {
    let integrations = &config.receivers["r"].integrations;
    integrations
        .iter()
        .map(
            |integration| match render(config, integration, &notification()).unwrap() {
                Message::Http(message) => {
                    let secrets = match &message.http.credentials {
                        Credentials::None => String::new(),
                        Credentials::Basic { password, .. } => password.expose().clone(),
                        Credentials::Token { token, .. } => token.expose().clone(),
                    };
                    let body = String::from_utf8_lossy(&message.body);
                    let has_key = body.contains("https://key");
                    format!(
                        "{} {secrets} {:?} {has_key}",
                        message.url.expose(),
                        message.http.tls.ca_pem
                    )
                }
                Message::Mail(mail) => {
                    let server = &mail.server;
                    format!(
                        "{} {} {:?}",
                        server.password.expose(),
                        server.secret.expose(),
                        server.tls.ca_pem
                    )
                }
            },
        )
        .collect()
}

#[test]
fn secret_files_are_relative_to_the_configuration_and_read_at_each_use() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["smtp", "cram", "slack", "ca", "password", "key", "url"];
    for name in names {
        std::fs::write(dir.path().join(name), format!("https://{name}\n")).unwrap();
    }
    std::fs::write(
        dir.path().join("own.tmpl"),
        "{{ define \"own\" }}x{{ end }}",
    )
    .unwrap();
    let text = "
global:
  smtp_auth_password_file: smtp
  smtp_auth_secret_file: cram
  slack_api_url_file: slack
  smtp_tls_config: {ca_file: ca}
  http_config: {basic_auth: {username: u, password_file: password}}
templates: ['*.tmpl']
route: {receiver: r}
receivers:
- name: r
  slack_configs: [{}]
  email_configs: [{to: a@b, from: c@d, smarthost: 'e:25'}]
  pagerduty_configs: [{routing_key_file: key, http_config: {authorization: {credentials_file: key}, tls_config: {ca_file: ca}}}]
  webhook_configs: [{url_file: url}]
";
    let notification = notification();
    let config = Config::parse(text, dir.path()).unwrap();
    let want = [
        "https://url https://password None false",
        "https://smtp https://cram Some(\"https://ca\")",
        "https://slack https://password None false",
        "https://events.pagerduty.com/v2/enqueue https://key Some(\"https://ca\") true",
    ];
    assert_eq!(contents(&config), want);
    // A rotated file is read at the next use, without a reload.
    for name in names {
        std::fs::write(dir.path().join(name), format!("https://{name}2")).unwrap();
    }
    let rotated = ["url", "password", "smtp", "cram", "ca", "slack", "key"];
    let want = want.map(|text| {
        rotated.iter().fold(text.to_owned(), |text, name| {
            text.replace(&format!("//{name}"), &format!("//{name}2"))
        })
    });
    assert_eq!(contents(&config), want);
    // A missing file is reported at each use, and the message names it.
    let config = Config::parse(text, Path::new("/nowhere")).unwrap();
    let integration = &config.receivers["r"].integrations[0];
    let error = render(&config, integration, &notification).unwrap_err();
    assert!(error.is_retryable());
    let text = common::report::chain(&error);
    assert!(
        text.starts_with("load secret: read /nowhere/url: "),
        "{text}"
    );
}

/// Each line of `verdicts.txt` has a verdict, a tab, and a configuration. The verdict is amtool's, or `unsupported` for
/// settings that Alertmanager supports and this program refuses.
#[test]
fn verdicts_are_amtools() {
    let mut wrong = Vec::new();
    for line in include_str!("verdicts.txt").lines() {
        let (verdict, text) = line.split_once('\t').unwrap();
        let text = text.replace("\\n", "\n");
        let got = Config::parse(&text, Path::new("/nonexistent"));
        if got.is_ok() != (verdict == "good") {
            wrong.push(format!("{verdict}: {line}: {:?}", got.err()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
