//! The values that templates operate on.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Zoned;

/// Calls a method by name with a receiver and arguments. Returns `None` if the kind does not have the method.
pub type Methods = fn(&Value, &str, &[Value]) -> Option<Result<Value, String>>;

/// The Go type of a composite value.
#[derive(Debug)]
pub struct Kind {
    /// The name of the Go type, used in error messages.
    pub name: &'static str,
    /// Whether a missing map key reads as the empty string instead of nil, as in a map of strings.
    pub text_elements: bool,
    /// The methods of the type.
    pub methods: Methods,
    /// The `String` method of the type, used when printing.
    pub print: Option<fn(&Value) -> String>,
}

fn no_methods(_: &Value, _: &str, _: &[Value]) -> Option<Result<Value, String>> {
    None
}

/// `map[string]string`
pub static TEXT_MAP: Kind = Kind {
    name: "map[string]string",
    text_elements: true,
    methods: no_methods,
    print: None,
};
/// `map[string]interface {}`
pub static ANY_MAP: Kind = Kind {
    name: "map[string]interface {}",
    text_elements: false,
    methods: no_methods,
    print: None,
};
/// `[]string`
pub static TEXT_LIST: Kind = Kind {
    name: "[]string",
    text_elements: true,
    methods: no_methods,
    print: None,
};
/// `[]interface {}`
pub static ANY_LIST: Kind = Kind {
    name: "[]interface {}",
    text_elements: false,
    methods: no_methods,
    print: None,
};

/// A template value. Clones are cheap.
#[derive(Debug, Clone)]
pub enum Value {
    /// The nil interface, printed as `<no value>`.
    Nil,
    /// A `bool`.
    Bool(bool),
    /// An `int`.
    Int(i64),
    /// A `float64`.
    Float(f64),
    /// A `string`.
    Text(Arc<str>),
    /// Text that is already safe in HTML.
    Html(Arc<str>),
    /// A slice.
    List(&'static Kind, Arc<[Self]>),
    /// A map with string keys.
    Map(&'static Kind, Arc<BTreeMap<String, Self>>),
    /// A struct with its fields in declaration order.
    Struct(&'static Kind, Arc<[(&'static str, Self)]>),
    /// A `time.Time`.
    Time(Arc<Zoned>),
    /// A `time.Duration` in nanoseconds.
    Duration(i64),
}

impl Value {
    /// Creates a string value.
    #[must_use]
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    /// Creates a `map[string]string`.
    pub fn text_map<'a>(
        kind: &'static Kind,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let map = pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Self::text(value)))
            .collect();
        Self::Map(kind, Arc::new(map))
    }

    /// Creates a `[]string`.
    pub fn text_list(items: impl IntoIterator<Item = String>) -> Self {
        Self::List(&TEXT_LIST, items.into_iter().map(Self::text).collect())
    }

    /// Returns the name of the Go type, used in error messages.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Html(_) => "template.HTML",
            Self::List(kind, _) | Self::Map(kind, _) | Self::Struct(kind, _) => kind.name,
            Self::Time(_) => "time.Time",
            Self::Duration(_) => "time.Duration",
        }
    }

    /// Reports whether `{{ if }}` considers the value true.
    #[must_use]
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) | Self::Duration(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) | Self::Html(text) => !text.is_empty(),
            Self::List(_, items) => !items.is_empty(),
            Self::Map(_, map) => !map.is_empty(),
            Self::Struct(..) | Self::Time(_) => true,
        }
    }

    /// Returns the text of a string.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Html(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the value of a struct's field.
    #[must_use]
    pub fn struct_field(&self, name: &str) -> Option<&Self> {
        let Self::Struct(_, fields) = self else {
            return None;
        };
        fields
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}
