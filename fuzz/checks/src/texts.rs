//! Short texts with a form of their own, and the exposition format.

use common::exposition::{Entry, Parser};
use common::identity::{Identity, JoinToken};
use common::{bytes, duration, listen};
use tidemark_alerting::notify::matcher;

/// A scrape. Lines are counted as a reader counts them, and nothing comes after a mistake.
///
/// # Panics
/// One of these does not hold.
pub fn exposition(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let lines = text.split('\n').count();
    let mut parser = Parser::new(text);
    while let Some(entry) = parser.next() {
        assert!(parser.line() <= lines);
        match entry {
            Ok(Entry::Sample { labels, .. }) => {
                let name = labels.metric_name();
                assert!(name.is_some_and(|name| !name.is_empty()));
            }
            Ok(Entry::Help { family, .. } | Entry::Type { family, .. }) => {
                assert!(!family.is_empty());
            }
            Err(error) => {
                assert!((1..=lines).contains(&error.line));
                assert!(parser.next().is_none(), "it ends after a mistake");
            }
        }
    }
}

/// Durations, sizes, addresses, SPIFFE IDs, join tokens, matchers of alerts. What has a printed form comes back from it.
///
/// # Panics
/// It does not.
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
