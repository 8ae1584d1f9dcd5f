//! Functions of range vectors: each computes one value from the samples of one series in one window.

pub(crate) mod edge;
pub(crate) mod quantile;
pub(crate) mod rate;
pub(crate) mod regression;
pub(crate) mod summary;

use tidemark_storage::read::ReadError;

use crate::eval::budget::Budget;
use crate::eval::selector_scan::{SampleStats, WindowPass};

/// The samples of one series in one window, oldest first, at least one, without staleness markers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'a> {
    pub(crate) timestamps_ms: &'a [i64],
    pub(crate) values: &'a [f64],
    /// Indices of samples that are below their predecessor, among all samples of the series. Empty unless the function
    /// has [`Resets::Needed`].
    pub(crate) resets: &'a [usize],
    /// Index of the first sample of this window among all samples of the series.
    pub(crate) first_index: usize,
    /// End of the window, inclusive.
    pub(crate) end_ms: i64,
    /// Length of the window.
    pub(crate) range_ms: i64,
    /// Evaluation time; `offset` and `@` move the window away from it.
    pub(crate) step_ms: i64,
    /// The scalar arguments at this step.
    pub(crate) params: [f64; 2],
}

/// How a function of windows is evaluated.
#[derive(Debug)]
pub(crate) struct WindowFunction {
    /// Evaluates the function for all windows of one series; returns whether any has a value. The loop is compiled for
    /// each function, so that a window costs no indirect call.
    pub(crate) run:
        fn(&WindowPass<'_>, &mut [f64], &Budget<'_>, &mut SampleStats) -> Result<bool, ReadError>,
    pub(crate) names: Names,
    pub(crate) resets: Resets,
    pub(crate) check: WindowCheck,
}

/// What becomes of the metric name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Keep,
    Drop,
}

/// Whether [`Window::resets`] is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resets {
    Needed,
    Unused,
}

/// What is checked besides the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WindowCheck {
    Nothing,
    /// An info when the name does not look like that of a counter.
    CounterName,
    /// A warning when the first scalar is not a quantile, at steps where a series has a value.
    Quantile,
    /// An error when a scalar is not between 0 and 1.
    SmoothingFactors,
}

/// A [`WindowFunction`] that calls the function `$evaluate` for each window.
macro_rules! window_function {
    ($evaluate:path, $names:ident, $resets:ident, $check:ident) => {
        $crate::functions::over_time::WindowFunction {
            run: |pass, values, budget, stats| pass.run($evaluate, values, budget, stats),
            names: $crate::functions::over_time::Names::$names,
            resets: $crate::functions::over_time::Resets::$resets,
            check: $crate::functions::over_time::WindowCheck::$check,
        }
    };
}

pub(crate) use window_function;

/// `present_over_time`, which `absent_over_time` evaluates, too.
pub(crate) static PRESENT: WindowFunction =
    window_function!(summary::present, Drop, Unused, Nothing);

impl Window<'_> {
    /// Returns the counter resets between two samples of this window.
    pub(crate) fn resets_inside(&self) -> &[usize] {
        if self.resets.is_empty() {
            return &[];
        }
        let last = self.first_index + self.values.len();
        let from = self.resets.partition_point(|&at| at <= self.first_index);
        let to = self.resets.partition_point(|&at| at < last);
        self.resets.get(from..to).unwrap_or_default()
    }
}
