//! Regular expressions as Prometheus means them: RE2 syntax, matched against the whole value.

use regex::{Captures, Regex, RegexBuilder};

/// Upper bound of a compiled expression in memory, bytes.
const COMPILED_BYTES_MAX: usize = 10 << 20;

/// A pattern that can't be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {message}")]
pub struct RegexError {
    message: String,
}

/// A compiled expression, anchored at both ends, in which `.` matches a newline too
/// (Prometheus `model/labels/regexp.go`: `^(?s:…)$`). Matching is linear in the input's length.
#[derive(Debug, Clone)]
pub struct AnchoredRegex {
    source: String,
    compiled: Regex,
}

impl AnchoredRegex {
    /// Compiles `source`.
    ///
    /// # Errors
    /// `source` is not valid, or its compiled form exceeds the size bound.
    pub fn new(source: &str) -> Result<Self, RegexError> {
        let compiled = RegexBuilder::new(&format!("^(?s:{source})$"))
            .size_limit(COMPILED_BYTES_MAX)
            .build()
            .map_err(|error| RegexError {
                message: error.to_string(),
            })?;
        Ok(Self {
            source: source.to_owned(),
            compiled,
        })
    }

    /// The expression as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the whole of `value` matches.
    #[must_use]
    pub fn is_match(&self, value: &str) -> bool {
        self.compiled.is_match(value)
    }

    /// The groups of a match of the whole of `value`.
    #[must_use]
    pub fn captures<'v>(&self, value: &'v str) -> Option<Captures<'v>> {
        self.compiled.captures(value)
    }
}
