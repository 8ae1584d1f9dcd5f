//! Evaluation of a syntax tree: each node over all steps at once.
//!
//! A query with thousands of steps would otherwise walk the tree, look up series and match labels at each of them. Here
//! a node returns a column of values for each series ([`series`]), with a marker where a series has none.
//!
//! - Samples enter in [`selector_scan`], which reads one series at a time. [`selectors`] sets scans up from `@`, `offset`,
//!   ranges and subqueries; [`materialize`] reads them, on several threads when there is enough to read.
//! - An aggregation over a selector, or over a function of its windows, streams the scan into its groups
//!   ([`aggregate`]): neither the columns of single series nor their labels are kept.
//! - A subtree whose selectors are all pinned by `@` is evaluated once for all steps ([`step_invariant`]).
//! - Each value that is held counts against the [`budget`], which also stops the query.

pub(crate) mod aggregate;
pub(crate) mod annotations;
mod binary;
pub(crate) mod budget;
pub(crate) mod call;
mod count_values;
mod hash;
mod matching;
pub(crate) mod materialize;
mod range_call;
pub(crate) mod selector_scan;
mod selectors;
pub(crate) mod series;
mod series_checks;
mod step_invariant;
mod subquery_result;
mod top;
mod window_ranges;

pub(crate) use range_call::range_argument;
pub(crate) use subquery_result::group_labels;

use std::sync::{Mutex, PoisonError};

use tidemark_storage::read::{ReadError, Readable};

use crate::error::{ErrorKind, QueryError};
use crate::features::Features;
use crate::parser::Operator;
use crate::parser::ast::{Binary, Expr, Unary};
use crate::value_type::ValueType;
use annotations::Annotations;
use budget::Budget;
use selector_scan::SampleStats;
use series::{
    Series, Steps, Vector, drop_names, is_missing, merge_relabeled, refuse_same_labels, values_held,
};

pub(crate) type Evaluated<T> = Result<T, QueryError>;

/// The result of a node.
#[derive(Debug, Clone)]
pub(crate) enum EvalResult {
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
    /// Samples read by the whole query.
    pub(crate) stats: Mutex<SampleStats>,
    /// Whether this is an instant query, whose result `sort` and `topk` order.
    pub(crate) instant: bool,
}

