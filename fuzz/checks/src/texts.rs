//! Short texts with their own syntax, and the exposition format.

use common::exposition::{ExpositionLine, Parser};
use common::identity::{Identity, JoinToken};
use common::{bytes, duration, listen};
use tidemark_alerting::notify::matcher;

/// A scrape. Line numbers are correct, and the parser ends after an error.
///
/// # Panics
/// One of these is violated.
pub fn exposition(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let lines = text.split('\n').count();
    let mut parser = Parser::new(text);
    while let Some(entry) = parser.next() {
        assert!(parser.line() <= lines);
        match entry {
            Ok(ExpositionLine::Sample { labels, .. }) => {
                let name = labels.metric_name();
                assert!(name.is_some_and(|name| !name.is_empty()));
            }
            Ok(ExpositionLine::Help { family, .. } | ExpositionLine::Type { family, .. }) => {
                assert!(!family.is_empty());
            }
            Err(error) => {
                assert!((1..=lines).contains(&error.line));
                assert!(parser.next().is_none(), "the parser ends after an error");
            }
        }
    }
}

/// Durations, sizes, addresses, SPIFFE IDs, join tokens, matchers of alerts. Printed forms round-trip.
///
/// # Panics
/// A printed form differs.
pub fn texts(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    drop(bytes::parse(text));
    drop(duration::parse(text));
    if let Ok(address) = listen::parse(text) {
        assert_eq!(listen::parse(&address.to_string()).ok(), Some(address));
    }
    if let Some(identity) = Identity::parse(text) {
        assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
    }
    if let Ok(token) = JoinToken::parse(text) {
        let again = JoinToken::parse(&token.reveal()).map(|token| token.credential());
        assert_eq!(again.ok(), Some(token.credential()));
    }
    if let Ok(matchers) = matcher::parse(text) {
        let printed = matcher::format(&matchers);
        let again = matcher::parse(&printed).map(|matchers| matcher::format(&matchers));
        assert_eq!(again.as_deref(), Ok(&*printed), "{text:?}");
    }
}
