//! The syntax tree. Every node has its position in the query.

use common::model::{Matcher, label::METRIC_NAME};

use super::token::{Aggregator, Operator};
use crate::error::Span;
use crate::signature::Signature;
use crate::value_type::ValueType;

/// An expression.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is named as the type it holds")]
pub enum Expr {
    Aggregation(Box<Aggregation>),
    Binary(Box<Binary>),
    Call(Box<Call>),
    Matrix(Box<MatrixSelector>),
    Number(NumberLiteral),
    Paren(Box<Paren>),
    String(StringLiteral),
    Subquery(Box<Subquery>),
    Unary(Box<Unary>),
    Vector(Box<VectorSelector>),
}

/// `sum by (job) (…)`
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregation {
    /// The aggregation operator.
    pub op: Aggregator,
    /// The operand.
    pub expr: Expr,
    /// The parameter: `k`, `φ`, a ratio or a label name.
    pub param: Option<Expr>,
    /// The labels of `by` or `without`.
    pub grouping: Vec<String>,
    /// Whether the clause is `without`.
    pub without: bool,
    /// Position in the query.
    pub span: Span,
}

/// How many series of each side may match each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cardinality {
    /// One series on each side.
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

impl Cardinality {
    /// Returns the name that `parse_query` and error messages use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::ManyToOne => "many-to-one",
            Self::OneToMany => "one-to-many",
            Self::ManyToMany => "many-to-many",
        }
    }
}

/// Which series of two vectors match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    /// How many series of each side may match.
    pub card: Cardinality,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Whether the clause is `on`.
    pub on: bool,
    /// Labels that the "one" side adds to the result.
    pub include: Vec<String>,
}

/// `a + on (x) b`
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: Operator,
    /// Left operand.
    pub lhs: Expr,
    /// Right operand.
    pub rhs: Expr,
    /// `None` when an operand is a scalar.
    pub matching: Option<Matching>,
    /// Whether a comparison returns 0 or 1 instead of filtering.
    pub return_bool: bool,
}

/// `rate(…)`
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The function.
    pub function: &'static Signature,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// Position in the query.
    pub span: Span,
}

/// `-x`
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// `Add` or `Sub`.
    pub op: Operator,
    /// The operand.
    pub expr: Expr,
    /// First byte in the query.
    pub start: usize,
}

/// `(x)`
#[derive(Debug, Clone, PartialEq)]
pub struct Paren {
    /// The expression inside.
    pub expr: Expr,
    /// Position in the query.
    pub span: Span,
}

/// `1.5`, `5m`
#[derive(Debug, Clone)]
pub struct NumberLiteral {
    /// The value; for a duration in seconds.
    pub value: f64,
    /// Whether the query has a duration here.
    pub duration: bool,
    /// Position in the query.
    pub span: Span,
}

impl PartialEq for NumberLiteral {
    /// Compares values bit by bit, so that NaN equals itself.
    fn eq(&self, other: &Self) -> bool {
        self.value.to_bits() == other.value.to_bits()
            && self.duration == other.duration
            && self.span == other.span
    }
}

/// `"text"`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringLiteral {
    /// The text. Escapes may result in bytes that are not UTF-8.
    pub value: Vec<u8>,
    /// Position in the query.
    pub span: Span,
}

/// The time after `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Milliseconds since the epoch.
    Time(i64),
    /// `start()`
    Start,
    /// `end()`
    End,
}

/// A duration in brackets or after `offset`.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationValue {
    /// Milliseconds.
    Millis(i64),
    /// Arithmetic on durations.
    Expr(DurationExpr),
}

impl Default for DurationValue {
    fn default() -> Self {
        Self::Millis(0)
    }
}

impl DurationValue {
    /// Returns the milliseconds; 0 for a duration expression that is not resolved.
    #[must_use]
    pub const fn millis(&self) -> i64 {
        match self {
            Self::Millis(ms) => *ms,
            Self::Expr(_) => 0,
        }
    }

    pub(crate) const fn is_set(&self) -> bool {
        !matches!(self, Self::Millis(0))
    }
}

