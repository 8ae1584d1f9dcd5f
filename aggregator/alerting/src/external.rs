//! Configuration and alert queues of external Alertmanagers.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::notify::message::{format_time, object};
use crate::notify::receiver::{HttpConfig, read_http_fields};
use crate::rules::group::AlertToSend;
use common::relabel::{self, RelabelRule};
use common::yaml::{Fields, Issue, Issues, Node};

/// Maximum number of alerts queued for one Alertmanager.
pub const QUEUE_MAX: usize = 10_000;
/// Maximum number of alerts in one request.
pub const BATCH_MAX: usize = 256;

/// The `alerting` section of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Alerting {
    /// The relabelling rules for each alert.
    pub relabel: Vec<RelabelRule>,
    /// The Alertmanagers.
    pub alertmanagers: Vec<Alertmanagers>,
}

/// Alertmanagers with the same client options.
#[derive(Debug, Clone)]
pub struct Alertmanagers {
    /// `http` or `https`
    pub scheme: String,
    /// The path prefix of `/api/v2/alerts`.
    pub path_prefix: String,
    /// The timeout of a request.
    pub timeout: Duration,
    /// The HTTP client options.
    pub http: HttpConfig,
    /// `host:port`
    pub targets: Vec<String>,
    /// DNS names, which may resolve to several addresses.
    pub names: Vec<DnsName>,
    /// The time between two lookups of the names.
    pub refresh: Duration,
    /// The relabelling rules for each alert, applied after those of the section.
    pub relabel: Vec<RelabelRule>,
}

/// A DNS name that is looked up periodically.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsName {
    /// A name with A or AAAA records, and the port.
    Host(String, u16),
    /// A name with SRV records.
    Service(String),
}

impl Alertmanagers {
    /// Returns the URL for alerts at `address`.
    #[must_use]
    pub fn url(&self, address: &str) -> String {
        let prefix = self.path_prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("{}://{address}{slash}{prefix}/api/v2/alerts", self.scheme)
    }
}

/// Reads the `alerting` section. Files are relative to `folder`.
pub fn read(node: &Node, folder: &Path, issues: &mut Issues) -> Alerting {
    let mut fields = Fields::new(node, "config.AlertingConfig", issues);
    let relabel = fields
        .take("alert_relabel_configs")
        .map_or_else(Vec::new, |node| relabel::read(node, issues));
    let items = fields.take("alertmanagers").map_or(&[][..], |node| {
        node.read_list("[]*config.AlertmanagerConfig", issues)
    });
    let alertmanagers = items
        .iter()
        .map(|item| read_alertmanagers(item, folder, issues))
        .collect();
    fields.finish(issues);
    Alerting {
        relabel,
        alertmanagers,
    }
}

fn read_alertmanagers(node: &Node, folder: &Path, issues: &mut Issues) -> Alertmanagers {
    let mut fields = Fields::new(node, "config.AlertmanagerConfig", issues);
    let scheme = fields
        .text("scheme", issues)
        .unwrap_or_else(|| "http".to_owned());
    if !matches!(scheme.as_str(), "http" | "https") {
        issues.push(Issue::new(
            node.position,
            format!("unknown scheme {scheme:?}, want http or https"),
        ));
    }
    if let Some(version) = fields.take("api_version") {
        let text = version.read_text(issues);
        if text != "v2" {
            issues.push(Issue::new(
                version.position,
                format!("expected Alertmanager api version to be v2 but got {text}"),
            ));
        }
    }
    let mut targets = Vec::new();
    for item in fields.take("static_configs").map_or(&[][..], |node| {
        node.read_list("[]*targetgroup.Group", issues)
    }) {
        let mut group = Fields::new(item, "targetgroup.Group", issues);
        targets.extend(
            group
                .take("targets")
                .map_or_else(Vec::new, |node| node.read_texts(issues)),
        );
        group.take("labels");
        group.finish(issues);
    }
    let mut names = Vec::new();
    let mut refresh = Duration::from_secs(30);
    for item in fields
        .take("dns_sd_configs")
        .map_or(&[][..], |node| node.read_list("[]*dns.SDConfig", issues))
    {
        refresh = read_dns(item, &mut names, issues).unwrap_or(refresh);
    }
    let relabel = fields
        .take("alert_relabel_configs")
        .map_or_else(Vec::new, |node| relabel::read(node, issues));
    let section = Alertmanagers {
        scheme,
        path_prefix: fields.text("path_prefix", issues).unwrap_or_default(),
        timeout: fields
            .duration("timeout", issues)
            .unwrap_or(Duration::from_secs(10)),
        http: read_http_fields(&mut fields, folder, issues),
        targets,
        names,
        refresh,
        relabel,
    };
    fields.finish(issues);
    section
}

