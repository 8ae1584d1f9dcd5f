//! YAML with places: a tree that remembers line and column of each node, and readers that collect all mistakes.
//!
//! Rule files and alertmanager.yml are read through this and not through serde: a mistake must name its place, all of
//! them are reported at once, and scalars must read as Go's yaml.v3 reads them (`severity: 1` is a text).

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span};

/// Nodes of one document, aliases counted with all they stand for.
const NODES_MAX: u64 = 2_000_000;
/// Nesting of one document.
const DEPTH_MAX: usize = 64;

/// Line and column, both from 1. Displays as `line:column`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A mistake and where it is. Displays as `line:column: message`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Issue {
    /// Where.
    pub place: Place,
    /// What.
    pub message: String,
}

impl Issue {
    /// A mistake at `place`.
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
        }
    }
}

/// The mistakes found so far.
pub type Issues = Vec<Issue>;

/// A node of the document.
#[derive(Debug)]
pub struct Node {
    /// Where it starts.
    pub place: Place,
    /// What it is.
    pub value: Yaml,
    size: u64,
}

/// The kinds of node.
#[derive(Debug)]
pub enum Yaml {
    /// Nothing, `~` or `null`.
    Null,
    /// A text; `plain` when it stands without quotes.
    Scalar {
        /// The text.
        text: String,
        /// Whether it is neither quoted nor a block.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Rc<Node>>),
    /// A mapping, in the order of the file.
    Map(Vec<(Rc<Node>, Rc<Node>)>),
}

struct Composer<'a> {
    parser: Parser<'a, serde_saphyr::granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Rc<Node>>,
}

/// Reads the first document of `text`; `None` when there is none.
///
/// # Errors
/// The text is no YAML, nests too deeply, or its aliases stand for too much.
pub fn read(text: &str) -> Result<Option<Rc<Node>>, Issue> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut composer = Composer {
        parser: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
    };
    loop {
        let (event, span) = composer.next()?;
        match event {
            Event::StreamEnd => return Ok(None),
            Event::StreamStart | Event::DocumentStart(..) => {}
            Event::DocumentEnd => return Ok(None),
            event => return composer.node(event, span, 0).map(Some),
        }
    }
}

fn place(span: Span) -> Place {
    Place {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

impl<'a> Composer<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Issue> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Anchor(..), _))) => {}
                Some(Ok(event)) => return Ok(event),
                Some(Err(error)) => {
                    let at = Place {
                        line: error.marker().line(),
                        column: error.marker().col() + 1,
                    };
                    return Err(Issue::new(at, format!("yaml: {}", error.info())));
                }
                None => return Ok((Event::StreamEnd, Span::default())),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Rc<Node>, Issue> {
        let place = place(span);
        if depth > DEPTH_MAX {
            return Err(Issue::new(
                place,
                format!("yaml: nested deeper than {DEPTH_MAX}"),
            ));
        }
        let (value, anchor, size) = match event {
            Event::Alias(id) => {
                let target = self.anchors.get(&id).cloned();
                return target.ok_or_else(|| Issue::new(place, "yaml: anchor contains itself"));
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                (scalar(text.into_owned(), plain), anchor, 1)
            }
            Event::SequenceStart(_, anchor, _) => {
                let (items, size) = self.items(depth)?;
                (Yaml::List(items), anchor, size)
            }
            Event::MappingStart(_, anchor, _) => {
                let (entries, size) = self.entries(depth)?;
                (Yaml::Map(entries), anchor, size)
            }
            other => return Err(Issue::new(place, format!("yaml: unexpected {other:?}"))),
        };
        if size > NODES_MAX {
            return Err(Issue::new(
                place,
                "yaml: document contains excessive aliasing",
            ));
        }
        let node = Rc::new(Node { place, value, size });
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        Ok(node)
    }

    fn items(&mut self, depth: usize) -> Result<(Vec<Rc<Node>>, u64), Issue> {
        let mut items = Vec::new();
        let mut size = 1;
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok((items, size));
            }
            let item = self.node(event, span, depth + 1)?;
            size += item.size;
            items.push(item);
        }
    }

    #[expect(
        clippy::type_complexity,
        reason = "the entries of a mapping, used here only"
    )]
    fn entries(&mut self, depth: usize) -> Result<(Vec<(Rc<Node>, Rc<Node>)>, u64), Issue> {
        let mut entries: Vec<(Rc<Node>, Rc<Node>)> = Vec::new();
        let mut merged: Vec<(Rc<Node>, Rc<Node>)> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut size = 1;
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            size += key.size + value.size;
            match &key.value {
                Yaml::Scalar { text, plain: true } if text == "<<" => merge(&mut merged, &value)?,
                Yaml::Scalar { text, .. } => {
                    if let Some(line) = seen.insert(text.clone(), key.place.line) {
                        let message =
                            format!("yaml: mapping key {text:?} already defined at line {line}");
                        return Err(Issue::new(key.place, message));
                    }
                    entries.push((key, value));
                }
                _ => entries.push((key, value)),
            }
        }
        // What a mapping says itself wins over what it merges.
        merged.retain(|(key, _)| key.text().is_none_or(|text| !seen.contains_key(text)));
        entries.extend(merged);
        Ok((entries, size))
    }
}

