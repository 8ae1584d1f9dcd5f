//! Errors keep their causes: on the way up (`source`), and in the log line (`chain`).

use std::sync::LazyLock;

use regex::Regex;

use super::workspace::{TextFile, assert_none, rust_files};

/// Folders whose files still break a rule. Only shrinks.
const NOT_YET: &[&str] = &["agent/src/collectors/", "aggregator/alerting/"];

fn is_checked(file: &TextFile) -> bool {
    !NOT_YET.iter().any(|folder| file.path.starts_with(folder))
}

/// The arguments of each macro call that writes a log line, with their offset.
fn log_lines(text: &str) -> Vec<(usize, &str)> {
    static START: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b(?:error|warn|info|debug|trace|event)!\(").unwrap());
    let calls = START.find_iter(text);
    let bodies = calls.filter_map(|call| Some((call.start(), arguments(text.get(call.end()..)?))));
    bodies.collect()
}

/// The text up to the parenthesis that closes a call.
fn arguments(text: &str) -> &str {
    let (mut depth, mut quoted, mut escaped) = (1_usize, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return text.get(..at).unwrap_or_default();
        }
    }
    text
}

/// Log lines that show `Display` or `Debug` of an error without its causes.
fn lines_without_cause(text: &str) -> Vec<usize> {
    static BARE: LazyLock<Regex> = LazyLock::new(|| {
        let field = r"(?:^|[,{(\s])(?:\w+\s*=\s*)?[%?]\s*";
        let name = r"(?:error|err|e|cause|failure|source)\s*(?:,|$)";
        Regex::new(&format!(r"{field}{name}|\berror\s*=\s*[%?]")).unwrap()
    });
    let lines = log_lines(text).into_iter();
    lines
        .filter(|(_, body)| BARE.is_match(body))
        .map(|(at, _)| at)
        .collect()
}

/// Messages of errors that repeat their source.
fn messages_with_source(text: &str) -> Vec<usize> {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        let named = r#"#\[error\(\s*"[^"]*\{(?:source\b|cause\b|error\})[^"]*""#;
        let tuple =
            r#"#\[error\(\s*"[^"]*\{0[^"]*"\)\]\s*(?:///[^\n]*\s*)*\w+\(\s*#\[(?:from|source)\]"#;
        Regex::new(&format!("{named}|{tuple}")).unwrap()
    });
    PATTERN.find_iter(text).map(|found| found.start()).collect()
}

fn findings(find: impl Fn(&str) -> Vec<usize>) -> Vec<String> {
    let mut found = Vec::new();
    for file in rust_files().iter().filter(|file| is_checked(file)) {
        if !file.path.ends_with("integration/error_reports.rs") {
            found.extend(find(&file.text).into_iter().map(|at| file.place(at)));
        }
    }
    found
}

#[test]
fn log_lines_carry_the_whole_chain() {
    assert_none(
        &findings(lines_without_cause),
        "log `error = chain(&error)`, so that the reason is not lost",
    );
}

#[test]
fn messages_do_not_repeat_their_source() {
    assert_none(
        &findings(messages_with_source),
        "leave the source out of the message: `chain` adds it",
    );
}

#[test]
fn both_rules_find_what_they_forbid() {
    for bad in [
        r#"warn!(%error, "x")"#,
        r#"tracing::warn!(path = %a.display(), %error)"#,
        r#"error!(error = %error, "x")"#,
        r#"error!(error = %chain(&error), "x")"#,
        "info!(\n    why = ?e,\n    \"x\"\n)",
    ] {
        assert_eq!(lines_without_cause(bad).len(), 1, "{bad}");
    }
    for good in [
        r#"warn!(error = chain(&error), path = %path.display(), "x")"#,
        r#"let text = format!("{error}"); info!("50 %e and %error x")"#,
    ] {
        assert_eq!(lines_without_cause(good).len(), 0, "{good}");
    }
    for bad in [
        r#"#[error("a: {source}")]"#,
        r#"#[error("a: {0}")] B(#[from] io::Error)"#,
    ] {
        assert_eq!(messages_with_source(bad).len(), 1, "{bad}");
    }
    for good in [
        r#"#[error("a")] B(#[from] io::Error)"#,
        r#"#[error("a: {0}")] B(String)"#,
    ] {
        assert_eq!(messages_with_source(good).len(), 0, "{good}");
    }
}