/// Arithmetic on durations (`promql-duration-expr`).
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    /// A number or a duration.
    Number(NumberLiteral),
    /// `-x`
    Negative {
        /// The operand.
        expr: Box<Self>,
        /// First byte in the query.
        start: usize,
    },
    /// `a * b`
    Binary {
        /// `Add`, `Sub`, `Mul`, `Div`, `Mod` or `Pow`.
        op: Operator,
        /// Left operand.
        lhs: Box<Self>,
        /// Right operand.
        rhs: Box<Self>,
        /// Whether the query has parentheses around it.
        wrapped: bool,
    },
    /// `(-x)`: parentheses around a negated expression.
    Wrapped(Box<Self>),
}

/// `http_requests_total{job="x"} offset 5m`
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The name before the braces, empty when there is none.
    pub name: String,
    /// The matchers in the order of the query, followed by that of `name`.
    pub matchers: Vec<Matcher>,
    /// How far the selector looks back from the evaluation time; ahead if negative.
    pub offset: DurationValue,
    /// The time of `@`.
    pub at: Option<At>,
    /// Values of `matchers` that are not UTF-8, by index. The matchers have U+FFFD in their place, which selects the same
    /// series, because stored labels are UTF-8.
    pub raw_values: Vec<(usize, Vec<u8>)>,
    /// Whether all matchers may match the empty value, as in the second argument of `info()`.
    pub may_match_all: bool,
    /// Position in the query.
    pub span: Span,
}

impl VectorSelector {
    /// Returns the metric name that an `=` matcher requires.
    #[must_use]
    pub fn metric_name(&self) -> Option<&str> {
        self.matchers
            .iter()
            .find(|matcher| {
                matcher.name() == METRIC_NAME && matcher.op() == common::model::MatchOp::Equal
            })
            .map(Matcher::value)
    }
}

/// `x[5m]`
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// Selects the series.
    pub selector: VectorSelector,
    /// Length of the window.
    pub range: DurationValue,
    /// End of the node in the query, exclusive.
    pub end: usize,
}

/// `x[1h:5m]`
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// The expression that is evaluated at each step.
    pub expr: Expr,
    /// Length of the window.
    pub range: DurationValue,
    /// Distance of the steps; 0 if the query has none.
    pub step: DurationValue,
    /// How far the subquery looks back from the evaluation time.
    pub offset: DurationValue,
    /// The time of `@`.
    pub at: Option<At>,
    /// End of the node in the query, exclusive.
    pub end: usize,
}

impl Expr {
    /// Returns the type of the expression.
    #[must_use]
    pub const fn value_type(&self) -> ValueType {
        match self {
            Self::Aggregation(_) | Self::Vector(_) => ValueType::Vector,
            Self::Binary(binary) => {
                let scalars = matches!(binary.lhs.value_type(), ValueType::Scalar)
                    && matches!(binary.rhs.value_type(), ValueType::Scalar);
                if scalars {
                    ValueType::Scalar
                } else {
                    ValueType::Vector
                }
            }
            Self::Call(call) => call.function.returns,
            Self::Matrix(_) | Self::Subquery(_) => ValueType::Matrix,
            Self::Number(_) => ValueType::Scalar,
            Self::Paren(paren) => paren.expr.value_type(),
            Self::String(_) => ValueType::String,
            Self::Unary(unary) => unary.expr.value_type(),
        }
    }

    /// Returns the position in the query.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Aggregation(aggregation) => aggregation.span,
            Self::Binary(binary) => Span {
                start: binary.lhs.span().start,
                end: binary.rhs.span().end,
            },
            Self::Call(call) => call.span,
            Self::Matrix(matrix) => Span {
                start: matrix.selector.span.start,
                end: matrix.end,
            },
            Self::Number(number) => number.span,
            Self::Paren(paren) => paren.span,
            Self::String(string) => string.span,
            Self::Subquery(subquery) => Span {
                start: subquery.expr.span().start,
                end: subquery.end,
            },
            Self::Unary(unary) => Span {
                start: unary.start,
                end: unary.expr.span().end,
            },
            Self::Vector(vector) => vector.span,
        }
    }

    /// Returns the expression without the parentheses around it.
    #[must_use]
    pub const fn unwrap_parens(&self) -> &Self {
        let mut expr = self;
        while let Self::Paren(paren) = expr {
            expr = &paren.expr;
        }
        expr
    }
}
