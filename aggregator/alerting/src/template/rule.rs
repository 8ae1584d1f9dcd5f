//! Prometheus' functions and data for templates in rule files.

use std::net::IpAddr;
use std::sync::Arc;

use common::model::Labels;

use super::builtins::{BUILTINS, escape_query};
use super::float::{Notation, format_float};
use super::functions::{self, Env, Function, fixed, float, text, variadic};
use super::humanize::{humanize, humanize_percentage, humanize_timestamp, humanize1024, unix_time};
use super::shared::SHARED;
use super::value::{ANY_MAP, Kind, TEXT_MAP, Value};
use super::{Compiled, Limits, ParseError, parse};

/// Bounds for expanding one label or annotation.
pub const LIMITS: Limits = Limits {
    output_bytes: 64 << 10,
    steps: 100_000,
};

/// Maximum number of queries in one expansion.
pub const QUERIES_MAX: u32 = 5;

/// Definitions prepended to the text of every label and annotation.
const DEFINITIONS: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
                           {{$externalURL := .ExternalURL}}{{$value := .Value}}";

fn no_methods(_: &Value, _: &str, _: &[Value]) -> Option<Result<Value, String>> {
    None
}

static SAMPLE: Kind = Kind {
    name: "*template.sample",
    text_elements: false,
    methods: no_methods,
    print: None,
};
static SAMPLES: Kind = Kind {
    name: "template.queryResult",
    text_elements: false,
    methods: no_methods,
    print: None,
};
static DATA: Kind = Kind {
    name: "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }",
    text_elements: false,
    methods: no_methods,
    print: None,
};

/// Prometheus' functions.
static FUNCTIONS: &[Function] = &[
    fixed("title", 1, |_, args| Ok(Value::text(title(text(args, 0)?)))),
    fixed("query", 1, query),
    fixed("first", 1, first),
    fixed("label", 2, |_, args| {
        Ok(label_of(sample(&args[1])?, text(args, 0)?))
    }),
    fixed("value", 1, |_, args| {
        Ok(sample(&args[0])?
            .struct_field("Value")
            .cloned()
            .unwrap_or(Value::Nil))
    }),
    fixed("strvalue", 1, |_, args| {
        Ok(label_of(sample(&args[0])?, "__value__"))
    }),
    variadic("args", 0, |_, args| Ok(numbered(args))),
    fixed("graphLink", 1, |_, args| {
        Ok(Value::text(expression_link(text(args, 0)?, 0)))
    }),
    fixed("tableLink", 1, |_, args| {
        Ok(Value::text(expression_link(text(args, 0)?, 1)))
    }),
    fixed("sortByLabel", 2, sort_by_label),
    fixed("stripPort", 1, |_, args| {
        Ok(Value::text(strip_port(text(args, 0)?)))
    }),
    fixed("stripDomain", 1, |_, args| {
        Ok(Value::text(strip_domain(text(args, 0)?)))
    }),
    fixed("humanize", 1, |_, args| {
        Ok(Value::text(humanize(float(args, 0)?)))
    }),
    fixed("humanize1024", 1, |_, args| {
        Ok(Value::text(humanize1024(float(args, 0)?)))
    }),
    fixed("humanizePercentage", 1, |_, args| {
        Ok(Value::text(humanize_percentage(float(args, 0)?)))
    }),
    fixed("humanizeTimestamp", 1, |_, args| {
        Ok(Value::text(humanize_timestamp(float(args, 0)?)?))
    }),
    fixed("toTime", 1, to_time),
    fixed("toDuration", 1, to_duration),
    fixed("now", 0, |env, _| {
        Ok(Value::Float(env.now_ms as f64 / 1000.0))
    }),
    fixed("pathPrefix", 0, |env, _| {
        Ok(Value::text(path_of(env.external_url)))
    }),
    fixed("externalURL", 0, |env, _| Ok(Value::text(env.external_url))),
    fixed("parseDuration", 1, parse_duration),
    fixed("urlQueryEscape", 1, |_, args| {
        Ok(Value::text(escape_query(text(args, 0)?)))
    }),
];

