//! `/api/v1/rules`, `/api/v1/alerts`, `/api/v1/alertmanagers`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use common::model::{Labels, Matcher};
use serde_json::{Map, Value as Json, json};
use tidemark_alerting::notify::message::object;
use tidemark_alerting::rules::alert::Alert;
use tidemark_alerting::rules::file::RuleKind;
use tidemark_alerting::rules::group::Group;
use tidemark_alerting::rules::rule::Rule;
use tidemark_alerting::template::{Notation, format_float};
use tidemark_promql::Features;

use super::error::ApiError;
use super::params::{Params, parse_bool};
use super::respond::{self, Encoding};
use super::state::{Api, OpenAlerting};
use crate::alerting::Alerting;
use crate::alerting::plan::query_text;

/// Go's zero time, which Prometheus prints for a time that is not set.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn time(time_ms: Option<i64>) -> String {
    time_ms.map_or_else(
        || NEVER.to_owned(),
        tidemark_alerting::notify::message::format_time,
    )
}

/// `/api/v1/alertmanagers`
///
/// # Errors
/// The server is still starting.
pub async fn alertmanagers(
    State(api): State<Api>,
    OpenAlerting(alerting): OpenAlerting,
    encoding: Encoding,
) -> Result<Response, ApiError> {
    let urls = alerting.external_urls();
    let active: Vec<Json> = urls.into_iter().map(|url| json!({ "url": url })).collect();
    let data = json!({ "activeAlertmanagers": active, "droppedAlertmanagers": [] });
    respond::json(&api, encoding, &data).await
}

/// `/api/v1/alerts`
///
/// # Errors
/// The server is still starting.
pub async fn alerts(
    State(api): State<Api>,
    OpenAlerting(alerting): OpenAlerting,
    encoding: Encoding,
) -> Result<Response, ApiError> {
    let data = blocking(move || {
        let mut alerts = Vec::new();
        for group in alerting.manager().groups() {
            for rule in &group.rules {
                alerts.extend(active_alerts(rule));
            }
        }
        json!({ "alerts": alerts })
    })
    .await?;
    respond::data(&api, encoding, data).await
}

/// `/api/v1/rules`
///
/// # Errors
/// A parameter is wrong, or the server is still starting.
pub async fn rules(
    State(api): State<Api>,
    OpenAlerting(alerting): OpenAlerting,
    encoding: Encoding,
    params: Params,
) -> Result<Response, ApiError> {
    let filter = RuleFilter::new(&params, api.settings.promql_features())?;
    let data = blocking(move || filter.page(&alerting)).await?;
    respond::data(&api, encoding, data).await
}

/// Serialises rules on a blocking thread: reading them may wait for an evaluation that stores its state.
async fn blocking(work: impl FnOnce() -> Json + Send + 'static) -> Result<Vec<u8>, ApiError> {
    tokio::task::spawn_blocking(move || work().to_string().into_bytes())
        .await
        .map_err(|error| ApiError::internal("read rules", &error))
}

/// The parameters of `/api/v1/rules`.
#[derive(Debug)]
struct RuleFilter {
    alerting_only: bool,
    recording_only: bool,
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    exclude_alerts: bool,
    matchers: Vec<Vec<Matcher>>,
    group_limit: usize,
    next_token: String,
    features: Features,
}

impl RuleFilter {
    fn new(params: &Params, features: Features) -> Result<Self, ApiError> {
        let list = |name: &str| params.all(name).map(str::to_owned).collect::<Vec<_>>();
        let kind = params.get("type");
        if !matches!(kind, "" | "alert" | "record") {
            return Err(ApiError::invalid_parameter(
                "type",
                format!("not supported value {kind:?}"),
            ));
        }
        let exclude_alerts = match params.get("exclude_alerts") {
            "" => false,
            text => parse_bool(text).ok_or_else(|| {
                let reason = format!(
                    "error converting exclude_alerts: strconv.ParseBool: parsing {text:?}: invalid syntax"
                );
                ApiError::invalid_parameter("exclude_alerts", reason)
            })?,
        };
        let group_limit = match params.get("group_limit") {
            "" => usize::MAX,
            text => match text.parse::<i64>().map(usize::try_from) {
                Ok(Ok(limit)) if limit > 0 => limit,
                Ok(_) => {
                    let reason = "group_limit needs to be greater than 0";
                    return Err(ApiError::invalid_parameter("group_limit", reason));
                }
                Err(error) => {
                    let why = super::time::integer_error(&error);
                    let reason = format!(
                        "group_limit needs to be a valid number: strconv.ParseInt: parsing {text:?}: {why}"
                    );
                    return Err(ApiError::invalid_parameter("group_limit", reason));
                }
            },
        };
        let next_token = params.get("group_next_token").to_owned();
        if group_limit == usize::MAX && !next_token.is_empty() {
            let reason = "group_limit needs to be present in order to paginate over the groups";
            return Err(ApiError::invalid_parameter("group_next_token", reason));
        }
        Ok(Self {
            alerting_only: kind == "alert",
            recording_only: kind == "record",
            names: list("rule_name[]"),
            groups: list("rule_group[]"),
            files: list("file[]"),
            exclude_alerts,
            matchers: super::selectors::parse_all(params)?,
            group_limit,
            next_token,
            features,
        })
    }

