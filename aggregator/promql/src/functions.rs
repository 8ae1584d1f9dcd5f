//! How each function of the language is evaluated: the evaluator's half of the [function table](crate::function_table).

pub(crate) mod instant;
pub(crate) mod kahan;
pub(crate) mod over_time;

use crate::eval::series::{Series, Steps, Vector};
use crate::eval::{Evaluated, Evaluator};
use crate::function_table::with_function_table;
use crate::parser::ast::Call;
use crate::signature::Function;
use instant::{absent, date, exponential, histogram, info, label, math, sort, time, trigonometry};
use over_time::{WindowFunction, edge, quantile, rate, regression, summary};

/// What the evaluator knows of a function.
#[derive(Debug)]
pub(crate) struct FunctionSpec {
    pub(crate) depends_on: DependsOn,
    pub(crate) evaluation: Evaluation,
}

/// What the result of a function depends on besides its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DependsOn {
    /// Nothing: where no argument changes from step to step, neither does the result.
    Samples,
    /// The evaluation time.
    EvaluationTime,
}

/// Evaluates a call at all steps.
pub(crate) type EvaluateCall<T> = fn(&Evaluator<'_>, &Call, Steps) -> Evaluated<T>;
/// Changes the values of one series in place, given those of the scalar arguments, all by step.
pub(crate) type MapValues = fn(&mut [f64], &[Vec<f64>]);
/// Orders two series; the labels are the string arguments.
pub(crate) type SeriesOrder = fn(&Series, &Series, &[String]) -> std::cmp::Ordering;

/// The class of a function, and how it is evaluated.
#[derive(Debug)]
pub(crate) enum Evaluation {
    /// Returns a number for each step.
    Scalar(EvaluateCall<Vec<f64>>),
    /// Changes each value on its own.
    EachValue(MapValues),
    /// Computes a value from the samples of each window.
    Window(WindowFunction),
    /// Returns series.
    Vector(EvaluateCall<Vector>),
    /// Returns series with other labels, so that two of them may become one.
    Relabel(EvaluateCall<Vector>),
    /// Orders the result of an instant query.
    Sort(SeriesOrder),
}

impl FunctionSpec {
    /// Returns whether the outermost call of this function decides the order of an instant result.
    pub(crate) const fn orders(&self) -> bool {
        match self.evaluation {
            Evaluation::Sort(_) => true,
            Evaluation::Scalar(_)
            | Evaluation::EachValue(_)
            | Evaluation::Window(_)
            | Evaluation::Vector(_)
            | Evaluation::Relabel(_) => false,
        }
    }

    /// Returns whether two series can become one; whether that is an error depends on which steps are evaluated
    /// together.
    pub(crate) const fn can_merge_series(&self) -> bool {
        match self.evaluation {
            Evaluation::Relabel(_) => true,
            Evaluation::Scalar(_)
            | Evaluation::EachValue(_)
            | Evaluation::Window(_)
            | Evaluation::Vector(_)
            | Evaluation::Sort(_) => false,
        }
    }
}

macro_rules! evaluation {
    (scalar($evaluate:path)) => {
        Evaluation::Scalar($evaluate)
    };
    (each_value($map:path)) => {
        Evaluation::EachValue(|values, _| instant::each_value(values, $map))
    };
    (each_value_with_scalar($map:path)) => {
        Evaluation::EachValue(|values, scalars| {
            instant::each_value_with_scalar(values, scalars, $map)
        })
    };
    (each_value_with_scalars($map:path)) => {
        Evaluation::EachValue(|values, scalars| {
            instant::each_value_with_scalars(values, scalars, $map)
        })
    };
    (window($evaluate:path, $names:ident, $resets:ident, $check:ident)) => {
        Evaluation::Window(over_time::window_function!(
            $evaluate, $names, $resets, $check
        ))
    };
    (vector($evaluate:path)) => {
        Evaluation::Vector($evaluate)
    };
    (relabel($evaluate:path)) => {
        Evaluation::Relabel($evaluate)
    };
    (sort($order:path)) => {
        Evaluation::Sort($order)
    };
}

macro_rules! define_specs {
    ($($name:literal: $function:ident($($arg:ident),*) $arity:ident -> $returns:ident, $stage:ident,
        $depends_on:ident, $class:ident $evaluation:tt;)*) => {
        /// Returns how `function` is evaluated.
        pub(crate) const fn spec(function: Function) -> &'static FunctionSpec {
            match function {
                $(Function::$function => {
                    static SPEC: FunctionSpec = FunctionSpec {
                        depends_on: DependsOn::$depends_on,
                        evaluation: evaluation!($class $evaluation),
                    };
                    &SPEC
                })*
            }
        }
    };
}

with_function_table!(define_specs);