/// Looks up one of Prometheus' functions or Go's built-ins.
#[must_use]
pub fn lookup(name: &str) -> Option<&'static Function> {
    [FUNCTIONS, SHARED, BUILTINS]
        .into_iter()
        .find_map(|table| functions::find(table, name))
}

/// Checks the syntax of a label's or annotation's text.
///
/// # Errors
/// Returns an error if the text has a syntax error.
pub fn check(alert: &str, text: &str) -> Result<(), ParseError> {
    let source = format!("{DEFINITIONS}{text}");
    parse::parse(&format!("__alert_{alert}"), &source, &|name| {
        lookup(name).is_some()
    })
    .map(drop)
}

/// Returns the data for an alert's templates.
#[must_use]
pub fn data(labels: &Labels, external_labels: &Labels, external_url: &str, value: f64) -> Value {
    Value::Struct(
        &DATA,
        [
            ("Labels", Value::text_map(&TEXT_MAP, labels)),
            (
                "ExternalLabels",
                Value::text_map(&TEXT_MAP, external_labels),
            ),
            ("ExternalURL", Value::text(external_url)),
            ("Value", Value::Float(value)),
        ]
        .into(),
    )
}

/// The inputs that can change a text, besides the labels of the element it is expanded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependence {
    /// No other input.
    Nothing,
    /// The element's value and the external labels.
    Data,
    /// Any input, such as the time or other series.
    Anything,
}

/// Words of which every template that reads more than its data contains at least one.
const BEYOND_DATA: [&str; 2] = ["query", "now"];

/// The text of a label or annotation, parsed once.
#[derive(Debug, Clone)]
pub enum Text {
    /// A text without actions.
    Constant(String),
    /// A template.
    Template(Box<Compiled>),
    /// A text with a syntax error; the message replaces it.
    Broken(String),
}

impl Text {
    /// Parses the text of a label or annotation of `alert`.
    #[must_use]
    pub fn new(alert: &str, text: &str) -> Self {
        if !text.contains("{{") {
            return Self::Constant(text.to_owned());
        }
        let name = format!("__alert_{alert}");
        match Compiled::new(name.clone(), format!("{DEFINITIONS}{text}"), lookup) {
            Ok(compiled) => Self::Template(Box::new(compiled)),
            Err(error) => Self::Broken(format!(
                "<error expanding template: error parsing template {name}: {error}>"
            )),
        }
    }

    /// Reports whether the text depends on the data.
    #[must_use]
    pub const fn is_template(&self) -> bool {
        matches!(self, Self::Template(_))
    }

    /// Returns the inputs that can change the text.
    #[must_use]
    pub fn dependence(&self) -> Dependence {
        match self {
            Self::Constant(_) | Self::Broken(_) => Dependence::Nothing,
            Self::Template(compiled) => {
                let source = compiled.source();
                if BEYOND_DATA.iter().any(|word| source.contains(word)) {
                    Dependence::Anything
                } else {
                    Dependence::Data
                }
            }
        }
    }

    /// Expands the text. As in Prometheus, an error message replaces the text and the rule does not fail.
    pub fn expand(&self, data: &Value, env: &mut Env<'_>) -> String {
        let compiled = match self {
            Self::Constant(text) | Self::Broken(text) => return text.clone(),
            Self::Template(compiled) => compiled,
        };
        env.queries_left = QUERIES_MAX;
        compiled
            .run(lookup, LIMITS, data.clone(), env)
            .unwrap_or_else(|error| {
                let name = &compiled.name;
                format!("<error expanding template: error executing template {name}: {error}>")
            })
    }
}

fn query(env: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let expression = text(args, 0)?;
    if env.queries_left == 0 {
        return Err(format!("more than {QUERIES_MAX} queries in one template"));
    }
    env.queries_left -= 1;
    let Some(run) = env.query.as_mut() else {
        return Err("no queries can be run here".to_owned());
    };
    let samples = run(expression)?;
    let items = samples.iter().map(|(labels, value)| {
        let fields = [
            ("Labels", Value::text_map(&TEXT_MAP, labels)),
            ("Value", Value::Float(*value)),
        ];
        Value::Struct(&SAMPLE, fields.into())
    });
    Ok(Value::List(&SAMPLES, items.collect()))
}

