//! Type checks, in the order of Prometheus (`checkAST`), so that both report the same one of several errors.

use common::model::label::METRIC_NAME;

use super::ast::{Aggregation, Binary, Call, Cardinality, Expr, VectorSelector};
use super::quote::go_quote;
use super::token::{Aggregator, Operator};
use super::{ParseError, TREE_DEPTH_MAX};
use crate::error::Span;
use crate::signature::{Arity, Function};
use crate::value_type::ValueType;

/// Checks types, and removes the matching of operators that have a scalar operand.
pub(super) fn check(query: &str, expr: &mut Expr) -> Result<(), ParseError> {
    Checker { query, depth: 0 }.expr(expr).map(|_| ())
}

struct Checker<'q> {
    query: &'q str,
    depth: usize,
}

type Checked<T> = Result<T, ParseError>;

impl Checker<'_> {
    fn fail<T>(&self, span: Span, message: impl Into<String>) -> Checked<T> {
        Err(ParseError::new(self.query, span, message))
    }

    fn expr(&mut self, expr: &mut Expr) -> Checked<ValueType> {
        if self.depth >= TREE_DEPTH_MAX {
            let message = format!("expression is nested deeper than {TREE_DEPTH_MAX} levels");
            return self.fail(Span::default(), message);
        }
        self.depth += 1;
        let checked = self.node(expr);
        self.depth -= 1;
        checked.map(|()| expr.value_type())
    }

    fn node(&mut self, expr: &mut Expr) -> Checked<()> {
        let span = expr_span(expr);
        match expr {
            Expr::Aggregation(aggregation) => self.aggregation(aggregation),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Call(call) => self.call(call),
            Expr::Paren(paren) => self.expr(&mut paren.expr).map(|_| ()),
            Expr::Unary(unary) => match self.expr(&mut unary.expr)? {
                ValueType::Scalar | ValueType::Vector => Ok(()),
                other => {
                    let got = other.documented();
                    let message = format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got \"{got}\""
                    );
                    self.fail(span, message)
                }
            },
            Expr::Subquery(subquery) => match self.expr(&mut subquery.expr)? {
                ValueType::Vector => Ok(()),
                other => {
                    let got = other.as_str();
                    let message =
                        format!("subquery is only allowed on instant vector, got {got} instead");
                    self.fail(span, message)
                }
            },
            Expr::Matrix(matrix) => self.selector(&matrix.selector),
            Expr::Vector(vector) => self.selector(vector),
            Expr::Number(_) | Expr::String(_) => Ok(()),
        }
    }

    fn aggregation(&mut self, aggregation: &mut Aggregation) -> Checked<()> {
        self.expect(
            &mut aggregation.expr,
            ValueType::Vector,
            "aggregation expression",
        )?;
        if let Some(param) = &mut aggregation.param {
            let want = match aggregation.op {
                Aggregator::CountValues => ValueType::String,
                _ => ValueType::Scalar,
            };
            self.expect(param, want, "aggregation parameter")?;
        }
        Ok(())
    }

    fn expect(&mut self, expr: &mut Expr, want: ValueType, context: &str) -> Checked<()> {
        let got = self.expr(expr)?;
        if got == want {
            return Ok(());
        }
        let (want, got) = (want.documented(), got.documented());
        let message = format!("expected type {want} in {context}, got {got}");
        self.fail(expr.span(), message)
    }

    fn binary(&mut self, binary: &mut Binary) -> Checked<()> {
        let lhs = self.expr(&mut binary.lhs)?;
        let rhs = self.expr(&mut binary.rhs)?;
        let op = binary.op;
        let scalars = lhs == ValueType::Scalar && rhs == ValueType::Scalar;
        if binary.return_bool && !op.is_comparison() {
            let message = "bool modifier can only be used on comparison operators";
            return self.fail(self.op_span(binary), message);
        }
        if op.is_comparison() && !binary.return_bool && scalars {
            let message = "comparisons between scalars must use BOOL modifier";
            return self.fail(self.op_span(binary), message);
        }
        self.matching(binary)?;
        let message = "binary expression must contain only scalar and instant vector types";
        if !matches!(lhs, ValueType::Scalar | ValueType::Vector) {
            return self.fail(binary.lhs.span(), message);
        }
        if !matches!(rhs, ValueType::Scalar | ValueType::Vector) {
            return self.fail(binary.rhs.span(), message);
        }
        let span = binary_span(binary);
        if lhs != ValueType::Vector || rhs != ValueType::Vector {
            let matching = binary.matching.take();
            if matching.is_some_and(|matching| !matching.labels.is_empty()) {
                let message = "vector matching only allowed between instant vectors";
                return self.fail(span, message);
            }
            if op.is_set() {
                let name = go_quote(op.as_str());
                let message =
                    format!("set operator {name} not allowed in binary scalar expression");
                return self.fail(span, message);
            }
        } else if op.is_set()
            && binary
                .matching
                .as_ref()
                .is_some_and(|matching| matching.card != Cardinality::ManyToMany)
        {
            let name = go_quote(op.as_str());
            return self.fail(span, format!("no grouping allowed for {name} operation"));
        }
        Ok(())
    }

    fn matching(&self, binary: &mut Binary) -> Checked<()> {
        let op: Operator = binary.op;
        let Some(matching) = &mut binary.matching else {
            return Ok(());
        };
        if op.is_set() && matching.card == Cardinality::OneToOne {
            matching.card = Cardinality::ManyToMany;
        }
        let clash = matching
            .labels
            .iter()
            .find(|label| matching.on && matching.include.contains(label));
        if let Some(label) = clash {
            let label = go_quote(label);
            let message = format!("label {label} must not occur in ON and GROUP clause at once");
            return self.fail(self.op_span(binary), message);
        }
        Ok(())
    }

    /// Returns the position from the operator to the right operand.
    fn op_span(&self, binary: &Binary) -> Span {
        let end = binary.lhs.span().end;
        let rest = self.query.as_bytes().get(end..).unwrap_or_default();
        let space = rest
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
            .count();
        Span {
            start: end + space,
            end: binary.rhs.span().start,
        }
    }

    fn call(&mut self, call: &mut Call) -> Checked<()> {
        self.argument_count(call)?;
        let name = go_quote(call.function.name);
        if call.function.function == Function::Info && call.args.len() > 1 {
            self.info_selector(call)?;
        }
        let types = call.function.args;
        for (index, arg) in call.args.iter_mut().enumerate() {
            let want = types.get(index).or(types.last());
            let got = self.expr(arg)?;
            if let Some(want) = want.filter(|&&want| want != got) {
                let (want, got) = (want.documented(), got.documented());
                let message = format!("expected type {want} in call to function {name}, got {got}");
                return self.fail(arg.span(), message);
            }
        }
        Ok(())
    }

    fn argument_count(&self, call: &Call) -> Checked<()> {
        let name = go_quote(call.function.name);
        let (listed, got) = (call.function.args.len(), call.args.len());
        let (least, most) = match call.function.arity {
            Arity::Exact if listed != got => {
                let message = format!("expected {listed} argument(s) in call to {name}, got {got}");
                return self.fail(call.span, message);
            }
            Arity::Exact => return Ok(()),
            Arity::LastOptional => (listed - 1, listed),
            Arity::LastRepeated => (listed - 1, usize::MAX),
        };
        if got < least {
            let message =
                format!("expected at least {least} argument(s) in call to {name}, got {got}");
            return self.fail(call.span, message);
        }
        if got > most {
            let message =
                format!("expected at most {most} argument(s) in call to {name}, got {got}");
            return self.fail(call.span, message);
        }
        Ok(())
    }

    /// Checks the second argument of `info()`: a selector without a name, which only provides matchers.
    fn info_selector(&self, call: &mut Call) -> Checked<()> {
        let call_span = call.span;
        let Some(arg) = call.args.get_mut(1) else {
            return Ok(());
        };
        let got = arg.value_type();
        if got != ValueType::Vector {
            let got = got.documented();
            let message =
                format!("expected type instant vector in call to function \"info\", got {got}");
            return self.fail(call_span, message);
        }
        let span = arg.span();
        match arg {
            Expr::Vector(vector) if !vector.name.is_empty() => {
                let message = "expected label selectors only, got vector selector instead";
                self.fail(span, message)
            }
            Expr::Vector(vector) => {
                vector.may_match_all = true;
                Ok(())
            }
            _ => self.fail(span, "expected label selectors only"),
        }
    }

    fn selector(&self, selector: &VectorSelector) -> Checked<()> {
        if !selector.name.is_empty() {
            // The last matcher is the one of the name.
            let others = selector.matchers.split_last().map(|(_, others)| others);
            let mut others = others.into_iter().flatten();
            if let Some(matcher) = others.find(|matcher| matcher.name() == METRIC_NAME) {
                let (name, value) = (go_quote(&selector.name), go_quote(matcher.value()));
                let message = format!("metric name must not be set twice: {name} or {value}");
                return self.fail(selector.span, message);
            }
            return Ok(());
        }
        if !selector.may_match_all && super::matches_everything(&selector.matchers) {
            let message = "vector selector must contain at least one non-empty matcher";
            return self.fail(selector.span, message);
        }
        Ok(())
    }
}

/// Returns the position for those nodes whose messages need it. For chains of operators, computing it at each node would
/// take quadratic time.
fn expr_span(expr: &Expr) -> Span {
    match expr {
        Expr::Unary(_) | Expr::Subquery(_) => expr.span(),
        _ => Span::default(),
    }
}

fn binary_span(binary: &Binary) -> Span {
    Span {
        start: binary.lhs.span().start,
        end: binary.rhs.span().end,
    }
}
