//! Reads a mapping field by field and reports the fields that no reader asked for.

use super::tree::{Issue, Issues, Node, Position, Yaml};

/// Fields of a mapping. Each is taken at most once; [`finish`](Self::finish) reports the rest as unknown.
#[derive(Debug)]
pub struct Fields<'a> {
    type_name: &'static str,
    fields: Vec<Field<'a>>,
    /// Names that the reader asked for, present or not.
    known: Vec<String>,
}

#[derive(Debug)]
struct Field<'a> {
    key: &'a Node,
    value: &'a Node,
    is_taken: bool,
}

impl<'a> Fields<'a> {
    /// Starts to read the mapping `node`. Null reads as a mapping without fields; any other node is an issue.
    pub fn new(node: &'a Node, type_name: &'static str, issues: &mut Issues) -> Self {
        let fields = match &node.value {
            Yaml::Map(entries) => entries
                .iter()
                .map(|(key, value)| Field {
                    key,
                    value,
                    is_taken: false,
                })
                .collect(),
            Yaml::Null => Vec::new(),
            Yaml::Scalar { .. } | Yaml::List(_) => {
                node.mismatch(type_name, issues);
                Vec::new()
            }
        };
        Self {
            type_name,
            fields,
            known: Vec::new(),
        }
    }

    /// Takes the value of `name`, unless the field is absent or null.
    pub fn take(&mut self, name: &str) -> Option<&'a Node> {
        self.take_nullable(name).filter(|value| !value.is_null())
    }

    /// Takes the value of `name`, unless the field is absent.
    pub fn take_nullable(&mut self, name: &str) -> Option<&'a Node> {
        self.known.push(name.to_owned());
        let field = self
            .fields
            .iter_mut()
            .find(|field| field.key.text() == Some(name))?;
        field.is_taken = true;
        Some(field.value)
    }

    /// Reads the text of `name`, if the field is present.
    pub fn text(&mut self, name: &str, issues: &mut Issues) -> Option<String> {
        self.take(name).map(|node| node.read_text(issues))
    }

    /// Reads the duration of `name`, if the field is present.
    pub fn duration(&mut self, name: &str, issues: &mut Issues) -> Option<std::time::Duration> {
        self.take(name).map(|node| node.read_duration(issues))
    }

    /// Reads the boolean of `name`, if the field is present.
    pub fn bool(&mut self, name: &str, issues: &mut Issues) -> Option<bool> {
        self.take(name).map(|node| node.read_bool(issues))
    }

    /// Returns the position of the value of `name`, or `default` if the field is absent.
    #[must_use]
    pub fn position_of(&self, name: &str, default: Position) -> Position {
        let field = self
            .fields
            .iter()
            .find(|field| field.key.text() == Some(name));
        field.map_or(default, |field| field.value.position)
    }

    /// Returns the names that were asked for so far, whether or not the mapping has them.
    #[must_use]
    pub fn known(&self) -> &[String] {
        &self.known
    }

    /// Reports every field that was not taken.
    pub fn finish(self, issues: &mut Issues) {
        for field in self.fields.iter().filter(|field| !field.is_taken) {
            let name = field.key.text().unwrap_or("?");
            issues.push(Issue::new(
                field.key.position,
                format!("field {name} not found in type {}", self.type_name),
            ));
        }
    }
}
