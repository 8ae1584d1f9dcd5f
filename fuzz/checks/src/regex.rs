//! Regular expressions of matchers and of relabelling.

use common::model::AnchoredRegex;

/// The first line is an expression, the others are values. Parentheses around the expression do not change its matches, in
/// whichever way it is matched, and matches agree with groups.
///
/// # Panics
/// One of these is violated.
pub fn regex(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let mut lines = text.split('\n');
    let source = lines.next().unwrap_or_default();
    let Ok(regex) = AnchoredRegex::new(source) else {
        return;
    };
    assert_eq!(regex.source(), source);
    // An unterminated quotation also quotes the parenthesis.
    if source.contains("\\Q") {
        return;
    }
    let grouped = match AnchoredRegex::new(&format!("(?:{source})")) {
        Ok(grouped) => Some(grouped),
        Err(error) => {
            // The size limits count the parentheses, and a flag group inside may end at ours.
            let text = error.to_string();
            assert!(
                text.contains("too large") || text.contains("nest"),
                "{source:?}: {text}"
            );
            None
        }
    };
    for value in lines.chain(["", "a", source]) {
        let matched = regex.is_match(value);
        if let Some(grouped) = &grouped {
            assert_eq!(grouped.is_match(value), matched, "{source:?} {value:?}");
        }
        assert_eq!(regex.captures(value).is_some(), matched, "{source:?}");
    }
}
