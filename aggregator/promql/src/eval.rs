//! Evaluation: each node of the tree over all steps at once, columns in, columns out.

pub(crate) mod aggregate;
pub(crate) mod annotations;
mod binary;
pub(crate) mod budget;
pub(crate) mod call;
mod collected;
mod hash;
mod invariant;
mod kahan;
pub(crate) mod leaf;
mod matching;
mod over_time;
mod select;
pub(crate) mod series;
mod top;

pub(crate) use collected::group_labels;

use std::sync::{Mutex, PoisonError};

use tidemark_storage::read::{ReadError, Readable};

use crate::engine::Features;
use crate::error::{ErrorKind, QueryError};
use crate::parser::ast::{Binary, Expr, Unary};
use crate::parser::{Operator, ValueType};
use annotations::Annotations;
use budget::Budget;
use leaf::Looked;
use series::{Series, Steps, Vector, drop_names, is_missing, refuse_same_labels, values_held};

pub(crate) type Evaluated<T> = Result<T, QueryError>;

/// What a node yields.
#[derive(Debug, Clone)]
pub(crate) enum Yield {
    /// A number for each step.
    Scalar(Vec<f64>),
    String(Vec<u8>),
    Vector(Vector),
}

/// Evaluates the nodes of one query.
pub(crate) struct Evaluator<'e> {
    pub(crate) data: &'e dyn Readable,
    pub(crate) features: Features,
    pub(crate) lookback_ms: i64,
    pub(crate) default_step_ms: i64,
    pub(crate) threads_max: usize,
    /// Most values held at once.
    pub(crate) held_max: u64,
    /// First and last step of the whole query: `@ start()` and `@ end()`.
    pub(crate) bounds_ms: (i64, i64),
    pub(crate) budget: Budget<'e>,
    pub(crate) annotations: Annotations<'e>,
    /// Samples looked at by the whole query.
    pub(crate) looked: Mutex<Looked>,
    /// Whether the query has one step, so that `sort` and `topk` order it.
    pub(crate) instant: bool,
}