    fn page(&self, alerting: &Alerting) -> Json {
        let groups = alerting.manager().groups();
        let has_filter = !self.names.is_empty() || !self.matchers.is_empty();
        let mut found = Vec::new();
        let mut next = None;
        let mut skipping = !self.next_token.is_empty();
        for group in groups.iter().filter(|group| self.matches_group(group)) {
            let token = token(group);
            skipping &= token != self.next_token;
            if skipping {
                continue;
            }
            let rules: Vec<Json> = group
                .rules
                .iter()
                .filter_map(|rule| self.rule(rule))
                .collect();
            if rules.is_empty() && has_filter {
                continue;
            }
            if found.len() >= self.group_limit {
                next = Some(token);
                break;
            }
            found.push(group_json(group, rules));
        }
        let mut data = json!({ "groups": found });
        if let (Some(next), Some(data)) = (next, data.as_object_mut()) {
            data.insert("groupNextToken".to_owned(), Json::String(next));
        }
        data
    }

    fn matches_group(&self, group: &Group) -> bool {
        let file = group.file.display().to_string();
        (self.groups.is_empty() || self.groups.contains(&group.name))
            && (self.files.is_empty() || self.files.contains(&file))
    }

    fn rule(&self, rule: &Rule) -> Option<Json> {
        let name = rule.spec.name();
        if !self.names.is_empty() && !self.names.iter().any(|wanted| wanted == name) {
            return None;
        }
        let labels = Labels::from_pairs(rule.spec.labels.clone()).ok()?;
        let matches = |set: &Vec<Matcher>| {
            set.iter()
                .all(|m| m.matches(labels.get(m.name()).unwrap_or_default()))
        };
        if !self.matchers.is_empty() && !self.matchers.iter().any(matches) {
            return None;
        }
        let is_alerting = matches!(rule.spec.kind, RuleKind::Alerting { .. });
        if (is_alerting && self.recording_only) || (!is_alerting && self.alerting_only) {
            return None;
        }
        Some(self.rule_json(rule))
    }

    fn rule_json(&self, rule: &Rule) -> Json {
        let is_alerting = matches!(rule.spec.kind, RuleKind::Alerting { .. });
        let mut json = Map::new();
        let mut put = |name: &str, value: Json| drop(json.insert(name.to_owned(), value));
        if let RuleKind::Alerting {
            for_duration,
            keep_firing_for,
            annotations,
            ..
        } = &rule.spec.kind
        {
            let alerts = if self.exclude_alerts {
                Vec::new()
            } else {
                active_alerts(rule)
            };
            let state = rule.state();
            put(
                "state",
                if state.last_evaluation_ms.is_some() {
                    state.alerts.state().as_str()
                } else {
                    "unknown"
                }
                .into(),
            );
            drop(state);
            put("duration", for_duration.as_secs_f64().into());
            put("keepFiringFor", keep_firing_for.as_secs_f64().into());
            let annotations = annotations
                .iter()
                .map(|(name, text)| (name.clone(), Json::from(text.as_str())));
            put("annotations", Json::Object(annotations.collect()));
            put("alerts", alerts.into());
            put("type", "alerting".into());
        } else {
            put("type", "recording".into());
        }
        let state = rule.state();
        put("name", rule.spec.name().into());
        put("query", query_text(&rule.spec.expr, self.features).into());
        // As in Prometheus, only a recording rule omits an empty label set, and labels with empty values are shown.
        let labels = &rule.spec.labels;
        if is_alerting || !labels.is_empty() {
            let pairs = labels
                .iter()
                .map(|(name, value)| (name.clone(), Json::from(value.as_str())));
            put("labels", Json::Object(pairs.collect()));
        }
        put("health", state.health.as_str().into());
        if let Some(error) = &state.last_error {
            put("lastError", error.as_str().into());
        }
        put("evaluationTime", state.evaluation_time.as_secs_f64().into());
        put("lastEvaluation", time(state.last_evaluation_ms).into());
        Json::Object(json)
    }
}

/// Identifies a group in `groupNextToken` without revealing its path.
fn token(group: &Arc<Group>) -> String {
    let digest = fnv1a(&format!("{};{}", group.file.display(), group.name));
    format!("{digest:016x}")
}

/// FNV-1a: stable across restarts. The token is not a secret.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn group_json(group: &Group, rules: Vec<Json>) -> Json {
    let status = group.status();
    json!({
        "name": group.name,
        "file": group.file.display().to_string(),
        "rules": rules,
        "interval": group.interval.as_secs_f64(),
        "limit": group.limit,
        "evaluationTime": status.evaluation_time.as_secs_f64(),
        "lastEvaluation": time(status.last_evaluation_ms),
    })
}

fn active_alerts(rule: &Rule) -> Vec<Json> {
    let state = rule.state();
    let mut alerts: Vec<&Alert> = state.alerts.active().collect();
    alerts.sort_by(|a, b| a.labels.cmp(&b.labels));
    alerts.into_iter().map(alert_json).collect()
}

fn alert_json(alert: &Alert) -> Json {
    let mut json = json!({
        "labels": object(&alert.labels),
        "annotations": alert.annotations,
        "state": alert.state.as_str(),
        "activeAt": time(Some(alert.active_at_ms)),
        "value": format_float(alert.value, Notation::Exponent, None),
    });
    if let (Some(since), Some(json)) = (alert.keep_firing_since_ms, json.as_object_mut()) {
        json.insert("keepFiringSince".to_owned(), time(Some(since)).into());
    }
    json
}
