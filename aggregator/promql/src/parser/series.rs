//! Series descriptions of test scripts: `metric{a="b"} 1+2x3 _ stale`.

use common::model::{Labels, STALE_NAN, label::METRIC_NAME};

use super::ParseError;
use super::ast::VectorSelector;
use super::number::parse_number;
use crate::error::Span;

/// Maximum number of values in one description.
const VALUES_MAX: usize = 1_000_000;

/// One value of a description.
#[derive(Debug, Clone, Copy)]
pub enum SequenceValue {
    /// `_`: no sample.
    Omitted,
    /// A sample; `stale` is the staleness marker.
    Float(f64),
    /// `{{…}}`: a native histogram. The evaluator does not support these yet.
    Histogram,
}

/// A series and its values at equidistant times.
#[derive(Debug, Clone)]
pub struct SeriesDescription {
    /// Its labels.
    pub labels: Labels,
    /// A value for each step.
    pub values: Vec<SequenceValue>,
}

/// Parses a series description of a test script or a rule unit test.
///
/// # Errors
/// The labels or a value are malformed.
pub fn parse_series(text: &str) -> Result<SeriesDescription, ParseError> {
    let (labels, rest) = parse_metric_prefix(text)?;
    let offset = text.len() - rest.len();
    let values = parse_values(text, offset)?;
    Ok(SeriesDescription { labels, values })
}

/// Parses only the labels, `metric{a="b"}`, and returns what follows.
///
/// # Errors
/// The labels are malformed.
pub fn parse_metric_prefix(text: &str) -> Result<(Labels, &str), ParseError> {
    let end = labels_end(text);
    let (head, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let fail = |message: String| {
        let span = Span { start: 0, end };
        ParseError::new(text, span, message)
    };
    let trimmed = head.trim();
    if trimmed.is_empty() || trimmed == "{}" {
        return Ok((Labels::empty(), rest));
    }
    let selector = parse_description_selector(trimmed)?;
    let mut pairs = Vec::with_capacity(selector.matchers.len());
    for matcher in &selector.matchers {
        if matcher.op() != common::model::MatchOp::Equal {
            let message = format!(
                "unexpected {} in label set, expected \"=\"",
                matcher.op().as_str()
            );
            return Err(fail(message));
        }
        pairs.push((matcher.name().to_owned(), matcher.value().to_owned()));
    }
    if !selector.name.is_empty() {
        // The name before the braces takes precedence over one inside.
        let last = pairs.len() - 1;
        let mut index = 0;
        pairs.retain(|(name, _)| {
            index += 1;
            index > last || name != METRIC_NAME
        });
    }
    let labels = Labels::from_pairs(pairs).map_err(|error| fail(error.to_string()))?;
    Ok((labels, rest))
}

fn parse_description_selector(text: &str) -> Result<VectorSelector, ParseError> {
    use super::stream::Parser;
    let mut parser = Parser::new(text, crate::features::Features::default());
    let parsed = parser.selector_only().and_then(|selector| {
        parser.end_of_input()?;
        Ok(selector)
    });
    parsed.map_err(|fail| parser.finish(fail))
}

/// Returns where the labels end: after the closing brace outside quotes, or at the first space if there are no braces.
fn labels_end(text: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    let mut open = false;
    for (index, byte) in text.bytes().enumerate() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(b'"' | b'\'') if byte == b'\\' => escaped = true,
            Some(mark) if byte == mark => quote = None,
            Some(_) => {}
            None => match byte {
                b'"' | b'\'' | b'`' if open => quote = Some(byte),
                b'{' => open = true,
                b'}' => return index + 1,
                b' ' | b'\t' if !open => {
                    // There may be a space between the name and the braces.
                    let rest = text.get(index..).unwrap_or_default().trim_start();
                    if !rest.starts_with('{') || rest.starts_with("{{") {
                        return index;
                    }
                }
                _ => {}
            },
        }
    }
    text.len()
}

fn parse_values(text: &str, offset: usize) -> Result<Vec<SequenceValue>, ParseError> {
    let mut values = Vec::new();
    let bytes = text.as_bytes();
    let mut at = offset;
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let start = at;
        let mut braces = 0_usize;
        while let Some(&byte) = bytes.get(at)
            && (braces > 0 || !byte.is_ascii_whitespace())
        {
            match byte {
                b'{' => braces += 1,
                b'}' => braces = braces.saturating_sub(1),
                _ => {}
            }
            at += 1;
        }
        if start == at {
            return Ok(values);
        }
        let item = text.get(start..at).unwrap_or_default();
        let span = Span { start, end: at };
        if parse_item(item, &mut values).is_none() {
            let item = super::quote::go_quote(item);
            let message =
                format!("{item} is not a value, expected e.g. 1.5, 1+2x3, _, _x3 or stale");
            return Err(ParseError::new(text, span, message));
        }
        if values.len() > VALUES_MAX {
            let message = format!("more than {VALUES_MAX} values in one series");
            return Err(ParseError::new(text, span, message));
        }
    }
}

