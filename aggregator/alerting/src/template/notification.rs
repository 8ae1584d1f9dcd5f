//! Alertmanager's functions and data for notification templates.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::model::Labels;

use crate::annotations::Annotations;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::builtins::BUILTINS;
use super::functions::{self, Env, Function, fixed, text, variadic};
use super::shared::SHARED;
use super::value::{ANY_LIST, ANY_MAP, Kind, TEXT_LIST, Value};
use super::{Limits, gotime};

/// Bounds of one expansion. A group of thousands of alerts with long annotations fits within them.
pub const LIMITS: Limits = Limits {
    output_bytes: 8 << 20,
    steps: 5_000_000,
};

static KV: Kind = Kind {
    name: "template.KV",
    text_elements: true,
    methods: kv_method,
    print: Some(print_pairs),
};
static PAIRS: Kind = Kind {
    name: "template.Pairs",
    text_elements: false,
    methods: pairs_method,
    print: Some(print_pairs),
};
static PAIR: Kind = Kind {
    name: "template.Pair",
    text_elements: false,
    methods: no_methods,
    print: None,
};
static ALERTS: Kind = Kind {
    name: "template.Alerts",
    text_elements: false,
    methods: alerts_method,
    print: None,
};
static ALERT: Kind = Kind {
    name: "template.Alert",
    text_elements: false,
    methods: no_methods,
    print: None,
};
static DATA: Kind = Kind {
    name: "*template.Data",
    text_elements: false,
    methods: no_methods,
    print: None,
};

/// Alertmanager's functions.
static FUNCTIONS: &[Function] = &[
    fixed("title", 1, |_, args| Ok(Value::text(title(text(args, 0)?)))),
    fixed("trimSpace", 1, |_, args| {
        Ok(Value::text(text(args, 0)?.trim()))
    }),
    fixed("join", 2, join),
    fixed("safeUrl", 1, |_, args| {
        Ok(Value::Html(Arc::from(text(args, 0)?)))
    }),
    fixed("urlUnescape", 1, url_unescape),
    variadic("stringSlice", 0, string_slice),
    fixed("date", 2, |_, args| {
        Ok(Value::text(gotime::format_time(
            time(args, 1)?,
            text(args, 0)?,
        )))
    }),
    fixed("tz", 2, to_zone),
    fixed("since", 1, since),
    fixed("now", 0, |env, _| Ok(time_value(env.now_ms))),
    fixed("toJson", 1, |_, args| Ok(Value::text(json_text(&args[0])))),
    variadic("list", 0, |_, args| Ok(Value::List(&ANY_LIST, args.into()))),
    variadic("append", 1, append),
    variadic("dict", 0, dict),
    fixed("base64encode", 1, |_, args| {
        Ok(Value::text(STANDARD.encode(text(args, 0)?)))
    }),
    fixed("base64decode", 1, base64_decode),
];

/// Looks up one of Alertmanager's functions or Go's built-ins.
#[must_use]
pub fn lookup(name: &str) -> Option<&'static Function> {
    [FUNCTIONS, SHARED, BUILTINS]
        .into_iter()
        .find_map(|table| functions::find(table, name))
}

/// The data of one alert available to templates.
#[derive(Debug, Clone)]
pub struct AlertData {
    /// `firing` or `resolved`.
    pub status: &'static str,
    /// The labels of the alert.
    pub labels: Labels,
    /// The annotations of the alert.
    pub annotations: Annotations,
    /// The start time in milliseconds since the epoch.
    pub starts_at_ms: i64,
    /// The end time in milliseconds since the epoch. `None` while the alert fires.
    pub ends_at_ms: Option<i64>,
    /// The URL that shows the expression.
    pub generator_url: String,
    /// The hash of the labels as 16 hexadecimal digits.
    pub fingerprint: String,
}

