//! Shows an error with all its causes, once, where it is handled.

use std::error::Error;
use std::fmt::Write as _;

/// The messages of an error and its sources, outermost first: `open store: lock ./data: in use`.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        // An error that shows its source itself would be said twice.
        if !text.ends_with(&message) && write!(text, ": {message}").is_err() {
            break;
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open store")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_in_order() {
        let error = Outer(std::io::Error::other("disk is gone"));
        assert_eq!(chain(&error), "open store: disk is gone");
    }
}
