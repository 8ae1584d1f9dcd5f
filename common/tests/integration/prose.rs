//! Comments, documents, help texts and log lines avoid phrases that readers had to read twice.

use std::sync::LazyLock;

use regex::Regex;

use super::workspace::{TextFile, assert_none, text_files};

/// A phrase, and what to write in its place. Each of them was found dozens of times in a sense that an English reader
/// does not expect.
const PHRASES: &[(&str, &str)] = &[
    (r"anew", "again"),
    (r"for want of", "for lack of"),
    (r"pass(?:ed|ing) over", "skip"),
    (
        r"(?:is|are|was|were|be|been|being|gets?) told",
        "receives, is passed, is reported",
    ),
    (
        r"(?:tells?|told) (?:of|about) (?:it|them)sel(?:f|ves)",
        "reports",
    ),
    (r"told apart", "distinguished"),
    (
        r"(?:all|anything|everything|nothing|none|every \w+|any \w+) but for",
        "except",
    ),
    (
        r"left out|leaves? out|leaving out",
        "omitted, skipped, dropped",
    ),
    (r"twins?", "duplicate, counterpart"),
    (r"of late", "recently"),
    (
        r"whereof|thereof|hitherto|thrice|whoever|whosoever",
        "plain words",
    ),
    (r"vouch(?:es|ed)?", "guarantees, limits"),
    (r"(?:its|their) like", "similar ones"),
    (r"ends? badly", "fails"),
    (r"so long as", "while, as long as"),
    (r"what comes twice", "duplicates"),
    (r"unpack(?:s|ed|ing)? to", "decompress"),
    (
        r"hold(?:s|ing)? (?:it|them|this|that|the \w+) to|(?:is|are|be) held to",
        "checks against",
    ),
    (
        r"(?:bytes|lines|ticks|series|samples|records|entries|text|rows|anything|nothing|something|comes?|came|sent|stands?|appended|added|written|put|goes|follows?) behind",
        "after, beyond",
    ),
    (
        r"behind (?:which|whom|the (?:end|last|first|newest|oldest|value|point|header|name|colon|comma|dot))",
        "after, beyond",
    ),
    (
        r"(?:value|sample|state|time)s? (?:of|at) (?:the|a|that|this) moment",
        "timestamp, at a time",
    ),
];

/// `X is no Y` for `X is not a Y`; `there is no Y` and `is no longer` are English.
const NEGATION: &str = r"(?i)(\w+) (?:is|are|was|were) no (\w+)";

fn is_odd_negation(subject: &str, object: &str) -> bool {
    let is_existence = ["there", "here", "where"].contains(&&*subject.to_lowercase());
    let is_idiom = [
        "longer", "more", "less", "better", "worse", "matter", "such", "way", "need",
    ]
    .contains(&&*object.to_lowercase());
    !is_existence && !is_idiom
}

/// Any space in a phrase may be a line break with the next line's comment marker.
const SPACE: &str = r"[ \n/*#!]+";

static PHRASE: LazyLock<Regex> = LazyLock::new(|| {
    let alternatives = PHRASES.iter().map(|(phrase, _)| format!("({phrase})"));
    let alternatives: Vec<_> = alternatives.collect();
    let spaced = alternatives.join("|").replace(' ', SPACE);
    Regex::new(&format!(r"(?i)\b(?:{spaced})\b")).unwrap()
});

static NEGATED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&NEGATION.replace(' ', SPACE)).unwrap());

/// Offsets of the phrases in a text, and what to write.
fn odd_phrases(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for hit in PHRASE.captures_iter(text) {
        let whole = hit.get(0).unwrap();
        let index = (1..hit.len()).find(|&group| hit.get(group).is_some());
        let instead = PHRASES[index.unwrap() - 1].1;
        found.push((whole.start(), format!("{:?}: {instead}", whole.as_str())));
    }
    for hit in NEGATED.captures_iter(text) {
        if is_odd_negation(&hit[1], &hit[2]) {
            let whole = hit.get(0).unwrap();
            found.push((whole.start(), format!("{:?}: is not a", whole.as_str())));
        }
    }
    found
}

/// Whether a person wrote the file for other persons to read.
fn is_prose(file: &TextFile) -> bool {
    let path = file.path.to_str().unwrap_or_default();
    let folders = ["scripts/", "deploy/", ".ci/"];
    let suffixes = [
        ".rs", ".md", ".toml", ".sh", ".yml", ".yaml", ".html", ".js",
    ];
    let is_input = ["/corpus/", "/fixtures/", "/cases/"]
        .iter()
        .any(|part| path.contains(part));
    let is_text = folders.iter().any(|folder| path.starts_with(folder))
        || suffixes.iter().any(|suffix| path.ends_with(suffix));
    // This file names the phrases.
    is_text && !is_input && !path.ends_with("integration/prose.rs")
}

#[test]
fn text_has_no_odd_phrases() {
    let mut found = Vec::new();
    for file in text_files().iter().filter(|file| is_prose(file)) {
        for (at, phrase) in odd_phrases(&file.text) {
            found.push(format!("{}: {phrase}", file.place(at)));
        }
    }
    assert_none(&found, "phrases that must be read twice");
}

#[test]
fn phrases_are_found_across_lines_and_english_is_not() {
    for odd in [
        "// Built\n// anew.",
        "Samples refused for want\nof memory",
        "the bytes behind it",
        "a text that is no number",
        "who is\n    /// told",
    ] {
        assert_eq!(odd_phrases(odd).len(), 1, "{odd}");
    }
    for plain in [
        "a_name_anew",
        "there is no file",
        "it is no longer open",
        "hidden behind a trait",
        "a lock behind an Arc",
    ] {
        assert_eq!(odd_phrases(plain).len(), 0, "{plain}");
    }
}

/// One word for different things makes code hard to search.
const BARE_NAMES: &[(&str, usize)] = &[
    // Name, and how many types may have it. Only shrinks, to 1.
    ("Entry", 5),
    ("Found", 4),
    ("Kind", 3),
    ("Place", 1),
    ("State", 8),
];

#[test]
fn bare_type_names_are_used_once() {
    let declaration =
        Regex::new(r"(?m)^\s*(?:pub(?:\(\w+\))? )?(?:struct|enum|type|trait) (\w+)").unwrap();
    let files = super::workspace::rust_files();
    let mut problems = Vec::new();
    for (name, allowed) in BARE_NAMES {
        let mut places = Vec::new();
        for file in &files {
            let types = declaration.captures_iter(&file.text);
            let types = types.filter(|found| &found[1] == *name);
            places.extend(types.map(|found| file.place(found.get(1).unwrap().start())));
        }
        if places.len() > *allowed {
            problems.push(format!("{name}: {}", places.join(", ")));
        }
    }
    assert_none(&problems, "qualify these names (`LogEntry`, `WalState`)");
}