fn samples(value: &Value) -> Result<&[Value], String> {
    match value {
        Value::List(kind, items) if kind.name == SAMPLES.name => Ok(items),
        other => Err(format!(
            "wrong type for value; expected template.queryResult; got {}",
            other.type_name()
        )),
    }
}

fn sample(value: &Value) -> Result<&Value, String> {
    match value {
        Value::Struct(kind, _) if kind.name == SAMPLE.name => Ok(value),
        other => Err(format!(
            "wrong type for value; expected *template.sample; got {}",
            other.type_name()
        )),
    }
}

fn label_of(sample: &Value, name: &str) -> Value {
    match sample.struct_field("Labels") {
        Some(Value::Map(_, map)) => map.get(name).cloned().unwrap_or_else(|| Value::text("")),
        _ => Value::text(""),
    }
}

fn first(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let items = samples(&args[0])?;
    items
        .first()
        .cloned()
        .ok_or_else(|| "first() called on vector with no elements".to_owned())
}

fn sort_by_label(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let name = text(args, 0)?;
    let mut items = samples(&args[1])?.to_vec();
    items.sort_by_key(|item| {
        label_of(item, name)
            .as_text()
            .unwrap_or_default()
            .to_owned()
    });
    Ok(Value::List(&SAMPLES, items.into()))
}

fn numbered(args: &[Value]) -> Value {
    let pairs = args
        .iter()
        .enumerate()
        .map(|(index, value)| (format!("arg{index}"), value.clone()));
    Value::Map(&ANY_MAP, Arc::new(pairs.collect()))
}

/// Returns the path of the expression page with the graph (0) or table (1) tab open.
#[must_use]
pub fn expression_link(expression: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", escape_query(expression))
}

/// Splits `host:port` like Go's `net.SplitHostPort`.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once("]:")?;
        return (!port.contains(':')).then_some((host, port));
    }
    let (host, port) = text.rsplit_once(':')?;
    (!host.contains(':')).then_some((host, port))
}

fn strip_port(text: &str) -> &str {
    split_host_port(text).map_or(text, |(host, _)| host)
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    if host.parse::<IpAddr>().is_ok() {
        return text.to_owned();
    }
    let first = host.split('.').next().unwrap_or(host);
    if port.is_empty() {
        first.to_owned()
    } else {
        format!("{first}:{port}")
    }
}

fn to_time(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let seconds = float(args, 0)?;
    let time = unix_time(seconds).filter(|_| seconds.is_finite());
    time.map(|time| Value::Time(Arc::new(time))).ok_or_else(|| {
        let seconds = format_float(seconds, Notation::General, None);
        format!(
            "{seconds} cannot be represented as a nanoseconds timestamp since it overflows int64"
        )
    })
}

fn to_duration(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let seconds = float(args, 0)?;
    let nanos = seconds * 1e9;
    if nanos.is_nan() || nanos.abs() > i64::MAX as f64 {
        let seconds = format_float(seconds, Notation::General, None);
        return Err(format!(
            "{seconds} cannot be represented as a duration since it overflows int64"
        ));
    }
    Ok(Value::Duration(nanos as i64))
}

fn parse_duration(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let text = text(args, 0)?;
    let duration = common::duration::parse(text).map_err(|error| error.to_string())?;
    Ok(Value::Float(duration.as_secs_f64()))
}

fn path_of(url: &str) -> &str {
    let after = url.split_once("://").map_or(url, |(_, rest)| rest);
    after
        .find('/')
        .and_then(|slash| after.get(slash..))
        .unwrap_or("")
}

/// Converts the first letter of each word to upper case and keeps the rest, like Go's `strings.Title`.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        let is_word = c.is_alphanumeric() || c == '\'' || c == '_';
        if is_word && !in_word {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        in_word = is_word;
    }
    out
}
