//! Label matchers of selectors.

use std::fmt;

use super::regex::{AnchoredRegex, RegexError};

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// Returns the operator as written in a selector.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// A label name, an operator and a value. An absent label has the empty value.
#[derive(Debug, Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    regex: Option<AnchoredRegex>,
}

impl Matcher {
    /// Creates a matcher. Compiles the regex of `=~` and `!~`.
    ///
    /// # Errors
    /// The value of a regex matcher is not a valid RE2 expression, or its compiled form is too large.
    pub fn new(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Self, RegexError> {
        let value = value.into();
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(AnchoredRegex::new(&value)?),
        };
        Ok(Self {
            name: name.into(),
            op,
            value,
            regex,
        })
    }

    /// Creates the matcher `name="value"`.
    #[must_use]
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            op: MatchOp::Equal,
            value: value.into(),
            regex: None,
        }
    }

    /// Returns the label's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the operator.
    #[must_use]
    pub const fn op(&self) -> MatchOp {
        self.op
    }

    /// Returns the value or the regex source, as written.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Returns the compiled regex of `=~` and `!~`.
    #[must_use]
    pub const fn regex(&self) -> Option<&AnchoredRegex> {
        self.regex.as_ref()
    }

    /// Whether a label with this value (empty when absent) matches.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        let regex_matches = || {
            self.regex
                .as_ref()
                .is_some_and(|regex| regex.is_match(value))
        };
        match self.op {
            MatchOp::Equal => self.value == value,
            MatchOp::NotEqual => self.value != value,
            MatchOp::Regex => regex_matches(),
            MatchOp::NotRegex => !regex_matches(),
        }
    }

    /// Whether a series without the label matches.
    #[must_use]
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    /// Formats the matcher as in a selector, with the value quoted: `job=~"a|b"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(op: MatchOp, pattern: &str, value: &str, want: bool) {
        let matcher = Matcher::new("l", op, pattern).unwrap();
        assert_eq!(matcher.matches(value), want, "{matcher} against {value:?}");
    }

    #[test]
    fn absent_label_is_the_empty_value() {
        check(MatchOp::Equal, "", "", true);
        check(MatchOp::NotEqual, "x", "", true);
        check(MatchOp::Regex, ".*", "", true);
        check(MatchOp::Regex, ".+", "", false);
        check(MatchOp::NotRegex, ".+", "", true);
    }

    #[test]
    fn regex_is_anchored_and_dot_matches_newline() {
        check(MatchOp::Regex, "a", "ab", false);
        check(MatchOp::Regex, "a|b", "ab", false);
        check(MatchOp::Regex, "a.b", "a\nb", true);
        check(MatchOp::NotRegex, "a.*", "abc", false);
    }
}
