//! Functions that rules' and notifications' templates have in common.

use std::sync::Arc;

use regex::Regex;

use super::functions::{Env, Function, fixed, float, text};
use super::humanize::humanize_duration;
use super::value::Value;

/// Prometheus' and Alertmanager's.
pub(super) static SHARED: &[Function] = &[
    fixed("reReplaceAll", 3, replace_all),
    fixed("safeHtml", 1, |_, args| {
        Ok(Value::Html(Arc::from(text(args, 0)?)))
    }),
    fixed("match", 2, |_, args| {
        Ok(Value::Bool(regex(text(args, 0)?)?.is_match(text(args, 1)?)))
    }),
    fixed("title", 1, |_, args| Ok(Value::text(title(text(args, 0)?)))),
    fixed("toUpper", 1, |_, args| {
        Ok(Value::text(text(args, 0)?.to_uppercase()))
    }),
    fixed("toLower", 1, |_, args| {
        Ok(Value::text(text(args, 0)?.to_lowercase()))
    }),
    fixed("humanizeDuration", 1, |_, args| {
        Ok(Value::text(humanize_duration(float(args, 0)?)))
    }),
];

pub(super) fn replace_all(_: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let pattern = regex(text(args, 0)?)?;
    Ok(Value::text(
        pattern
            .replace_all(text(args, 2)?, text(args, 1)?)
            .into_owned(),
    ))
}

/// Compiles a pattern of a template; the size bound is the crate's own.
pub(super) fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| format!("regexp: {error}"))
}

/// Upper case for the first letter of each word, the rest as it is.
pub(super) fn title(text: &str) -> String {
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
