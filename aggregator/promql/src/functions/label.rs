//! `label_replace` and `label_join`.

use common::model::{AnchoredRegex, Labels};

use crate::error::QueryError;
use crate::eval::Evaluator;
use crate::eval::series::{Steps, Vector, refuse_same_labels};
use crate::parser::ast::Call;

/// `label_replace(v, dst, replacement, src, regex)`
pub(crate) fn replace(
    evaluator: &Evaluator<'_>,
    call: &Call,
    steps: Steps,
) -> Result<Vector, QueryError> {
    const WHAT: &str = "label_replace()";
    let mut texts = strings(evaluator, call, steps)?.into_iter();
    let mut next = || texts.next().unwrap_or_default();
    let (target, replacement, source, pattern) = (next(), next(), next(), next());
    let regex = String::from_utf8(pattern.clone())
        .ok()
        .and_then(|pattern| AnchoredRegex::new(&pattern).ok());
    let Some(regex) = regex else {
        let pattern = String::from_utf8_lossy(&pattern).into_owned();
        let message = format!("invalid regular expression in {WHAT}: {pattern}");
        return Err(evaluator.execution(message));
    };
    let target = label_name(evaluator, target, "destination", WHAT)?;
    let source = String::from_utf8_lossy(&source).into_owned();
    let replacement = String::from_utf8_lossy(&replacement).into_owned();
    let mut vector = evaluator.argument(call, 0, steps)?;
    for series in &mut vector {
        let value = series.labels.get(&source).unwrap_or("");
        let Some(captures) = regex.captures(value) else {
            continue;
        };
        let mut text = String::new();
        expand(&replacement, &captures, &mut text);
        series.labels = with_label(evaluator, &series.labels, &target, text)?;
        if target == common::model::label::METRIC_NAME {
            series.drop_name = false;
        }
    }
    refuse_same_labels(&vector)?;
    Ok(vector)
}

/// `label_join(v, dst, separator, src, …)`
pub(crate) fn join(
    evaluator: &Evaluator<'_>,
    call: &Call,
    steps: Steps,
) -> Result<Vector, QueryError> {
    const WHAT: &str = "label_join()";
    let mut texts = strings(evaluator, call, steps)?.into_iter();
    let mut next = || texts.next().unwrap_or_default();
    let (target, separator) = (next(), next());
    let mut sources = Vec::new();
    for source in texts {
        sources.push(label_name(evaluator, source, "source", WHAT)?);
    }
    let target = label_name(evaluator, target, "destination", WHAT)?;
    let separator = String::from_utf8_lossy(&separator).into_owned();
    let mut vector = evaluator.argument(call, 0, steps)?;
    for series in &mut vector {
        let values: Vec<_> = sources
            .iter()
            .map(|source| series.labels.get(source).unwrap_or(""))
            .collect();
        let text = values.join(&separator);
        series.labels = with_label(evaluator, &series.labels, &target, text)?;
        if target == common::model::label::METRIC_NAME {
            series.drop_name = false;
        }
    }
    refuse_same_labels(&vector)?;
    Ok(vector)
}

/// The string arguments, from the second on.
fn strings(
    evaluator: &Evaluator<'_>,
    call: &Call,
    steps: Steps,
) -> Result<Vec<Vec<u8>>, QueryError> {
    let args = call.args.get(1..).unwrap_or_default();
    args.iter()
        .map(|arg| evaluator.string(arg, steps))
        .collect()
}

fn label_name(
    evaluator: &Evaluator<'_>,
    text: Vec<u8>,
    role: &str,
    function: &str,
) -> Result<String, QueryError> {
    match String::from_utf8(text) {
        Ok(name) if !name.is_empty() => Ok(name),
        invalid => {
            let bytes = invalid.map_or_else(|error| error.into_bytes(), String::into_bytes);
            let name = String::from_utf8_lossy(&bytes);
            let message = format!("invalid {role} label name in {function}: {name}");
            Err(evaluator.execution(message))
        }
    }
}

fn with_label(
    evaluator: &Evaluator<'_>,
    labels: &Labels,
    name: &str,
    value: String,
) -> Result<Labels, QueryError> {
    let mut builder = labels.to_builder();
    builder.set(name, value);
    builder
        .build()
        .map_err(|error| evaluator.execution(error.to_string()))
}

/// Expands `$1`, `${1}`, `$name`, `${name}` and `$$` (Go's `Regexp.Expand`). An unknown group is empty; a dollar
/// that begins no group stays.
fn expand(template: &str, captures: &regex::Captures<'_>, out: &mut String) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let Some((name, after)) = group_name(after) else {
            out.push('$');
            rest = after;
            continue;
        };
        let group = match name.parse::<usize>() {
            Ok(number) => captures.get(number),
            Err(_) => captures.name(name),
        };
        out.push_str(group.map_or("", |group| group.as_str()));
        rest = after;
    }
    out.push_str(rest);
}

/// The name behind a dollar, and what follows it.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let (braced, text) = match text.strip_prefix('{') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let end = text
        .find(|char: char| char != '_' && !char.is_alphanumeric())
        .unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    if name.is_empty() {
        return None;
    }
    if braced {
        return Some((name, rest.strip_prefix('}')?));
    }
    Some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, want: &str) {
        let regex = AnchoredRegex::new("(a)(?P<name>b)?(c)?").unwrap();
        let captures = regex.captures("ab").unwrap();
        let mut out = String::new();
        expand(template, &captures, &mut out);
        assert_eq!(out, want, "{template}");
    }

    #[test]
    fn templates_expand_as_in_go() {
        check("$1-${2}", "a-b");
        check("$name", "b");
        check("$1x", "");
        check("${1}x", "ax");
        check("$3$9", "");
        check("$$1 $ ${ $-", "$1 $ ${ $-");
    }
}