/// The data available to the templates of a notification.
#[derive(Debug, Clone)]
pub struct Data {
    /// The receiver's name.
    pub receiver: String,
    /// `firing` if any alert fires, otherwise `resolved`.
    pub status: &'static str,
    /// The alerts of the group.
    pub alerts: Vec<AlertData>,
    /// The labels by which the alerts are grouped.
    pub group_labels: Labels,
    /// The labels of the route.
    pub route_labels: Labels,
    /// The labels that all alerts share.
    pub common_labels: Labels,
    /// The annotations that all alerts share.
    pub common_annotations: Annotations,
    /// The URL under which users reach this server.
    pub external_url: String,
    /// The key of the group.
    pub group_key: String,
    /// The reason for the notification.
    pub reason: &'static str,
}

impl Data {
    /// Converts to the value that templates run on.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Struct(
            &DATA,
            [
                ("Receiver", Value::text(self.receiver.as_str())),
                ("Status", Value::text(self.status)),
                (
                    "Alerts",
                    Value::List(
                        &ALERTS,
                        self.alerts.iter().map(AlertData::to_value).collect(),
                    ),
                ),
                ("NotificationReason", Value::text(self.reason)),
                ("GroupLabels", Value::text_map(&KV, &self.group_labels)),
                ("RouteLabels", Value::text_map(&KV, &self.route_labels)),
                ("CommonLabels", Value::text_map(&KV, &self.common_labels)),
                (
                    "CommonAnnotations",
                    Value::text_map(&KV, self.common_annotations.iter()),
                ),
                ("ExternalURL", Value::text(self.external_url.as_str())),
                ("GroupKey", Value::text(self.group_key.as_str())),
            ]
            .into(),
        )
    }
}

impl AlertData {
    fn to_value(&self) -> Value {
        Value::Struct(
            &ALERT,
            [
                ("Status", Value::text(self.status)),
                ("Labels", Value::text_map(&KV, &self.labels)),
                ("Annotations", Value::text_map(&KV, self.annotations.iter())),
                ("StartsAt", time_value(self.starts_at_ms)),
                ("EndsAt", self.ends_at_ms.map_or_else(zero_time, time_value)),
                ("GeneratorURL", Value::text(self.generator_url.as_str())),
                ("Fingerprint", Value::text(self.fingerprint.as_str())),
            ]
            .into(),
        )
    }
}

fn no_methods(_: &Value, _: &str, _: &[Value]) -> Option<Result<Value, String>> {
    None
}

fn time_value(millis: i64) -> Value {
    match Timestamp::from_millisecond(millis) {
        Ok(time) => Value::Time(Arc::new(time.to_zoned(TimeZone::UTC))),
        Err(_) => Value::Nil,
    }
}

/// Converts to title case like Go's `cases.Title` with the undetermined language: the first letter of each word becomes
/// title case and all others lower case. Words follow Unicode's word boundaries (UAX 29): letters, digits, `_`, and
/// `'`, `.`, `:` and similar characters between letters.
fn title(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut is_inside = false;
    for (index, &c) in chars.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|index| chars.get(index));
        let joins = "'\u{2019}.:\u{b7}".contains(c)
            && before.is_some_and(|c| c.is_alphabetic())
            && chars.get(index + 1).is_some_and(|c| c.is_alphabetic());
        if c.is_alphabetic() && !is_inside {
            out.extend(title_case(c));
            is_inside = true;
        } else {
            out.extend(c.to_lowercase());
            is_inside &= c.is_alphanumeric() || c == '_' || joins;
        }
    }
    out
}

/// Returns the title case of a letter. It differs from the upper case only for digraphs and ligatures.
fn title_case(c: char) -> Vec<char> {
    match c {
        '\u{1c4}'..='\u{1c6}' => vec!['\u{1c5}'],
        '\u{1c7}'..='\u{1c9}' => vec!['\u{1c8}'],
        '\u{1ca}'..='\u{1cc}' => vec!['\u{1cb}'],
        '\u{1f1}'..='\u{1f3}' => vec!['\u{1f2}'],
        c => {
            let mut upper = c.to_uppercase();
            let first = upper.next().unwrap_or(c);
            let rest = upper.flat_map(char::to_lowercase);
            std::iter::once(first).chain(rest).collect()
        }
    }
}

