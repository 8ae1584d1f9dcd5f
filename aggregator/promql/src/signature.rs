//! The functions of the language: names, argument types, and what needs a feature flag.

use crate::parser::ValueType::{self, Matrix, Scalar, String, Vector};

/// What a function takes and returns.
#[derive(Debug, PartialEq, Eq)]
pub struct Signature {
    /// Its name.
    pub name: &'static str,
    /// Which one it is.
    pub function: Function,
    /// Types of its arguments, optional ones included.
    pub args: &'static [ValueType],
    /// How many of the last argument may be given beyond the others: 0 exactly as listed, negative any number.
    pub variadic: i32,
    /// What it returns.
    pub returns: ValueType,
    /// Whether it needs `promql-experimental-functions`.
    pub experimental: bool,
}

/// The signature of `name`, experimental ones included.
#[must_use]
pub fn signature(name: &str) -> Option<&'static Signature> {
    SIGNATURES
        .binary_search_by(|signature| signature.name.cmp(name))
        .ok()
        .and_then(|index| SIGNATURES.get(index))
}

/// All functions, sorted by name.
#[must_use]
pub const fn signatures() -> &'static [Signature] {
    SIGNATURES
}

macro_rules! functions {
    ($($name:literal $function:ident [$($arg:ident),*] $variadic:literal $returns:ident $experimental:literal;)*) => {
        /// A function of the language.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the names are those of the functions")]
        pub enum Function { $($function),* }

        static SIGNATURES: &[Signature] = &[$(Signature {
            name: $name,
            function: Function::$function,
            args: &[$($arg),*],
            variadic: $variadic,
            returns: $returns,
            experimental: $experimental,
        }),*];
    };
}

functions! {
    "abs" Abs [Vector] 0 Vector false;
    "absent" Absent [Vector] 0 Vector false;
    "absent_over_time" AbsentOverTime [Matrix] 0 Vector false;
    "acos" Acos [Vector] 0 Vector false;
    "acosh" Acosh [Vector] 0 Vector false;
    "asin" Asin [Vector] 0 Vector false;
    "asinh" Asinh [Vector] 0 Vector false;
    "atan" Atan [Vector] 0 Vector false;
    "atanh" Atanh [Vector] 0 Vector false;
    "avg_over_time" AvgOverTime [Matrix] 0 Vector false;
    "ceil" Ceil [Vector] 0 Vector false;
    "changes" Changes [Matrix] 0 Vector false;
    "clamp" Clamp [Vector, Scalar, Scalar] 0 Vector false;
    "clamp_max" ClampMax [Vector, Scalar] 0 Vector false;
    "clamp_min" ClampMin [Vector, Scalar] 0 Vector false;
    "cos" Cos [Vector] 0 Vector false;
    "cosh" Cosh [Vector] 0 Vector false;
    "count_over_time" CountOverTime [Matrix] 0 Vector false;
    "day_of_month" DayOfMonth [Vector] 1 Vector false;
    "day_of_week" DayOfWeek [Vector] 1 Vector false;
    "day_of_year" DayOfYear [Vector] 1 Vector false;
    "days_in_month" DaysInMonth [Vector] 1 Vector false;
    "deg" Deg [Vector] 0 Vector false;
    "delta" Delta [Matrix] 0 Vector false;
    "deriv" Deriv [Matrix] 0 Vector false;
    "double_exponential_smoothing" DoubleExponentialSmoothing [Matrix, Scalar, Scalar] 0 Vector true;
    "exp" Exp [Vector] 0 Vector false;
    "floor" Floor [Vector] 0 Vector false;
    "histogram_avg" HistogramAvg [Vector] 0 Vector false;
    "histogram_count" HistogramCount [Vector] 0 Vector false;
    "histogram_fraction" HistogramFraction [Scalar, Scalar, Vector] 0 Vector false;
    "histogram_quantile" HistogramQuantile [Scalar, Vector] 0 Vector false;
    "histogram_stddev" HistogramStddev [Vector] 0 Vector false;
    "histogram_stdvar" HistogramStdvar [Vector] 0 Vector false;
    "histogram_sum" HistogramSum [Vector] 0 Vector false;
    "hour" Hour [Vector] 1 Vector false;
    "idelta" Idelta [Matrix] 0 Vector false;
    "increase" Increase [Matrix] 0 Vector false;
    "info" Info [Vector, Vector] 1 Vector true;
    "irate" Irate [Matrix] 0 Vector false;
    "label_join" LabelJoin [Vector, String, String, String] -1 Vector false;
    "label_replace" LabelReplace [Vector, String, String, String, String] 0 Vector false;
    "last_over_time" LastOverTime [Matrix] 0 Vector false;
    "ln" Ln [Vector] 0 Vector false;
    "log10" Log10 [Vector] 0 Vector false;
    "log2" Log2 [Vector] 0 Vector false;
    "mad_over_time" MadOverTime [Matrix] 0 Vector true;
    "max_over_time" MaxOverTime [Matrix] 0 Vector false;
    "min_over_time" MinOverTime [Matrix] 0 Vector false;
    "minute" Minute [Vector] 1 Vector false;
    "month" Month [Vector] 1 Vector false;
    "pi" Pi [] 0 Scalar false;
    "predict_linear" PredictLinear [Matrix, Scalar] 0 Vector false;
    "present_over_time" PresentOverTime [Matrix] 0 Vector false;
    "quantile_over_time" QuantileOverTime [Scalar, Matrix] 0 Vector false;
    "rad" Rad [Vector] 0 Vector false;
    "rate" Rate [Matrix] 0 Vector false;
    "resets" Resets [Matrix] 0 Vector false;
    "round" Round [Vector, Scalar] 1 Vector false;
    "scalar" ScalarOf [Vector] 0 Scalar false;
    "sgn" Sgn [Vector] 0 Vector false;
    "sin" Sin [Vector] 0 Vector false;
    "sinh" Sinh [Vector] 0 Vector false;
    "sort" Sort [Vector] 0 Vector false;
    "sort_by_label" SortByLabel [Vector, String] -1 Vector true;
    "sort_by_label_desc" SortByLabelDesc [Vector, String] -1 Vector true;
    "sort_desc" SortDesc [Vector] 0 Vector false;
    "sqrt" Sqrt [Vector] 0 Vector false;
    "stddev_over_time" StddevOverTime [Matrix] 0 Vector false;
    "stdvar_over_time" StdvarOverTime [Matrix] 0 Vector false;
    "sum_over_time" SumOverTime [Matrix] 0 Vector false;
    "tan" Tan [Vector] 0 Vector false;
    "tanh" Tanh [Vector] 0 Vector false;
    "time" Time [] 0 Scalar false;
    "timestamp" Timestamp [Vector] 0 Vector false;
    "ts_of_last_over_time" TsOfLastOverTime [Matrix] 0 Vector true;
    "ts_of_max_over_time" TsOfMaxOverTime [Matrix] 0 Vector true;
    "ts_of_min_over_time" TsOfMinOverTime [Matrix] 0 Vector true;
    "vector" VectorOf [Scalar] 0 Vector false;
    "year" Year [Vector] 1 Vector false;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_complete() {
        assert!(SIGNATURES.is_sorted_by(|a, b| a.name < b.name));
        // Prometheus 3.5: 72 stable functions, 8 experimental ones.
        assert_eq!(SIGNATURES.iter().filter(|s| !s.experimental).count(), 72);
        assert_eq!(SIGNATURES.iter().filter(|s| s.experimental).count(), 8);
        assert_eq!(signature("rate").map(|s| s.function), Some(Function::Rate));
        assert_eq!(signature("rat"), None);
    }
}
