//! Builds the tree of one document from the parser's events.

use std::collections::HashMap;
use std::rc::Rc;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span};

use super::tree::{Issue, Node, Position, Yaml};

/// Limit on the nodes of one document. An alias counts as the whole subtree it refers to.
const NODES_MAX: u64 = 2_000_000;
/// Limit on the nesting of one document.
const DEPTH_MAX: usize = 64;

struct Composer<'a> {
    parser: Parser<'a, serde_saphyr::granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Rc<Node>>,
}

/// Reads the first document of `text`; `None` if there is no document.
///
/// # Errors
/// The text is not valid YAML, nests too deeply, or expands to too many nodes through its aliases.
pub fn read_tree(text: &str) -> Result<Option<Rc<Node>>, Issue> {
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

fn position(span: Span) -> Position {
    Position {
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
                    let at = Position {
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
        let position = position(span);
        if depth > DEPTH_MAX {
            return Err(Issue::new(
                position,
                format!("yaml: nested deeper than {DEPTH_MAX}"),
            ));
        }
        let (value, anchor, size) = match event {
            Event::Alias(id) => {
                let target = self.anchors.get(&id).cloned();
                return target.ok_or_else(|| Issue::new(position, "yaml: anchor contains itself"));
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
            other => return Err(Issue::new(position, format!("yaml: unexpected {other:?}"))),
        };
        if size > NODES_MAX {
            return Err(Issue::new(
                position,
                "yaml: document contains excessive aliasing",
            ));
        }
        let node = Rc::new(Node::new(position, value, size));
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
                    if let Some(line) = seen.insert(text.clone(), key.position.line) {
                        let message =
                            format!("yaml: mapping key {text:?} already defined at line {line}");
                        return Err(Issue::new(key.position, message));
                    }
                    entries.push((key, value));
                }
                _ => entries.push((key, value)),
            }
        }
        // Keys of the mapping itself take precedence over merged ones.
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
            value.position,
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