/// Returns Go's zero time, 0001-01-01.
fn zero_time() -> Value {
    time_value(-62_135_596_800_000)
}

fn kv_method(receiver: &Value, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let Value::Map(_, map) = receiver else {
        return None;
    };
    match name {
        "String" => Some(Ok(Value::text(print_pairs(receiver)))),
        "SortedPairs" => Some(Ok(sorted_pairs(map))),
        "Names" | "Values" => pairs_method(&sorted_pairs(map), name, args),
        "Remove" => Some(remove(map, args)),
        _ => None,
    }
}

/// Formats like the `String` method of `KV` and `Pairs`: `alertname=A, job=b`.
fn print_pairs(value: &Value) -> String {
    let sorted;
    let pairs = match value {
        Value::Map(_, map) => {
            sorted = sorted_pairs(map);
            &sorted
        }
        pairs => pairs,
    };
    let Value::List(_, items) = pairs else {
        return String::new();
    };
    let text = |pair: &Value, field| {
        let value = pair.struct_field(field).and_then(Value::as_text);
        value.unwrap_or_default().to_owned()
    };
    let texts: Vec<String> = items
        .iter()
        .map(|pair| format!("{}={}", text(pair, "Name"), text(pair, "Value")))
        .collect();
    texts.join(", ")
}

/// Returns the pairs sorted by name, with `alertname` first.
fn sorted_pairs(map: &BTreeMap<String, Value>) -> Value {
    let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
    pairs.sort_by_key(|(name, _)| (*name != "alertname", *name));
    let items = pairs.into_iter().map(|(name, value)| {
        Value::Struct(
            &PAIR,
            [
                ("Name", Value::text(name.as_str())),
                ("Value", value.clone()),
            ]
            .into(),
        )
    });
    Value::List(&PAIRS, items.collect())
}

fn remove(map: &BTreeMap<String, Value>, args: &[Value]) -> Result<Value, String> {
    let Some(Value::List(_, names)) = args.first() else {
        return Err("wrong type for value; expected []string".to_owned());
    };
    let is_named = |key: &String| names.iter().any(|name| name.as_text() == Some(key));
    let kept = map
        .iter()
        .filter(|(key, _)| !is_named(key))
        .map(|(key, value)| (key.clone(), value.clone()));
    Ok(Value::Map(&KV, Arc::new(kept.collect())))
}

fn pairs_method(receiver: &Value, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
    let Value::List(_, items) = receiver else {
        return None;
    };
    let field = match name {
        "String" => return Some(Ok(Value::text(print_pairs(receiver)))),
        "Names" => "Name",
        "Values" => "Value",
        _ => return None,
    };
    let texts = items
        .iter()
        .filter_map(|pair| pair.struct_field(field).cloned());
    Some(Ok(Value::List(&TEXT_LIST, texts.collect())))
}

fn alerts_method(receiver: &Value, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
    let Value::List(_, items) = receiver else {
        return None;
    };
    let status = match name {
        "Firing" => "firing",
        "Resolved" => "resolved",
        _ => return None,
    };
    let has_status =
        |alert: &&Value| alert.struct_field("Status").and_then(Value::as_text) == Some(status);
    Some(Ok(Value::List(
        &ALERTS,
        items.iter().filter(has_status).cloned().collect(),
    )))
}

fn time(args: &[Value], index: usize) -> Result<&jiff::Zoned, String> {
    match args.get(index) {
        Some(Value::Time(time)) => Ok(time),
        Some(other) => Err(format!(
            "wrong type for value; expected time.Time; got {}",
            other.type_name()
        )),
        None => Err("wrong number of args".to_owned()),
    }
}