impl Evaluator<'_> {
    /// Evaluates `expr` at `steps`.
    pub(crate) fn eval(&self, expr: &Expr, steps: Steps) -> Evaluated<Yield> {
        self.check()?;
        if steps.count > 1 && invariant::is_invariant(expr) {
            return self.eval_once(expr, steps);
        }
        let before = self.budget.held();
        let mut result = self.eval_node(expr, steps)?;
        if let Yield::Vector(vector) = &mut result {
            vector.retain(|series| !series.is_empty());
        }
        // What the operands held is gone by now.
        let kept = match &result {
            Yield::Scalar(values) => values.len() as u64,
            Yield::String(_) => 0,
            Yield::Vector(vector) => values_held(vector),
        };
        self.budget.set_held(before + kept);
        if before + kept > self.held_max {
            return Err(self.read_error(ReadError::TooManySamples {
                limit: self.held_max,
            }));
        }
        Ok(result)
    }

    fn eval_node(&self, expr: &Expr, steps: Steps) -> Evaluated<Yield> {
        match expr {
            Expr::Number(number) => Ok(Yield::Scalar(vec![number.value; steps.count])),
            Expr::String(string) => Ok(Yield::String(string.value.clone())),
            Expr::Paren(paren) => self.eval(&paren.expr, steps),
            Expr::Unary(unary) => self.unary(unary, steps),
            Expr::Binary(binary) => self.binary_chain(binary, steps),
            Expr::Vector(selector) => self.instant_selector(selector, steps).map(Yield::Vector),
            Expr::Aggregation(aggregation) => {
                self.aggregation(aggregation, steps).map(Yield::Vector)
            }
            Expr::Call(call) => self.call(call, steps),
            Expr::Matrix(_) | Expr::Subquery(_) => {
                Err(self.internal("a range vector stands where it has no value"))
            }
        }
    }

    /// Evaluates what is the same at all steps at the first one.
    fn eval_once(&self, expr: &Expr, steps: Steps) -> Evaluated<Yield> {
        let (once, looked) = self.apart(|| self.eval(expr, steps.first()));
        // Prometheus counts what it looked at once for every step.
        let mut all = Looked {
            total: looked.total * steps.count as u64,
            per_step: Vec::new(),
        };
        if self.counts_steps(steps) {
            all.per_step.resize(steps.count, looked.total);
        }
        self.add_looked(&all);
        Ok(match once? {
            Yield::Scalar(values) => Yield::Scalar(repeat(&values, steps.count)),
            Yield::String(text) => Yield::String(text),
            Yield::Vector(mut vector) => {
                for series in &mut vector {
                    self.hold(steps.count)?;
                    series.values = repeat(&series.values, steps.count);
                }
                Yield::Vector(vector)
            }
        })
    }

    /// Left-deep chains are unrolled, so that their length costs no stack.
    fn binary_chain(&self, binary: &Binary, steps: Steps) -> Evaluated<Yield> {
        let mut chain = vec![binary];
        let mut first = &binary.lhs;
        while let Expr::Binary(inner) = first {
            if steps.count > 1 && invariant::is_invariant(first) {
                break;
            }
            chain.push(inner);
            first = &inner.lhs;
        }
        let filtered = match chain.last() {
            Some(innermost) => self.filtered_selector(innermost, steps)?,
            None => None,
        };
        let mut lhs = match filtered {
            Some(vector) => {
                chain.pop();
                Yield::Vector(vector)
            }
            None => self.eval(first, steps)?,
        };
        while let Some(binary) = chain.pop() {
            let rhs = self.eval(&binary.rhs, steps)?;
            lhs = self.binary(binary, lhs, rhs, steps)?;
        }
        Ok(lhs)
    }

    fn unary(&self, unary: &Unary, steps: Steps) -> Evaluated<Yield> {
        let mut operand = self.eval(&unary.expr, steps)?;
        if unary.op != Operator::Sub {
            return Ok(operand);
        }
        match &mut operand {
            Yield::Scalar(values) => negate(values),
            Yield::Vector(vector) => {
                drop_names(vector, self.features);
                refuse_same_labels(vector)?;
                for series in vector {
                    negate(&mut series.values);
                }
            }
            Yield::String(_) => {}
        }
        Ok(operand)
    }

    /// Evaluates an expression that type checks as a vector.
    pub(crate) fn vector(&self, expr: &Expr, steps: Steps) -> Evaluated<Vector> {
        match self.eval(expr, steps)? {
            Yield::Vector(vector) => Ok(vector),
            _ => Err(self.internal("expected a vector")),
        }
    }

    /// Evaluates an expression that type checks as a scalar.
    pub(crate) fn scalar(&self, expr: &Expr, steps: Steps) -> Evaluated<Vec<f64>> {
        match self.eval(expr, steps)? {
            Yield::Scalar(values) => Ok(values),
            _ => Err(self.internal("expected a scalar")),
        }
    }

    /// The text of an expression that type checks as a string.
    pub(crate) fn string(&self, expr: &Expr, steps: Steps) -> Evaluated<Vec<u8>> {
        match self.eval(expr, steps)? {
            Yield::String(text) => Ok(text),
            _ => Err(self.internal("expected a string")),
        }
    }

    pub(crate) fn check(&self) -> Evaluated<()> {
        self.budget.check().map_err(|error| self.read_error(error))
    }

    /// Accounts for values about to be held.
    pub(crate) fn hold(&self, values: usize) -> Evaluated<()> {
        self.budget
            .hold(values)
            .map_err(|error| self.read_error(error))
    }

    pub(crate) fn read_error(&self, error: ReadError) -> QueryError {
        self.budget.error(error)
    }

    pub(crate) fn execution(&self, message: impl Into<String>) -> QueryError {
        QueryError {
            kind: ErrorKind::Execution,
            message: message.into(),
            span: None,
        }
    }

    pub(crate) fn internal(&self, message: &str) -> QueryError {
        QueryError {
            kind: ErrorKind::Internal,
            message: format!("evaluation: {message}"),
            span: None,
        }
    }

    pub(crate) fn add_looked(&self, looked: &Looked) {
        let mut all = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        all.total += looked.total;
        for (sum, &count) in all.per_step.iter_mut().zip(&looked.per_step) {
            *sum += count;
        }
    }

    /// Runs `work`, and takes what it looked at out of the sum.
    pub(crate) fn apart<T>(&self, work: impl FnOnce() -> T) -> (T, Looked) {
        let lock = || self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *lock());
        let result = work();
        let inside = std::mem::replace(&mut *lock(), before);
        (result, inside)
    }

    /// The value of the whole query: names that were to go at the end are gone, and empty series too.
    pub(crate) fn finished(&self, expr: &Expr, steps: Steps) -> Evaluated<Yield> {
        let mut result = self.eval(expr, steps)?;
        if let Yield::Vector(vector) = &mut result
            && self.features.delayed_name_removal
        {
            self.remove_names(vector)?;
        }
        Ok(result)
    }

    /// Drops the names that earlier operations marked.
    fn remove_names(&self, vector: &mut [Series]) -> Evaluated<()> {
        for series in vector.iter_mut().filter(|series| series.drop_name) {
            series.labels = series::without_name(&series.labels);
            series.drop_name = false;
        }
        refuse_same_labels(vector)
    }
}

fn repeat(values: &[f64], count: usize) -> Vec<f64> {
    vec![values.first().copied().unwrap_or(series::MISSING); count]
}

fn negate(values: &mut [f64]) {
    for value in values {
        if !is_missing(*value) {
            *value = -*value;
        }
    }
}

/// Whether the expression is a vector.
pub(crate) fn is_vector(expr: &Expr) -> bool {
    expr.value_type() == ValueType::Vector
}