fn read_dns(node: &Node, names: &mut Vec<DnsName>, issues: &mut Issues) -> Option<Duration> {
    let mut fields = Fields::new(node, "dns.SDConfig", issues);
    let hosts = fields
        .take("names")
        .map_or_else(Vec::new, |node| node.read_texts(issues));
    let kind = fields
        .text("type", issues)
        .unwrap_or_else(|| "SRV".to_owned());
    let port = fields.take("port").map_or(0, |node| node.read_int(issues));
    match (kind.to_ascii_uppercase().as_str(), u16::try_from(port)) {
        ("SRV", _) => names.extend(hosts.into_iter().map(DnsName::Service)),
        ("A" | "AAAA", Ok(port)) if port > 0 => {
            names.extend(hosts.into_iter().map(|host| DnsName::Host(host, port)));
        }
        (other, _) if !matches!(other, "A" | "AAAA") => issues.push(Issue::new(
            node.position,
            format!("DNS-SD record type {kind} is not supported, want SRV, A or AAAA"),
        )),
        _ => issues.push(Issue::new(
            node.position,
            "a port is required in DNS-SD configs for A and AAAA records",
        )),
    }
    let refresh = fields.duration("refresh_interval", issues);
    fields.finish(issues);
    refresh
}

/// The queue of alerts for one Alertmanager. When it is full, the oldest alerts are dropped.
#[derive(Debug, Default)]
pub struct Queue {
    alerts: VecDeque<AlertToSend>,
    dropped: u64,
}

impl Queue {
    /// Adds alerts. Returns the number of old alerts dropped to make room.
    pub fn push(&mut self, alerts: impl IntoIterator<Item = AlertToSend>) -> u64 {
        let before = self.dropped;
        for alert in alerts {
            if self.alerts.len() >= QUEUE_MAX {
                self.alerts.pop_front();
                self.dropped += 1;
            }
            self.alerts.push_back(alert);
        }
        self.dropped - before
    }

    /// Removes and returns the oldest alerts, at most [`BATCH_MAX`].
    pub fn take_batch(&mut self) -> Vec<AlertToSend> {
        let count = self.alerts.len().min(BATCH_MAX);
        self.alerts.drain(..count).collect()
    }

    /// Returns the number of queued alerts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.alerts.len()
    }

    /// Reports whether the queue is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty()
    }
}

/// Applies both lists of relabelling rules to an alert. Returns `None` if they drop it.
#[must_use]
pub fn relabelled(
    alert: &AlertToSend,
    first: &[RelabelRule],
    second: &[RelabelRule],
) -> Option<AlertToSend> {
    let labels = relabel::apply(second, &relabel::apply(first, &alert.labels)?)?;
    Some(AlertToSend {
        labels,
        ..alert.clone()
    })
}

/// Returns the body of `POST /api/v2/alerts`.
#[must_use]
pub fn body(alerts: &[AlertToSend]) -> Vec<u8> {
    let one = |alert: &AlertToSend| {
        json!({
            "labels": object(&alert.labels),
            "annotations": alert.annotations,
            "startsAt": format_time(alert.starts_at_ms),
            "endsAt": format_time(alert.ends_at_ms),
            "generatorURL": alert.generator_url,
        })
    };
    Json::Array(alerts.iter().map(one).collect())
        .to_string()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::model::Labels;

    fn alert(n: usize) -> AlertToSend {
        AlertToSend {
            labels: Labels::from_pairs([("n", n.to_string())]).unwrap(),
            annotations: crate::annotations::Annotations::empty(),
            starts_at_ms: 1_700_000_000_123,
            ends_at_ms: 1_700_000_001_000,
            is_resolved: false,
            generator_url: "g".to_owned(),
        }
    }

    #[test]
    fn full_queue_drops_the_oldest() {
        let mut queue = Queue::default();
        assert_eq!(queue.push((0..QUEUE_MAX).map(alert)), 0);
        assert_eq!(queue.push([alert(QUEUE_MAX)]), 1);
        let batch = queue.take_batch();
        assert_eq!(
            (batch.len(), batch[0].labels.get("n")),
            (BATCH_MAX, Some("1"))
        );
        assert_eq!(queue.len(), QUEUE_MAX - BATCH_MAX);
    }

    #[test]
    fn section_is_read_and_mistakes_named() {
        let text = "alertmanagers:\n- static_configs: [{targets: ['a:9093']}]\n  path_prefix: /am/\n  basic_auth: {username: u, password: p}\n- api_version: v1\n- dns_sd_configs: [{names: [x]}]\n- dns_sd_configs: [{names: [x], type: A}]\n- dns_sd_configs: [{names: [x], type: MX}]\n";
        let node = common::yaml::read_tree(text).unwrap().unwrap();
        let mut issues = Issues::new();
        let section = read(&node, Path::new("."), &mut issues);
        assert_eq!(
            section.alertmanagers[0].url("a:9093"),
            "http://a:9093/am/api/v2/alerts"
        );
        assert_eq!(
            issues[0].to_string(),
            "5:16: expected Alertmanager api version to be v2 but got v1"
        );
        assert_eq!(issues.len(), 3);
    }

    #[test]
    fn body_is_the_apis() {
        let want = r#"[{"annotations":{},"endsAt":"2023-11-14T22:13:21Z","generatorURL":"g","labels":{"n":"1"},"startsAt":"2023-11-14T22:13:20.123Z"}]"#;
        assert_eq!(String::from_utf8(body(&[alert(1)])).unwrap(), want);
    }
}
