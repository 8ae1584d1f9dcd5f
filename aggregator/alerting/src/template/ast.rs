//! The syntax tree of a template.

/// A byte offset in the source.
pub(super) type Position = usize;

/// A sequence of nodes.
pub(super) type Block = Vec<Node>;

/// One node of the syntax tree.
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

/// A pipeline and the blocks it selects between.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub(super) pipeline: Pipeline,
    pub(super) then: Block,
    pub(super) otherwise: Block,
}

/// A sequence of commands. Each passes its result to the next as the last argument.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) position: Position,
    /// The source text, used in error messages.
    pub(super) source: String,
    /// The variables that receive the result, including their `$`.
    pub(super) variables: Vec<String>,
    /// Whether the pipeline uses `=` instead of `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// An operand, or a function or method with its arguments.
#[derive(Debug, Clone)]
pub(super) struct Command {
    /// The source text of the operands, used in error messages.
    pub(super) source: String,
    pub(super) operands: Vec<Operand>,
}

/// One operand and its position.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) position: Position,
    /// The source text, used in error messages.
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
