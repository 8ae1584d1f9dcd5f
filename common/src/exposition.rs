//! Parser of the text exposition format 0.0.4: one sample per line, with comments for type and help.
//!
//! The parser borrows from its input. It stops at the first malformed line and reports the line number.

use std::borrow::Cow;

use crate::model::{Labels, LabelsBuilder, LabelsError, MetricType, label::METRIC_NAME};

/// A line that is neither empty nor a plain comment.
#[derive(Debug, Clone, PartialEq)]
pub enum ExpositionLine<'a> {
    /// `# HELP family text`
    Help {
        /// The family.
        family: Cow<'a, str>,
        /// Its help text.
        text: Cow<'a, str>,
    },
    /// `# TYPE family type`
    Type {
        /// The family.
        family: Cow<'a, str>,
        /// Its type.
        metric_type: MetricType,
    },
    /// A sample.
    Sample {
        /// All labels, metric name included.
        labels: Labels,
        /// The value.
        value: f64,
        /// The timestamp given by the target, in milliseconds.
        timestamp_ms: Option<i64>,
    },
}

/// A malformed line, with its number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ParseError {
    /// The line number, from 1.
    pub line: usize,
    /// The fault.
    pub reason: Reason,
}

/// Why a line is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The metric name is missing.
    #[error("metric name is missing")]
    NoName,
    /// Braces, quotes or commas are misplaced.
    #[error("labels are malformed")]
    BadLabels,
    /// The labels do not form a set.
    #[error("{0}")]
    Labels(LabelsError),
    /// The value is not a number.
    #[error("value {0:?} is not a number")]
    BadValue(String),
    /// The timestamp is not a number of milliseconds.
    #[error("timestamp {0:?} is not a number of milliseconds")]
    BadTimestamp(String),
    /// Text follows the timestamp.
    #[error("text after the timestamp")]
    TrailingText,
    /// The metric type is unknown.
    #[error("unknown metric type {0:?}")]
    BadType(String),
}

/// Iterates over the lines of a text. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Parser<'a> {
    rest: &'a str,
    line: usize,
    failed: bool,
}

impl<'a> Parser<'a> {
    /// Creates a parser at the first line.
    #[must_use]
    pub const fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            line: 0,
            failed: false,
        }
    }

    /// Returns the number of the line read last, from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }
}

impl<'a> Iterator for Parser<'a> {
    type Item = Result<ExpositionLine<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() && !self.failed {
            let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
            self.rest = rest;
            self.line += 1;
            let line = line.strip_suffix('\r').unwrap_or(line);
            match parse_line(line.trim_matches([' ', '\t'])) {
                Ok(None) => {}
                Ok(Some(entry)) => return Some(Ok(entry)),
                Err(reason) => {
                    self.failed = true;
                    let line = self.line;
                    return Some(Err(ParseError { line, reason }));
                }
            }
        }
        None
    }
}

fn parse_line(line: &str) -> Result<Option<ExpositionLine<'_>>, Reason> {
    if line.is_empty() {
        return Ok(None);
    }
    match line.strip_prefix('#') {
        Some(comment) => parse_comment(comment.trim_start()),
        None => parse_sample(line).map(Some),
    }
}

fn parse_comment(comment: &str) -> Result<Option<ExpositionLine<'_>>, Reason> {
    let Some((keyword, rest)) = comment.split_once([' ', '\t']) else {
        return Ok(None);
    };
    if !matches!(keyword, "HELP" | "TYPE") {
        return Ok(None);
    }
    let rest = rest.trim_start();
    let (family, rest) = if rest.starts_with('"') {
        parse_quoted(rest).ok_or(Reason::NoName)?
    } else {
        let end = rest.find([' ', '\t']).unwrap_or(rest.len());
        let (family, rest) = rest.split_at(end);
        (Cow::Borrowed(family), rest)
    };
    if family.is_empty() {
        return Err(Reason::NoName);
    }
    let rest = rest.trim_start();
    if keyword == "HELP" {
        let text = unescape(rest, false);
        return Ok(Some(ExpositionLine::Help { family, text }));
    }
    let metric_type = match rest.trim_end() {
        "counter" => MetricType::Counter,
        "gauge" => MetricType::Gauge,
        "histogram" => MetricType::Histogram,
        "gaugehistogram" => MetricType::GaugeHistogram,
        "summary" => MetricType::Summary,
        "info" => MetricType::Info,
        "stateset" => MetricType::StateSet,
        "untyped" | "unknown" => MetricType::Unknown,
        other => return Err(Reason::BadType(other.to_owned())),
    };
    Ok(Some(ExpositionLine::Type {
        family,
        metric_type,
    }))
}

fn parse_sample(line: &str) -> Result<ExpositionLine<'_>, Reason> {
    let end = line.find(['{', ' ', '\t']).unwrap_or(line.len());
    let (name, mut rest) = line.split_at(end);
    let mut labels = LabelsBuilder::default();
    if !name.is_empty() {
        labels.push(METRIC_NAME, name);
    }
    rest = rest.trim_start();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = parse_labels(inside, &mut labels).ok_or(Reason::BadLabels)?;
    }
    if labels.get(METRIC_NAME).is_none_or(str::is_empty) {
        return Err(Reason::NoName);
    }
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().unwrap_or("");
    let value = parse_value(value).ok_or_else(|| Reason::BadValue(value.to_owned()))?;
    let timestamp_ms = match words.next() {
        None => None,
        Some(word) => {
            let ms = word.parse();
            Some(ms.map_err(|_| Reason::BadTimestamp(word.to_owned()))?)
        }
    };
    if words.next().is_some() {
        return Err(Reason::TrailingText);
    }
    Ok(ExpositionLine::Sample {
        labels: labels.build().map_err(Reason::Labels)?,
        value,
        timestamp_ms,
    })
}

