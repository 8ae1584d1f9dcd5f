//! Patterns that can be looked up instead of matched: a list of strings, or a literal prefix.

use regex_syntax::hir::literal::{ExtractKind, Extractor};

/// The part of a matcher's pattern that a look-up in the dictionary can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Literals {
    /// Matches exactly these strings.
    Exactly(Vec<String>),
    /// Every match begins with this.
    Prefix(String),
    /// No part.
    Unknown,
}

/// The largest number of strings that is looked up. A pattern with more is matched against each value.
const EXACT_MAX: usize = 256;

/// Analyses a pattern. The anchors and flags are those of [`common::model::AnchoredRegex`].
pub(crate) fn literals(source: &str) -> Literals {
    let mut parser = regex_syntax::ParserBuilder::new()
        .dot_matches_new_line(true)
        .build();
    let Ok(hir) = parser.parse(source) else {
        return Literals::Unknown;
    };
    if hir.properties().look_set().is_empty() {
        let mut extractor = Extractor::new();
        extractor
            .kind(ExtractKind::Prefix)
            .limit_total(EXACT_MAX)
            .limit_repeat(16)
            .limit_literal_len(4096);
        let sequence = extractor.extract(&hir);
        if let Some(found) = sequence.literals() {
            let texts: Option<Vec<String>> = found
                .iter()
                .map(|literal| String::from_utf8(literal.as_bytes().to_vec()).ok())
                .collect();
            if let Some(mut texts) = texts {
                if sequence.is_exact() {
                    texts.sort_unstable();
                    texts.dedup();
                    return Literals::Exactly(texts);
                }
                return common_prefix(&texts);
            }
        }
    }
    Literals::Unknown
}

fn common_prefix(texts: &[String]) -> Literals {
    let Some((first, rest)) = texts.split_first() else {
        return Literals::Unknown;
    };
    let shared = |other: &String| {
        first
            .char_indices()
            .zip(other.chars())
            .find(|((_, a), b)| a != b)
            .map_or(first.len().min(other.len()), |((at, _), _)| at)
    };
    let length = rest.iter().map(shared).min().unwrap_or(first.len());
    match first.get(..length) {
        Some(prefix) if !prefix.is_empty() => Literals::Prefix(prefix.to_owned()),
        _ => Literals::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, want: &[&str]) {
        let want = want.iter().map(|&text| text.to_owned()).collect();
        assert_eq!(literals(source), Literals::Exactly(want), "{source}");
    }

    #[test]
    fn alternations_and_classes_are_lists() {
        check("a", &["a"]);
        check("a|b|", &["", "a", "b"]);
        check("GET|P(OST|UT)", &["GET", "POST", "PUT"]);
        check("5[0-2]", &["50", "51", "52"]);
        check("", &[""]);
    }

    #[test]
    fn prefixes_are_found() {
        assert_eq!(literals("node_.+"), Literals::Prefix("node_".to_owned()));
        assert_eq!(literals("ab.*|ac"), Literals::Prefix("a".to_owned()));
        assert_eq!(literals(".*x"), Literals::Unknown);
        assert_eq!(literals("(?i)a.*"), Literals::Unknown);
        assert_eq!(literals("("), Literals::Unknown);
    }
}