/// Expands one item; returns `None` if it is malformed. `x3` adds three values after the first.
fn parse_item(item: &str, values: &mut Vec<SequenceValue>) -> Option<()> {
    if item.starts_with("{{") {
        let times = item.rsplit_once("}}")?.1;
        let count = match times.strip_prefix('x') {
            Some(times) => repetitions(times)? + 1,
            None if times.is_empty() => 1,
            None => return None,
        };
        values.extend(std::iter::repeat_n(SequenceValue::Histogram, count));
        return Some(());
    }
    let (item, times) = match item.split_once('x') {
        Some((item, times)) => (item, Some(repetitions(times)?)),
        None => (item, None),
    };
    if item == "_" {
        let omitted = std::iter::repeat_n(SequenceValue::Omitted, times.unwrap_or(1));
        values.extend(omitted);
        return Some(());
    }
    let (first, step) = split_step(item);
    let mut value = parse_value(first)?;
    let step = step.map_or(Some(0.0), parse_value)?;
    let has_step = item.len() != first.len();
    if has_step && times.is_none() {
        return None;
    }
    for _ in 0..=times.unwrap_or(0) {
        values.push(SequenceValue::Float(value));
        if has_step {
            value += step;
        }
    }
    Some(())
}

fn repetitions(text: &str) -> Option<usize> {
    text.parse().ok().filter(|&times| times <= VALUES_MAX)
}

/// Splits `1e-3-2` at the sign of the step, which is neither the first character nor part of an exponent.
fn split_step(item: &str) -> (&str, Option<&str>) {
    let bytes = item.as_bytes();
    let cut = (1..bytes.len()).find(|&index| {
        matches!(bytes[index], b'+' | b'-')
            && !(matches!(bytes[index - 1], b'e' | b'E') && index > 1)
    });
    match cut.and_then(|cut| item.split_at_checked(cut)) {
        Some((first, step)) => (first, Some(step)),
        None => (item, None),
    }
}

fn parse_value(text: &str) -> Option<f64> {
    if text == "stale" {
        return Some(STALE_NAN);
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    parse_number(digits).ok().map(|value| sign * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, labels: &str, values: &str) {
        let series = parse_series(text).unwrap();
        assert_eq!(series.labels.to_string(), labels, "{text}");
        let got: Vec<_> = series
            .values
            .iter()
            .map(|value| match value {
                SequenceValue::Omitted => "_".to_owned(),
                SequenceValue::Float(float) if common::model::is_stale(*float) => {
                    "stale".to_owned()
                }
                SequenceValue::Float(float) => float.to_string(),
                SequenceValue::Histogram => "h".to_owned(),
            })
            .collect();
        assert_eq!(got.join(" "), values, "{text}");
    }

    #[test]
    fn descriptions_expand() {
        check("up 1 _ 3", r#"{__name__="up"}"#, "1 _ 3");
        check(
            r#"m{a="} x", b='2'} 0+10x2 1x1 -1-2x1 stale NaN"#,
            r#"{__name__="m", a="} x", b="2"}"#,
            "0 10 20 1 1 -1 -3 stale NaN",
        );
        check(
            r#"{a="1"}  _x2 1e-3 1e3-1e2x1 Inf -Inf"#,
            r#"{a="1"}"#,
            "_ _ 0.001 1000 900 inf -inf",
        );
        check(
            "h {{schema:0 sum:1}} {{count:1}}x2",
            r#"{__name__="h"}"#,
            "h h h h",
        );
        check("{} 1", "{}", "1");
        check("m", r#"{__name__="m"}"#, "");
    }

    #[test]
    fn malformed_values_are_named() {
        for bad in [
            "m 1+2",
            "m x",
            "m 1xx",
            "m 1+x3",
            "m --1",
            "m 1 {{",
            "m{a=1} 1",
            "m{a!=\"b\"} 1",
        ] {
            assert!(parse_series(bad).is_err(), "{bad}");
        }
    }
}
