//! Renders an error together with all its causes.
//!
//! An error of this workspace describes only its own step (`open store`) and keeps the cause as its `source`, so
//! `Display` alone drops the reason. The code that handles an error renders the chain:
//! `tracing::warn!(error = chain(&error), "store alert")`. A tidy test refuses `%error` in log lines.

use std::error::Error;
use std::fmt::Write as _;

/// Joins the messages of an error and its sources, outermost first: `open store: lock ./data: in use`.
///
/// A cause whose message the text already contains as a whole is not repeated: some libraries put their source into
/// `Display`. For an `anyhow::Error` or a `Box<dyn Error>`, pass `error.as_ref()`.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        if !contains_whole(&text, &message) && write!(text, ": {message}").is_err() {
            break;
        }
        source = cause.source();
    }
    text
}

/// Whether `message` occurs in `text` and no word is cut at either end.
fn contains_whole(text: &str, message: &str) -> bool {
    let is_boundary = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
    message.is_empty()
        || text.match_indices(message).any(|(start, found)| {
            let before = text.get(..start).and_then(|text| text.chars().next_back());
            let after = text.get(start + found.len()..);
            is_boundary(before) && is_boundary(after.and_then(|text| text.chars().next()))
        })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<dyn Error + Send + Sync>>,
    }

    /// An error with these messages, outermost first.
    fn error(messages: &[&'static str]) -> Layer {
        let (text, rest) = messages.split_first().unwrap_or((&"", &[]));
        let source = (!rest.is_empty()).then(|| Box::new(error(rest)) as Box<_>);
        Layer { text, source }
    }

    #[track_caller]
    fn check(messages: &[&'static str], want: &str) {
        assert_eq!(chain(&error(messages)), want);
    }

    #[test]
    fn causes_follow_in_order() {
        check(
            &["open store", "lock ./data", "in use"],
            "open store: lock ./data: in use",
        );
    }

    #[test]
    fn cause_within_display_is_not_repeated() {
        check(&["connect: refused", "refused"], "connect: refused");
        check(&["a: b (c)", "b (c)", "c", "d"], "a: b (c): d");
        check(&["tls", ""], "tls");
    }

    #[test]
    fn cause_that_is_part_of_a_word_is_kept() {
        check(&["read settings", "ttl", "set"], "read settings: ttl: set");
    }

    #[test]
    fn boxed_error_is_passed_as_reference() {
        let boxed: Box<dyn Error + Send + Sync> = Box::new(error(&["write", "disk is full"]));
        assert_eq!(chain(boxed.as_ref()), "write: disk is full");
        let wrapped = io::Error::other(error(&["write", "disk is full"]));
        assert_eq!(chain(&wrapped), "write: disk is full");
    }
}
