//! The tree of a template.

/// A place in the source, a byte offset.
pub(super) type Position = usize;

/// A sequence of nodes.
pub(super) type Block = Vec<Node>;

/// One node of the text.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    /// `{{ pipeline }}`
    Action(Pipeline),
    If(Branch),
    With(Branch),
    Range(Branch),
    /// `{{ template "name" pipeline }}`
    Template {
        position: Position,
        name: String,
        argument: Option<Pipeline>,
    },
    Break,
    Continue,
}

/// A pipeline and the blocks it chooses between.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub(super) pipeline: Pipeline,
    pub(super) then: Block,
    pub(super) otherwise: Block,
}

/// Commands, each giving its result to the next as last argument.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) position: Position,
    /// As written, for messages.
    pub(super) source: String,
    /// Variables that take the result, with their `$`.
    pub(super) variables: Vec<String>,
    /// `=` and not `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// An operand, or a function or method with its arguments.
#[derive(Debug, Clone)]
pub(super) struct Command {
    /// The operands as written, for messages.
    pub(super) source: String,
    pub(super) operands: Vec<Operand>,
}

/// One operand and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) position: Position,
    /// As written, for messages.
    pub(super) source: String,
    pub(super) kind: OperandKind,
}

/// The kinds of operand.
#[derive(Debug, Clone)]
pub(super) enum OperandKind {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// `.a.b`
    Fields(Vec<String>),
    /// `$x.a.b`
    Variable(String, Vec<String>),
    /// A function.
    Function(String),
    /// `(pipeline)`
    Pipeline(Box<Pipeline>),
    /// `(pipeline).a.b`
    Chain(Box<Operand>, Vec<String>),
}
