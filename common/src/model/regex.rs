//! Regular expressions of matchers: Go's RE2 syntax, matched against the whole value as in Prometheus.

mod translate;

use std::sync::OnceLock;

use regex::{Captures, Regex, RegexBuilder};

/// Maximum memory of a compiled expression, in bytes.
const COMPILED_BYTES_MAX: usize = 10 << 20;

/// A pattern that can't be compiled. The text is that of Go's `regexp/syntax`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {message}")]
pub struct RegexError {
    message: String,
}

/// Maximum length of an expression that is checked for a plain shape, in bytes.
const PLAIN_BYTES_MAX: usize = 1024;

/// An expression anchored at both ends, in which `.` also matches a newline
/// (Prometheus `model/labels/regexp.go`: `^(?s:…)$`). Matching is linear in the input's length.
///
/// Most expressions of dashboards are lists of names, or a prefix followed by `.*`. They are compared as text; an
/// automaton is only built for them when groups are requested.
#[derive(Debug, Clone)]
pub struct AnchoredRegex {
    source: String,
    shape: Shape,
    compiled: OnceLock<Regex>,
}

/// How an expression is matched.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// One of these texts.
    OneOf(Vec<Box<str>>),
    /// A text followed by anything; with `more`, by at least one character.
    Prefix { text: Box<str>, more: bool },
    /// Anything else.
    Automaton,
}

impl Shape {
    fn of(source: &str) -> Self {
        let is_plain = |text: &str| !text.contains(is_meta);
        if source.len() > PLAIN_BYTES_MAX {
            return Self::Automaton;
        }
        for (tail, more) in [(".*", false), (".+", true)] {
            if let Some(text) = source.strip_suffix(tail)
                && is_plain(text)
            {
                return Self::Prefix {
                    text: text.into(),
                    more,
                };
            }
        }
        if source.split('|').all(is_plain) {
            return Self::OneOf(source.split('|').map(Box::from).collect());
        }
        Self::Automaton
    }
}

/// Whether a character is an operator anywhere in an expression.
const fn is_meta(c: char) -> bool {
    matches!(
        c,
        '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$'
    )
}

fn compile(source: &str) -> Result<Regex, RegexError> {
    let translated = translate::translate(source)?;
    RegexBuilder::new(&format!("^(?s:{translated})$"))
        .size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| RegexError {
            message: match error {
                regex::Error::CompiledTooBig(_) => {
                    format!("expression too large: `{source}`")
                }
                other => other.to_string(),
            },
        })
}

impl AnchoredRegex {
    /// Compiles `source`.
    ///
    /// # Errors
    /// `source` is not valid, or its compiled form exceeds the size bound.
    pub fn new(source: &str) -> Result<Self, RegexError> {
        let shape = Shape::of(source);
        let compiled = match shape {
            Shape::Automaton => OnceLock::from(compile(source)?),
            Shape::OneOf(_) | Shape::Prefix { .. } => OnceLock::new(),
        };
        Ok(Self {
            source: source.to_owned(),
            shape,
            compiled,
        })
    }

    /// Returns the expression as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the whole of `value` matches.
    #[must_use]
    pub fn is_match(&self, value: &str) -> bool {
        match &self.shape {
            Shape::OneOf(texts) => texts.iter().any(|text| **text == *value),
            Shape::Prefix { text, more } => value
                .strip_prefix(&**text)
                .is_some_and(|rest| !more || !rest.is_empty()),
            Shape::Automaton => self.automaton().is_match(value),
        }
    }

    /// Returns the groups of a match of the whole of `value`.
    #[must_use]
    pub fn captures<'v>(&self, value: &'v str) -> Option<Captures<'v>> {
        self.automaton().captures(value)
    }

    fn automaton(&self) -> &Regex {
        self.compiled.get_or_init(|| {
            compile(&self.source)
                .expect("texts without operators, of bounded length, always compile")
        })
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
    fn classes_are_ascii() {
        check(r"\d+", &["12"], &["\u{661}", "a"]);
        check(r"\w+", &["a_1"], &["é"]);
        check(r"[\w\s]+", &["a b"], &["\u{a0}"]);
        check(r"\D", &["é", "a"], &["1"]);
        check(r"[^\D]", &["1"], &["a"]);
        check(r"[[:alpha:]]+", &["ab"], &["é", "1"]);
        check(r"\pL+", &["aé"], &["1"]);
    }

    #[test]
    fn syntax_is_go_syntax() {
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
    fn errors_match_those_of_go() {
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

    /// Checks that both ways to match agree.
    #[track_caller]
    fn check_shape(pattern: &str, want: &Shape, values: &[&str]) {
        let regex = AnchoredRegex::new(pattern).unwrap();
        assert_eq!(&regex.shape, want, "{pattern}");
        for value in values {
            let by_automaton = regex.captures(value).is_some();
            assert_eq!(
                regex.is_match(value),
                by_automaton,
                "{pattern} against {value:?}"
            );
        }
    }

    #[test]
    fn plain_shapes_match_like_their_automaton() {
        let values = ["", "a", "b", "ab", "a\nb", "a|b", "é", "aé", "a-1", "A"];
        let one_of = |texts: &[&str]| Shape::OneOf(texts.iter().map(|&t| t.into()).collect());
        let prefix = |text: &str, more| Shape::Prefix {
            text: text.into(),
            more,
        };
        check_shape("", &one_of(&[""]), &values);
        check_shape("a", &one_of(&["a"]), &values);
        check_shape("a|b|", &one_of(&["a", "b", ""]), &values);
        check_shape("a-1|é", &one_of(&["a-1", "é"]), &values);
        check_shape(".*", &prefix("", false), &values);
        check_shape(".+", &prefix("", true), &values);
        check_shape("a.*", &prefix("a", false), &values);
        check_shape("é.+", &prefix("é", true), &values);
        check_shape("a|b.*", &Shape::Automaton, &values);
        check_shape("a.", &Shape::Automaton, &values);
        check_shape(r"a\|b", &Shape::Automaton, &values);
        check_shape("(?i)a", &Shape::Automaton, &values);
        check_shape(&"a".repeat(PLAIN_BYTES_MAX + 1), &Shape::Automaton, &values);
    }

    #[test]
    fn unbalanced_parenthesis_is_refused() {
        assert!(AnchoredRegex::new("a)|(b").is_err());
    }
}
