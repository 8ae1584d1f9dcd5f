//! Regular expressions as Prometheus means them: Go's RE2 syntax, matched against the whole value.

mod translate;

use regex::{Captures, Regex, RegexBuilder};

/// Upper bound of a compiled expression in memory, bytes.
const COMPILED_BYTES_MAX: usize = 10 << 20;

/// A pattern that can't be compiled. The text is that of Go's `regexp/syntax`.
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
        let translated = translate::translate(source)?;
        let compiled = RegexBuilder::new(&format!("^(?s:{translated})$"))
            .size_limit(COMPILED_BYTES_MAX)
            .build()
            .map_err(|error| RegexError {
                message: match error {
                    regex::Error::CompiledTooBig(_) => {
                        format!("expression too large: `{source}`")
                    }
                    other => other.to_string(),
                },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let regex = AnchoredRegex::new(pattern).unwrap();
        for value in matching {
            assert!(regex.is_match(value), "{pattern} against {value:?}");
        }
        for value in others {
            assert!(!regex.is_match(value), "{pattern} against {value:?}");
        }
    }

    #[test]
    fn classes_are_those_of_ascii() {
        check(r"\d+", &["12"], &["\u{661}", "a"]);
        check(r"\w+", &["a_1"], &["é"]);
        check(r"[\w\s]+", &["a b"], &["\u{a0}"]);
        check(r"\D", &["é", "a"], &["1"]);
        check(r"[^\D]", &["1"], &["a"]);
        check(r"[[:alpha:]]+", &["ab"], &["é", "1"]);
        check(r"\pL+", &["aé"], &["1"]);
    }

    #[test]
    fn syntax_is_that_of_go() {
        check(r"\Qa.b\E.", &["a.bc"], &["axbc"]);
        check("a{,2}", &["a{,2}"], &["a", "aa"]);
        check("a{2}", &["aa"], &["a"]);
        check("{", &["{"], &[]);
        check("[]a]", &["]", "a"], &["b"]);
        check("[a&&b]", &["a", "&", "b"], &["c"]);
        check("(?i)abc|d", &["ABC", "D"], &["x"]);
        check("a.c", &["a\nc"], &["ac"]);
        check("(?-s).", &["a"], &["\n"]);
        check(r"\x41\x{42}\103\a", &["ABC\u{7}"], &[]);
        check("(?P<n>a)(?<m>b)", &["ab"], &[]);
        check("a|", &["a", ""], &["b"]);
        check(r"foo\z", &["foo"], &["foo\n"]);
        check("(?m)^a$", &["a"], &["b"]);
    }

    #[test]
    fn errors_are_those_of_go() {
        let cases = [
            ("(", "missing closing ): `(`"),
            ("a)", "unexpected ): `a)`"),
            ("[a", "missing closing ]: `[a`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("a|*", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a???", "invalid nested repetition operator: `???`"),
            ("a{2,1}", "invalid repeat count: `{2,1}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("(a{100}){100}", "invalid repeat count: `{100}`"),
            (r"\q", r"invalid escape sequence: `\q`"),
            (r"\8", r"invalid escape sequence: `\8`"),
            ("\\", "trailing backslash at end of expression: ``"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            (r"\p{Foo}", r"invalid character class range: `\p{Foo}`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?P<n", "invalid named capture: `(?P<n`"),
            ("(?P<a b>c)", "invalid named capture: `(?P<a b>`"),
        ];
        for (pattern, want) in cases {
            let error = AnchoredRegex::new(pattern).unwrap_err();
            assert_eq!(error.message, want, "{pattern}");
        }
    }

    #[test]
    fn what_would_leave_the_group_is_refused() {
        assert!(AnchoredRegex::new("a)|(b").is_err());
    }
}
