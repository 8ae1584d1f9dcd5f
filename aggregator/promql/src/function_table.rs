//! The table of all functions of the language, one row each.
//!
//! To add a function, add a row here, its evaluation under `functions/instant` or `functions/over_time`, and cases in
//! `tests/cases`. Each column must be filled in, and everything else is derived from the row.
//!
//! | column | meaning |
//! | --- | --- |
//! | name | as written in queries; rows are sorted by it |
//! | id | its variant of `signature::Function` |
//! | arguments | their types, optional ones included |
//! | arity | `signature::Arity`: whether the last argument may be omitted or repeated |
//! | returns | the type of the result |
//! | stage | `signature::Stage`: whether the function needs the feature `promql-experimental-functions` |
//! | depends on | `functions::DependsOn`: whether the result changes with the evaluation time over the same samples |
//! | evaluation | its class and the function that evaluates it, see below |
//!
//! | class | evaluated by | what follows from the class |
//! | --- | --- | --- |
//! | `scalar(f)` | `f(evaluator, call, steps)`, a number for each step | |
//! | `each_value(f)` | `f(value)`; without an argument, of the evaluation time | drops names |
//! | `each_value_with_scalar(f)` | `f(value, scalar)`; an omitted scalar is 1 | drops names |
//! | `each_value_with_scalars(f)` | `f(value, scalar, scalar)` | drops names |
//! | `window(f, names, resets, check)` | `f(window)` for each series and step | aggregations stream most of them |
//! | `vector(f)` | `f(evaluator, call, steps)` | |
//! | `relabel(f)` | as `vector`; series may come to have equal labels | range results are not cached |
//! | `sort(f)` | `f(series, series, labels)`, an order | instant results keep that order |
//!
//! The other arguments of `window` are whether the result keeps or drops names (`functions::over_time::Names`), whether
//! the function needs the positions of counter resets (`Resets`), and what is checked besides (`WindowCheck`).

