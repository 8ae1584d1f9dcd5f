//! Functions shared by the templates of rules and notifications.

use std::sync::Arc;

use regex::Regex;

use super::functions::{Env, Function, fixed, float, text};
use super::humanize::humanize_duration;
use super::value::Value;

/// Functions available in both Prometheus and Alertmanager.
pub(super) static SHARED: &[Function] = &[
    fixed("reReplaceAll", 3, replace_all),
    fixed("safeHtml", 1, |_, args| {
        Ok(Value::Html(Arc::from(text(args, 0)?)))
    }),
    fixed("match", 2, |_, args| {
        Ok(Value::Bool(regex(text(args, 0)?)?.is_match(text(args, 1)?)))
    }),
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

/// Compiles a pattern used in a template. The regex crate's default limit bounds its size.
pub(super) fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| format!("regexp: {error}"))
}