/// Parses the labels after `{` up to and including `}`, and returns the rest. A quoted text without `=` is the metric name.
fn parse_labels<'a>(inside: &'a str, labels: &mut LabelsBuilder) -> Option<&'a str> {
    let mut rest = inside.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Some(after);
        }
        let name;
        if rest.starts_with('"') {
            (name, rest) = parse_quoted(rest)?;
        } else {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
            let (bare, after) = rest.split_at(end);
            if bare.is_empty() || bare.starts_with(|c: char| c.is_ascii_digit()) {
                return None;
            }
            (name, rest) = (Cow::Borrowed(bare), after);
        }
        rest = rest.trim_start();
        match rest.strip_prefix('=') {
            Some(after) => {
                let (value, after) = parse_quoted(after.trim_start())?;
                labels.push(name, value);
                rest = after.trim_start();
            }
            None if labels.get(METRIC_NAME).is_none() => labels.push(METRIC_NAME, name),
            None => return None,
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

/// Parses a quoted string at the start of a text; returns its content and the rest.
fn parse_quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'"' if !escaped => {
                let (value, rest) = inside.split_at(at);
                return Some((unescape(value, true), rest.strip_prefix('"')?));
            }
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

fn unescape(text: &str, quotes: bool) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some('\\') => plain.push('\\'),
            Some('"') if quotes => plain.push('"'),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    Cow::Owned(plain)
}

/// Parses a float in Go's spelling.
fn parse_value(text: &str) -> Option<f64> {
    match text {
        "NaN" | "nan" => Some(f64::NAN),
        "+Inf" | "Inf" | "+inf" | "inf" => Some(f64::INFINITY),
        "-Inf" | "-inf" => Some(f64::NEG_INFINITY),
        _ if text.bytes().any(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(line: &str) -> Result<(String, f64, Option<i64>), String> {
        match Parser::new(line).next() {
            Some(Ok(ExpositionLine::Sample {
                labels,
                value,
                timestamp_ms,
            })) => Ok((labels.to_string(), value, timestamp_ms)),
            Some(Err(error)) => Err(error.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn check(line: &str, labels: &str, value: f64, timestamp_ms: Option<i64>) {
        assert_eq!(sample(line), Ok((labels.to_owned(), value, timestamp_ms)));
    }

    #[test]
    fn samples_of_every_form_are_parsed() {
        check("up 1", r#"{__name__="up"}"#, 1.0, None);
        check(
            "up{} +Inf 1500",
            r#"{__name__="up"}"#,
            f64::INFINITY,
            Some(1500),
        );
        check(
            "a:b{ x = \"1\" , y=\"q\\\"\\\\\\n}\", } -1e-3 -5",
            r#"{__name__="a:b", x="1", y="q\"\\\n}"}"#,
            -0.001,
            Some(-5),
        );
        check(
            r#"{"my.metric","l x"="v"} 2"#,
            r#"{__name__="my.metric", l x="v"}"#,
            2.0,
            None,
        );
        check("up\t3\r", r#"{__name__="up"}"#, 3.0, None);
    }

    #[test]
    fn malformed_lines_are_reported_with_number_and_reason() {
        for (line, want) in [
            ("up", "line 1: value \"\" is not a number"),
            ("up x", "line 1: value \"x\" is not a number"),
            ("up infinity", "line 1: value \"infinity\" is not a number"),
            (
                "up 1 x",
                "line 1: timestamp \"x\" is not a number of milliseconds",
            ),
            ("up 1 2 3", "line 1: text after the timestamp"),
            ("{a=\"1\"} 1", "line 1: metric name is missing"),
            ("up{a=\"1\" 1", "line 1: labels are malformed"),
            ("up{a=1} 1", "line 1: labels are malformed"),
            (
                "up{a=\"1\",a=\"2\"} 1",
                "line 1: label name \"a\" is not unique",
            ),
            (
                "# TYPE up whatever",
                "line 1: unknown metric type \"whatever\"",
            ),
            ("ok 1\n\nup{", "line 3: labels are malformed"),
        ] {
            let error = Parser::new(line).find_map(Result::err).unwrap();
            assert_eq!(error.to_string(), want, "{line:?}");
        }
    }

    #[test]
    fn comments_carry_type_and_help() {
        let text = "# HELP up Is it \\n there?\n# TYPE up gauge\n# EOF\n# just words\n";
        let entries: Vec<_> = Parser::new(text).collect::<Result<_, _>>().unwrap();
        let want = [
            ExpositionLine::Help {
                family: "up".into(),
                text: "Is it \n there?".into(),
            },
            ExpositionLine::Type {
                family: "up".into(),
                metric_type: MetricType::Gauge,
            },
        ];
        assert_eq!(entries, want);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~\n\t{}\"\\\\=,#é]{0,200}") {
            for entry in Parser::new(&text) {
                drop(entry);
            }
        }
    }
}
