//! Regular expressions of matchers and of relabelling.

use common::model::AnchoredRegex;

/// The first line is an expression, the others are values. Put into parentheses the expression means the same, whichever
/// way it is matched then; and what it says of a value agrees with its groups.
///
/// # Panics
/// It does not.
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
    // A quotation that is not ended quotes the parenthesis too.
    if source.contains("\\Q") {
        return;
    }
    let grouped = match AnchoredRegex::new(&format!("(?:{source})")) {
        Ok(grouped) => Some(grouped),
        Err(error) => {
            // The bounds on size count the parentheses; a flag group inside may end at ours.
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