fn merge(into: &mut Vec<(Rc<Node>, Rc<Node>)>, value: &Rc<Node>) -> Result<(), Issue> {
    match &value.value {
        Yaml::Map(entries) => {
            for (key, value) in entries {
                let is_known = into.iter().any(|(known, _)| known.text() == key.text());
                if !is_known {
                    into.push((Rc::clone(key), Rc::clone(value)));
                }
            }
            Ok(())
        }
        Yaml::List(items) if items.iter().all(|item| matches!(item.value, Yaml::Map(_))) => {
            items.iter().try_for_each(|item| merge(into, item))
        }
        _ => Err(Issue::new(
            value.place,
            "yaml: map merge requires map or sequence of maps as the value",
        )),
    }
}

fn scalar(text: String, plain: bool) -> Yaml {
    if plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
        Yaml::Null
    } else {
        Yaml::Scalar { text, plain }
    }
}

impl Node {
    /// The text of a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Yaml::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether the value is absent in effect.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self.value, Yaml::Null)
    }

    fn tag(&self) -> &'static str {
        match &self.value {
            Yaml::Null => "!!null",
            Yaml::Scalar { text, plain: true } if text.parse::<i64>().is_ok() => "!!int",
            Yaml::Scalar { text, plain: true } if text.parse::<f64>().is_ok() => "!!float",
            Yaml::Scalar { text, plain: true } if boolean(text).is_some() => "!!bool",
            Yaml::Scalar { .. } => "!!str",
            Yaml::List(_) => "!!seq",
            Yaml::Map(_) => "!!map",
        }
    }

    /// Notes that the node can't be read as `wanted`.
    pub fn mismatch(&self, wanted: &str, issues: &mut Issues) {
        let shown = match self.text() {
            Some(text) => {
                let short: String = text.chars().take(10).collect();
                let dots = if short.len() < text.len() { "..." } else { "" };
                format!(" `{short}{dots}`")
            }
            None => String::new(),
        };
        issues.push(Issue::new(
            self.place,
            format!("cannot unmarshal {}{shown} into {wanted}", self.tag()),
        ));
    }

    /// The text of a scalar, empty for null.
    pub fn read_text(&self, issues: &mut Issues) -> String {
        match &self.value {
            Yaml::Null => String::new(),
            Yaml::Scalar { text, .. } => text.clone(),
            _ => {
                self.mismatch("string", issues);
                String::new()
            }
        }
    }

    /// An integer, 0 for null.
    pub fn read_int(&self, issues: &mut Issues) -> i64 {
        let Yaml::Scalar { text, plain: true } = &self.value else {
            if !self.is_null() {
                self.mismatch("int", issues);
            }
            return 0;
        };
        let plain = text.replace('_', "");
        let parsed = match plain.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).ok(),
            None => match plain.strip_prefix("0o") {
                Some(octal) => i64::from_str_radix(octal, 8).ok(),
                None => plain.parse().ok(),
            },
        };
        parsed.unwrap_or_else(|| {
            self.mismatch("int", issues);
            0
        })
    }

    /// A truth value, `false` for null.
    pub fn read_bool(&self, issues: &mut Issues) -> bool {
        if self.is_null() {
            return false;
        }
        let value = match &self.value {
            Yaml::Scalar { text, plain: true } => boolean(text),
            _ => None,
        };
        value.unwrap_or_else(|| {
            self.mismatch("bool", issues);
            false
        })
    }

    /// The items of a list, none for null.
    pub fn read_list(&self, wanted: &str, issues: &mut Issues) -> &[Rc<Self>] {
        match &self.value {
            Yaml::List(items) => items,
            Yaml::Null => &[],
            _ => {
                self.mismatch(wanted, issues);
                &[]
            }
        }
    }

    /// A list of texts.
    pub fn read_texts(&self, issues: &mut Issues) -> Vec<String> {
        self.read_list("[]string", issues)
            .iter()
            .map(|item| item.read_text(issues))
            .collect()
    }

    /// Pairs of texts, in the order of the file.
    pub fn read_pairs(&self, issues: &mut Issues) -> Vec<(String, String)> {
        match &self.value {
            Yaml::Map(entries) => entries
                .iter()
                .map(|(key, value)| (key.read_text(issues), value.read_text(issues)))
                .collect(),
            Yaml::Null => Vec::new(),
            _ => {
                self.mismatch("map[string]string", issues);
                Vec::new()
            }
        }
    }

    /// A Prometheus duration.
    pub fn read_duration(&self, issues: &mut Issues) -> std::time::Duration {
        if self.is_null() {
            return std::time::Duration::ZERO;
        }
        let Some(text) = self.text() else {
            self.mismatch("string", issues);
            return std::time::Duration::ZERO;
        };
        common::duration::parse(text).unwrap_or_else(|error| {
            issues.push(Issue::new(self.place, error.to_string()));
            std::time::Duration::ZERO
        })
    }
}