fn join(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let Value::List(_, items) = &args[1] else {
        return Err(format!(
            "wrong type for value; expected []string; got {}",
            args[1].type_name()
        ));
    };
    let texts: Vec<&str> = items.iter().filter_map(Value::as_text).collect();
    if texts.len() != items.len() {
        return Err(format!(
            "wrong type for value; expected []string; got {}",
            args[1].type_name()
        ));
    }
    Ok(Value::text(texts.join(text(args, 0)?)))
}

fn string_slice(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    for index in 0..args.len() {
        text(args, index)?;
    }
    Ok(Value::List(&TEXT_LIST, args.into()))
}

fn append(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let Value::List(kind, items) = &args[0] else {
        return Err(format!(
            "wrong type for value; expected []interface {{}}; got {}",
            args[0].type_name()
        ));
    };
    Ok(Value::List(
        kind,
        items.iter().chain(&args[1..]).cloned().collect(),
    ))
}

fn dict(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    if !args.len().is_multiple_of(2) {
        return Err("invalid dict call: number of arguments must be even".to_owned());
    }
    let mut map = BTreeMap::new();
    for pair in args.chunks_exact(2) {
        let Some(key) = pair[0].as_text() else {
            return Err("dict keys must be strings".to_owned());
        };
        map.insert(key.to_owned(), pair[1].clone());
    }
    Ok(Value::Map(&ANY_MAP, Arc::new(map)))
}

fn to_zone(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let name = text(args, 0)?;
    let zone = match name {
        "" | "UTC" => TimeZone::UTC,
        "Local" => TimeZone::system(),
        name => TimeZone::get(name).map_err(|_| format!("unknown time zone {name}"))?,
    };
    Ok(Value::Time(Arc::new(
        time(args, 1)?.timestamp().to_zoned(zone),
    )))
}

fn since(env: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let nanos = i128::from(env.now_ms) * 1_000_000 - time(args, 0)?.timestamp().as_nanosecond();
    Ok(Value::Duration(i64::try_from(nanos).unwrap_or(i64::MAX)))
}

fn url_unescape(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let source = text(args, 0)?;
    let mut bytes = Vec::with_capacity(source.len());
    let mut rest = source.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err(format!("invalid URL escape in {source:?}"));
                };
                bytes.push((high * 16 + low) as u8);
            }
            byte => bytes.push(byte),
        }
    }
    Ok(Value::text(String::from_utf8_lossy(&bytes).into_owned()))
}

fn base64_decode(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let decoded = STANDARD.decode(text(args, 0)?);
    let bytes = decoded.map_err(|error| format!("illegal base64 data: {error}"))?;
    Ok(Value::text(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Formats like Go's `json.Marshal`, which also escapes `<`, `>` and `&`.
fn json_text(value: &Value) -> String {
    json(value)
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

fn json(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::Nil => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) | Value::Duration(value) => Json::from(*value),
        Value::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => {
            Json::from(*value as i64)
        }
        Value::Float(value) => Json::from(*value),
        Value::Text(text) | Value::Html(text) => Json::from(&**text),
        Value::List(_, items) => items.iter().map(json).collect(),
        Value::Map(_, map) => Json::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), json(value)))
                .collect(),
        ),
        Value::Struct(_, fields) => {
            let key = |name: &str| {
                if name == "NotificationReason" {
                    return "notification_reason".to_owned();
                }
                let mut chars = name.chars();
                let first = chars.next().map(|c| c.to_ascii_lowercase());
                first.into_iter().chain(chars).collect::<String>()
            };
            Json::Object(
                fields
                    .iter()
                    // Alertmanager excludes these fields from JSON.
                    .filter(|(name, _)| !matches!(*name, "RouteLabels" | "GroupKey"))
                    .map(|(name, value)| (key(name), json(value)))
                    .collect(),
            )
        }
        Value::Time(time) => Json::from(gotime::format_time(
            time,
            "2006-01-02T15:04:05.999999999Z07:00",
        )),
    }
}