impl Evaluator<'_> {
    /// Evaluates `expr` at `steps`.
    pub(crate) fn eval(&self, expr: &Expr, steps: Steps) -> Evaluated<EvalResult> {
        self.check()?;
        if steps.count > 1 && step_invariant::is_invariant(expr) {
            return self.eval_once(expr, steps);
        }
        let before = self.budget.held();
        let mut result = self.eval_node(expr, steps)?;
        if let EvalResult::Vector(vector) = &mut result {
            vector.retain(|series| !series.is_empty());
        }
        // The operands are dropped by now.
        let kept = match &result {
            EvalResult::Scalar(values) => values.len() as u64,
            EvalResult::String(_) => 0,
            EvalResult::Vector(vector) => values_held(vector),
        };
        self.budget.set_held(before + kept);
        if before + kept > self.held_max {
            return Err(self.read_error(ReadError::TooManySamples {
                limit: self.held_max,
            }));
        }
        Ok(result)
    }

    fn eval_node(&self, expr: &Expr, steps: Steps) -> Evaluated<EvalResult> {
        match expr {
            Expr::Number(number) => Ok(EvalResult::Scalar(vec![number.value; steps.count])),
            Expr::String(string) => Ok(EvalResult::String(string.value.clone())),
            Expr::Paren(paren) => self.eval(&paren.expr, steps),
            Expr::Unary(unary) => self.unary(unary, steps),
            Expr::Binary(binary) => self.binary_chain(binary, steps),
            Expr::Vector(selector) => self
                .instant_selector(selector, steps)
                .map(EvalResult::Vector),
            Expr::Aggregation(aggregation) => {
                self.aggregation(aggregation, steps).map(EvalResult::Vector)
            }
            Expr::Call(call) => self.call(call, steps),
            Expr::Matrix(_) | Expr::Subquery(_) => {
                Err(self.internal("a range vector outside of a function call"))
            }
        }
    }

    /// Evaluates a step-invariant expression at the first step and repeats the result.
    fn eval_once(&self, expr: &Expr, steps: Steps) -> Evaluated<EvalResult> {
        let (once, stats) = self.with_own_stats(|| self.eval(expr, steps.first()));
        // Prometheus counts these samples again at every step.
        let mut all = SampleStats {
            total: stats.total * steps.count as u64,
            per_step: Vec::new(),
        };
        if self.counts_steps(steps) {
            all.per_step.resize(steps.count, stats.total);
        }
        self.add_stats(&all);
        Ok(match once? {
            EvalResult::Scalar(values) => EvalResult::Scalar(repeat(&values, steps.count)),
            EvalResult::String(text) => EvalResult::String(text),
            EvalResult::Vector(mut vector) => {
                for series in &mut vector {
                    self.hold(steps.count)?;
                    series.values = repeat(&series.values, steps.count);
                }
                EvalResult::Vector(vector)
            }
        })
    }

    /// Evaluates a chain of operators in a loop, so that its length needs no stack.
    fn binary_chain(&self, binary: &Binary, steps: Steps) -> Evaluated<EvalResult> {
        let mut chain = vec![binary];
        let mut first = &binary.lhs;
        while let Expr::Binary(inner) = first {
            if steps.count > 1 && step_invariant::is_invariant(first) {
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
                EvalResult::Vector(vector)
            }
            None => self.eval(first, steps)?,
        };
        while let Some(binary) = chain.pop() {
            let rhs = self.eval(&binary.rhs, steps)?;
            lhs = self.binary(binary, lhs, rhs, steps)?;
        }
        Ok(lhs)
    }

    fn unary(&self, unary: &Unary, steps: Steps) -> Evaluated<EvalResult> {
        let mut operand = self.eval(&unary.expr, steps)?;
        if unary.op != Operator::Sub {
            return Ok(operand);
        }
        match &mut operand {
            EvalResult::Scalar(values) => negate(values),
            EvalResult::Vector(vector) => {
                for series in &mut *vector {
                    negate(&mut series.values);
                }
                drop_names(vector, self.features);
                *vector = merge_relabeled(std::mem::take(vector))?;
            }
            EvalResult::String(_) => {}
        }
        Ok(operand)
    }

    /// Evaluates an expression that type checks as a vector.
    pub(crate) fn vector(&self, expr: &Expr, steps: Steps) -> Evaluated<Vector> {
        match self.eval(expr, steps)? {
            EvalResult::Vector(vector) => Ok(vector),
            _ => Err(self.internal("expected a vector")),
        }
    }

    /// Evaluates an expression that type checks as a scalar.
    pub(crate) fn scalar(&self, expr: &Expr, steps: Steps) -> Evaluated<Vec<f64>> {
        match self.eval(expr, steps)? {
            EvalResult::Scalar(values) => Ok(values),
            _ => Err(self.internal("expected a scalar")),
        }
    }

    /// Evaluates an expression that type checks as a string.
    pub(crate) fn string(&self, expr: &Expr, steps: Steps) -> Evaluated<Vec<u8>> {
        match self.eval(expr, steps)? {
            EvalResult::String(text) => Ok(text),
            _ => Err(self.internal("expected a string")),
        }
    }

    pub(crate) fn check(&self) -> Evaluated<()> {
        self.budget.check().map_err(|error| self.read_error(error))
    }

    /// Accounts for values that are about to be held.
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

    pub(crate) fn add_stats(&self, stats: &SampleStats) {
        let mut all = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        all.total += stats.total;
        for (sum, &count) in all.per_step.iter_mut().zip(&stats.per_step) {
            *sum += count;
        }
    }

    /// Runs `work` and returns the samples that it read, which are not added to those of the query.
    pub(crate) fn with_own_stats<T>(&self, work: impl FnOnce() -> T) -> (T, SampleStats) {
        let lock = || self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *lock());
        let result = work();
        let inside = std::mem::replace(&mut *lock(), before);
        (result, inside)
    }

    /// Evaluates the whole query, and drops the names that were marked to be dropped at the end.
    pub(crate) fn finished(&self, expr: &Expr, steps: Steps) -> Evaluated<EvalResult> {
        let mut result = self.eval(expr, steps)?;
        if let EvalResult::Vector(vector) = &mut result
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

/// Returns whether the expression is an instant vector.
pub(crate) fn is_vector(expr: &Expr) -> bool {
    expr.value_type() == ValueType::Vector
}