/// What yaml.v3 takes for a truth value when it fills one: YAML 1.1's words too.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            Some(true)
        }
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            Some(false)
        }
        _ => None,
    }
}

/// The fields of a mapping, each taken at most once; what is left at the end is unknown.
#[derive(Debug)]
pub struct Fields<'a> {
    type_name: &'static str,
    entries: Vec<(&'a Node, &'a Node, bool)>,
}

impl<'a> Fields<'a> {
    /// The fields of `node`; another kind of node is a mistake and reads as no fields.
    pub fn new(node: &'a Node, type_name: &'static str, issues: &mut Issues) -> Self {
        let entries = match &node.value {
            Yaml::Map(entries) => entries
                .iter()
                .map(|(key, value)| (&**key, &**value, false))
                .collect(),
            Yaml::Null => Vec::new(),
            _ => {
                node.mismatch(type_name, issues);
                Vec::new()
            }
        };
        Self { type_name, entries }
    }

    /// The value of `name`, unless it is absent or null.
    pub fn take(&mut self, name: &str) -> Option<&'a Node> {
        let entry = self
            .entries
            .iter_mut()
            .find(|(key, _, _)| key.text() == Some(name))?;
        entry.2 = true;
        Some(entry.1).filter(|value| !value.is_null())
    }

    /// The text of `name`, if it is there.
    pub fn text(&mut self, name: &str, issues: &mut Issues) -> Option<String> {
        self.take(name).map(|node| node.read_text(issues))
    }

    /// The duration of `name`, if it is there.
    pub fn duration(&mut self, name: &str, issues: &mut Issues) -> Option<std::time::Duration> {
        self.take(name).map(|node| node.read_duration(issues))
    }

    /// The truth value of `name`, if it is there.
    pub fn bool(&mut self, name: &str, issues: &mut Issues) -> Option<bool> {
        self.take(name).map(|node| node.read_bool(issues))
    }

    /// Where `name` or, when it is absent, the mapping is.
    #[must_use]
    pub fn place_of(&self, name: &str, default: Place) -> Place {
        let entry = self
            .entries
            .iter()
            .find(|(key, _, _)| key.text() == Some(name));
        entry.map_or(default, |(_, value, _)| value.place)
    }

    /// Notes every field that was not taken.
    pub fn finish(self, issues: &mut Issues) {
        for (key, _, taken) in &self.entries {
            if !taken {
                let name = key.text().unwrap_or("?");
                issues.push(Issue::new(
                    key.place,
                    format!("field {name} not found in type {}", self.type_name),
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue_of(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn anchors_merges_and_places() {
        let node = read("a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  l: 3\nc: *x\n")
            .unwrap()
            .unwrap();
        let mut issues = Issues::new();
        let mut fields = Fields::new(&node, "T", &mut issues);
        let b = fields.take("b").unwrap();
        assert_eq!(b.place, Place { line: 3, column: 3 });
        let mut pairs = b.read_pairs(&mut issues);
        pairs.sort();
        assert_eq!(
            pairs,
            [
                ("k".to_owned(), "1".to_owned()),
                ("l".to_owned(), "3".to_owned())
            ]
        );
        assert_eq!(fields.take("c").unwrap().read_pairs(&mut issues).len(), 2);
        fields.finish(&mut issues);
        assert_eq!(issues[0].to_string(), "1:1: field a not found in type T");
    }

    #[test]
    fn comments_are_ignored_wherever_yaml_allows_them() {
        let many = "# one of many\n".repeat(300);
        let text = format!(
            "# before the document\n---\n# before the first key\n\
             map: # after a key\n  # before a nested key\n{many}  k: v # after a value\n\
             list: # after a key\n  # before an item\n{many}  - a # after an item\n  # after the items\n\
             flow: [b, # inside a flow sequence\n  c]\n# at the end\n...\n# after the document\n"
        );
        let node = read(&text).unwrap().unwrap();
        let mut issues = Issues::new();
        let mut fields = Fields::new(&node, "T", &mut issues);
        let pairs = fields.take("map").unwrap().read_pairs(&mut issues);
        assert_eq!(pairs, [("k".to_owned(), "v".to_owned())]);
        let list = fields.take("list").unwrap().read_texts(&mut issues);
        assert_eq!(list, ["a"]);
        let flow = fields.take("flow").unwrap().read_texts(&mut issues);
        assert_eq!(flow, ["b", "c"]);
        fields.finish(&mut issues);
        assert!(issues.is_empty(), "{issues:?}");
    }

    #[test]
    fn hostile_documents_are_refused() {
        assert_eq!(
            issue_of("a: 1\nb: 2\na: 3\n"),
            "3:1: yaml: mapping key \"a\" already defined at line 1"
        );
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..10 {
            let alias = format!("*a{},", n - 1).repeat(9);
            bomb.push_str(&format!("a{n}: &a{n} [{alias}]\n"));
        }
        assert!(issue_of(&bomb).contains("excessive aliasing"));
        assert!(read(&"[".repeat(5000)).is_err());
        assert!(read("a: [1\nb: 2").is_err());
        assert!(read("").unwrap().is_none());
    }
}