/// Expands to `$consumer! { table }`. The parser takes the columns up to `stage` from it, the evaluator the others.
macro_rules! with_function_table {
    ($consumer:ident) => {
        $consumer! {
            // name: id(arguments) arity -> returns, stage, depends on, evaluation;
            "abs": Abs(Vector) Exact -> Vector, Stable, Samples, each_value(f64::abs);
            "absent": Absent(Vector) Exact -> Vector, Stable, Samples, vector(absent::absent);
            "absent_over_time": AbsentOverTime(Matrix) Exact -> Vector, Stable, Samples,
                vector(absent::absent_over_time);
            "acos": Acos(Vector) Exact -> Vector, Stable, Samples, each_value(trigonometry::acos);
            "acosh": Acosh(Vector) Exact -> Vector, Stable, Samples, each_value(exponential::acosh);
            "asin": Asin(Vector) Exact -> Vector, Stable, Samples, each_value(trigonometry::asin);
            "asinh": Asinh(Vector) Exact -> Vector, Stable, Samples, each_value(exponential::asinh);
            "atan": Atan(Vector) Exact -> Vector, Stable, Samples, each_value(trigonometry::atan);
            "atanh": Atanh(Vector) Exact -> Vector, Stable, Samples, each_value(exponential::atanh);
            "avg_over_time": AvgOverTime(Matrix) Exact -> Vector, Stable, Samples,
                window(summary::average, Drop, Unused, Nothing);
            "ceil": Ceil(Vector) Exact -> Vector, Stable, Samples, each_value(f64::ceil);
            "changes": Changes(Matrix) Exact -> Vector, Stable, Samples,
                window(summary::changes, Drop, Unused, Nothing);
            "clamp": Clamp(Vector, Scalar, Scalar) Exact -> Vector, Stable, Samples,
                each_value_with_scalars(math::clamp);
            "clamp_max": ClampMax(Vector, Scalar) Exact -> Vector, Stable, Samples,
                each_value_with_scalar(math::clamp_max);
            "clamp_min": ClampMin(Vector, Scalar) Exact -> Vector, Stable, Samples,
                each_value_with_scalar(math::clamp_min);
            "cos": Cos(Vector) Exact -> Vector, Stable, Samples, each_value(trigonometry::cos);
            "cosh": Cosh(Vector) Exact -> Vector, Stable, Samples, each_value(exponential::cosh);
            "count_over_time": CountOverTime(Matrix) Exact -> Vector, Stable, Samples,
                window(summary::count, Drop, Unused, Nothing);
            "day_of_month": DayOfMonth(Vector) LastOptional -> Vector, Stable, EvaluationTime,
                each_value(date::day_of_month);
            "day_of_week": DayOfWeek(Vector) LastOptional -> Vector, Stable, EvaluationTime,
                each_value(date::day_of_week);
            "day_of_year": DayOfYear(Vector) LastOptional -> Vector, Stable, EvaluationTime,
                each_value(date::day_of_year);
            "days_in_month": DaysInMonth(Vector) LastOptional -> Vector, Stable, EvaluationTime,
                each_value(date::days_in_month);
            "deg": Deg(Vector) Exact -> Vector, Stable, Samples, each_value(math::degrees);
            "delta": Delta(Matrix) Exact -> Vector, Stable, Samples, window(rate::delta, Drop, Unused, Nothing);
            "deriv": Deriv(Matrix) Exact -> Vector, Stable, Samples, window(regression::deriv, Drop, Unused, Nothing);
            "double_exponential_smoothing": DoubleExponentialSmoothing(Matrix, Scalar, Scalar) Exact -> Vector,
                Experimental, Samples, window(regression::smoothed, Drop, Unused, SmoothingFactors);
            "exp": Exp(Vector) Exact -> Vector, Stable, Samples, each_value(exponential::exp);
            "first_over_time": FirstOverTime(Matrix) Exact -> Vector, Experimental, Samples,
                window(edge::first, Keep, Unused, Nothing);
            "floor": Floor(Vector) Exact -> Vector, Stable, Samples, each_value(f64::floor);
            "histogram_avg": HistogramAvg(Vector) Exact -> Vector, Stable, Samples, vector(histogram::of_native);
            "histogram_count": HistogramCount(Vector) Exact -> Vector, Stable, Samples, vector(histogram::of_native);
            "histogram_fraction": HistogramFraction(Scalar, Scalar, Vector) Exact -> Vector, Stable, Samples,
                vector(histogram::fraction);
            "histogram_quantile": HistogramQuantile(Scalar, Vector) Exact -> Vector, Stable, Samples,
                vector(histogram::quantile);
            "histogram_stddev": HistogramStddev(Vector) Exact -> Vector, Stable, Samples,
                vector(histogram::of_native);
            "histogram_stdvar": HistogramStdvar(Vector) Exact -> Vector, Stable, Samples,
                vector(histogram::of_native);
            "histogram_sum": HistogramSum(Vector) Exact -> Vector, Stable, Samples, vector(histogram::of_native);
            "hour": Hour(Vector) LastOptional -> Vector, Stable, EvaluationTime, each_value(date::hour);
            "idelta": Idelta(Matrix) Exact -> Vector, Stable, Samples, window(rate::idelta, Drop, Unused, Nothing);
            "increase": Increase(Matrix) Exact -> Vector, Stable, Samples,
                window(rate::increase, Drop, Needed, CounterName);
            "info": Info(Vector, Vector) LastOptional -> Vector, Experimental, Samples, relabel(info::info);
            "irate": Irate(Matrix) Exact -> Vector, Stable, Samples, window(rate::irate, Drop, Unused, Nothing);
            "label_join": LabelJoin(Vector, String, String, String) LastRepeated -> Vector, Stable, Samples,
                relabel(label::join);
            "label_replace": LabelReplace(Vector, String, String, String, String) Exact -> Vector, Stable, Samples,
                relabel(label::replace);
            "last_over_time": LastOverTime(Matrix) Exact -> Vector, Stable, Samples,
                window(edge::last, Keep, Unused, Nothing);
            "ln": Ln(Vector) Exact -> Vector, Stable, Samples, each_value(exponential::ln);
            "log10": Log10(Vector) Exact -> Vector, Stable, Samples, each_value(exponential::log10);
            "log2": Log2(Vector) Exact -> Vector, Stable, Samples, each_value(exponential::log2);
            "mad_over_time": MadOverTime(Matrix) Exact -> Vector, Experimental, Samples,
                window(quantile::median_deviation, Drop, Unused, Nothing);
            "max_over_time": MaxOverTime(Matrix) Exact -> Vector, Stable, Samples,
                window(summary::max, Drop, Unused, Nothing);
            "min_over_time": MinOverTime(Matrix) Exact -> Vector, Stable, Samples,
                window(summary::min, Drop, Unused, Nothing);
            "minute": Minute(Vector) LastOptional -> Vector, Stable, EvaluationTime, each_value(date::minute);
            "month": Month(Vector) LastOptional -> Vector, Stable, EvaluationTime, each_value(date::month);
            "pi": Pi() Exact -> Scalar, Stable, Samples, scalar(time::pi);
            "predict_linear": PredictLinear(Matrix, Scalar) Exact -> Vector, Stable, EvaluationTime,
                window(regression::predict_linear, Drop, Unused, Nothing);
            "present_over_time": PresentOverTime(Matrix) Exact -> Vector, Stable, Samples,
                window(summary::present, Drop, Unused, Nothing);
            "quantile_over_time": QuantileOverTime(Scalar, Matrix) Exact -> Vector, Stable, Samples,
                window(quantile::quantile_over_time, Drop, Unused, Quantile);
            "rad": Rad(Vector) Exact -> Vector, Stable, Samples, each_value(math::radians);
            "rate": Rate(Matrix) Exact -> Vector, Stable, Samples, window(rate::rate, Drop, Needed, CounterName);
            "resets": Resets(Matrix) Exact -> Vector, Stable, Samples, window(rate::resets, Drop, Needed, Nothing);
            "round": Round(Vector, Scalar) LastOptional -> Vector, Stable, Samples,
                each_value_with_scalar(math::round);
            "scalar": ScalarOf(Vector) Exact -> Scalar, Stable, Samples, scalar(time::scalar);
            "sgn": Sgn(Vector) Exact -> Vector, Stable, Samples, each_value(math::sign);
            "sin": Sin(Vector) Exact -> Vector, Stable, Samples, each_value(trigonometry::sin);
            "sinh": Sinh(Vector) Exact -> Vector, Stable, Samples, each_value(exponential::sinh);
            "sort": Sort(Vector) Exact -> Vector, Stable, Samples, sort(sort::ascending);
            "sort_by_label": SortByLabel(Vector, String) LastRepeated -> Vector, Experimental, Samples,
                sort(sort::by_labels);
            "sort_by_label_desc": SortByLabelDesc(Vector, String) LastRepeated -> Vector, Experimental, Samples,
                sort(sort::by_labels_descending);
            "sort_desc": SortDesc(Vector) Exact -> Vector, Stable, Samples, sort(sort::descending);
            "sqrt": Sqrt(Vector) Exact -> Vector, Stable, Samples, each_value(f64::sqrt);
            "stddev_over_time": StddevOverTime(Matrix) Exact -> Vector, Stable, Samples,
                window(summary::stddev, Drop, Unused, Nothing);
            "stdvar_over_time": StdvarOverTime(Matrix) Exact -> Vector, Stable, Samples,
                window(summary::stdvar, Drop, Unused, Nothing);
            "sum_over_time": SumOverTime(Matrix) Exact -> Vector, Stable, Samples,
                window(summary::sum, Drop, Unused, Nothing);
            "tan": Tan(Vector) Exact -> Vector, Stable, Samples, each_value(trigonometry::tan);
            "tanh": Tanh(Vector) Exact -> Vector, Stable, Samples, each_value(exponential::tanh);
            "time": Time() Exact -> Scalar, Stable, EvaluationTime, scalar(time::time);
            "timestamp": Timestamp(Vector) Exact -> Vector, Stable, EvaluationTime, vector(time::timestamp);
            "ts_of_first_over_time": TsOfFirstOverTime(Matrix) Exact -> Vector, Experimental, Samples,
                window(edge::time_of_first, Drop, Unused, Nothing);
            "ts_of_last_over_time": TsOfLastOverTime(Matrix) Exact -> Vector, Experimental, Samples,
                window(edge::time_of_last, Drop, Unused, Nothing);
            "ts_of_max_over_time": TsOfMaxOverTime(Matrix) Exact -> Vector, Experimental, Samples,
                window(edge::time_of_max, Drop, Unused, Nothing);
            "ts_of_min_over_time": TsOfMinOverTime(Matrix) Exact -> Vector, Experimental, Samples,
                window(edge::time_of_min, Drop, Unused, Nothing);
            "vector": VectorOf(Scalar) Exact -> Vector, Stable, Samples, vector(time::vector);
            "year": Year(Vector) LastOptional -> Vector, Stable, EvaluationTime, each_value(date::year);
        }
    };
}

pub(crate) use with_function_table;
