//! The syntax tree. Every node knows the bytes it came from.

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
    /// Which one.
    pub op: Aggregator,
    /// What is aggregated.
    pub expr: Expr,
    /// `k`, `φ` or the label name, of those that have one.
    pub param: Option<Expr>,
    /// The labels of `by` or `without`.
    pub grouping: Vec<String>,
    /// Whether it is `without`.
    pub without: bool,
    /// Where.
    pub span: Span,
}

/// How many series of one side may match one of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cardinality {
    /// One each.
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

impl Cardinality {
    /// The name in `parse_query` and in messages.
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

/// Which series of two vectors belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    /// How many of each side.
    pub card: Cardinality,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Whether it is `on`.
    pub on: bool,
    /// Labels that the "one" side adds to the result.
    pub include: Vec<String>,
}

/// `a + on (x) b`
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// Which operator.
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
    /// Where.
    pub span: Span,
}

/// `-x`
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// `Add` or `Sub`.
    pub op: Operator,
    /// The operand.
    pub expr: Expr,
    /// First byte.
    pub start: usize,
}

/// `(x)`
#[derive(Debug, Clone, PartialEq)]
pub struct Paren {
    /// What is inside.
    pub expr: Expr,
    /// Where.
    pub span: Span,
}

/// `1.5`, `5m`
#[derive(Debug, Clone)]
pub struct NumberLiteral {
    /// The number; of a duration its seconds.
    pub value: f64,
    /// Whether it was written as a duration.
    pub duration: bool,
    /// Where.
    pub span: Span,
}

impl PartialEq for NumberLiteral {
    /// Equal to the bit: a NaN equals itself.
    fn eq(&self, other: &Self) -> bool {
        self.value.to_bits() == other.value.to_bits()
            && self.duration == other.duration
            && self.span == other.span
    }
}

/// `"text"`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringLiteral {
    /// The text; escapes can make bytes that are no UTF-8.
    pub value: Vec<u8>,
    /// Where.
    pub span: Span,
}

/// The moment after `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Milliseconds since the epoch.
    Time(i64),
    /// `start()`
    Start,
    /// `end()`
    End,
}

/// A length of time in brackets or behind `offset`.
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
    /// Milliseconds, when it is a plain number.
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
        /// First byte.
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
        /// Whether parentheses were around it.
        wrapped: bool,
    },
    /// `(-x)`: parentheses around what is no number.
    Wrapped(Box<Self>),
}

/// `http_requests_total{job="x"} offset 5m`
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The name before the braces, empty when there is none.
    pub name: String,
    /// The conditions, in the order written; that of `name` last.
    pub matchers: Vec<Matcher>,
    /// How far back it looks from the moment of evaluation; negative: ahead.
    pub offset: DurationValue,
    /// The moment it is pinned to.
    pub at: Option<At>,
    /// Values of `matchers` that are not UTF-8, by index. The matchers have U+FFFD in their place, which selects the same
    /// series, because stored labels are UTF-8.
    pub raw_values: Vec<(usize, Vec<u8>)>,
    /// Whether all matchers may match the empty value: the data label selector of `info()`.
    pub may_match_all: bool,
    /// Where.
    pub span: Span,
}

impl VectorSelector {
    /// The metric name, when a matcher fixes it.
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
    /// The series.
    pub selector: VectorSelector,
    /// Length of the window.
    pub range: DurationValue,
    /// The byte behind it.
    pub end: usize,
}

/// `x[1h:5m]`
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated at each step.
    pub expr: Expr,
    /// Length of the window.
    pub range: DurationValue,
    /// Between two steps; 0 when not written.
    pub step: DurationValue,
    /// How far back.
    pub offset: DurationValue,
    /// The moment it is pinned to.
    pub at: Option<At>,
    /// The byte behind it.
    pub end: usize,
}

impl Expr {
    /// Its type.
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

    /// Where it stands.
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

    /// What is inside any parentheses around it.
    #[must_use]
    pub const fn unwrap_parens(&self) -> &Self {
        let mut expr = self;
        while let Self::Paren(paren) = expr {
            expr = &paren.expr;
        }
        expr
    }
}
