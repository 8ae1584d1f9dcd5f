//! `label_replace` and `label_join`.

use common::model::{AnchoredRegex, Labels, label::METRIC_NAME};

use crate::eval::series::{Series, Steps, Vector, merge_relabeled};
use crate::eval::{Evaluated, Evaluator};
use crate::parser::ast::Call;

/// `label_replace(v, dst, replacement, src, regex)`
pub(crate) fn replace(evaluator: &Evaluator<'_>, call: &Call, steps: Steps) -> Evaluated<Vector> {
    const WHAT: &str = "label_replace()";
    let mut texts = strings(evaluator, call, steps)?.into_iter();
    let mut next = || texts.next().unwrap_or_default();
    let (target, replacement, source, pattern) = (next(), next(), next(), next());
    let regex = std::str::from_utf8(&pattern)
        .ok()
        .and_then(|pattern| AnchoredRegex::new(pattern).ok());
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
        set_label(evaluator, series, &target, text)?;
    }
    merge_relabeled(vector)
}

/// `label_join(v, dst, separator, src, …)`
pub(crate) fn join(evaluator: &Evaluator<'_>, call: &Call, steps: Steps) -> Evaluated<Vector> {
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
        set_label(evaluator, series, &target, text)?;
    }
    merge_relabeled(vector)
}

/// Evaluates the string arguments, which follow the vector.
fn strings(evaluator: &Evaluator<'_>, call: &Call, steps: Steps) -> Evaluated<Vec<Vec<u8>>> {
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
) -> Evaluated<String> {
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

/// Sets a label; a metric name that is set here is not dropped later.
fn set_label(
    evaluator: &Evaluator<'_>,
    series: &mut Series,
    name: &str,
    value: String,
) -> Evaluated<()> {
    let mut builder = series.labels.to_builder();
    builder.set(name, value);
    let labels: Labels = builder
        .build()
        .map_err(|error| evaluator.execution(error.to_string()))?;
    series.labels = labels;
    if name == METRIC_NAME {
        series.drop_name = false;
    }
    Ok(())
}

/// Expands `$1`, `${1}`, `$name`, `${name}` and `$$` as Go's `Regexp.Expand` does. An unknown group is empty; a dollar
/// sign that no group name follows stays.
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

/// Splits the group name at the start of `text`, which follows a dollar sign, from what comes after it.
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
