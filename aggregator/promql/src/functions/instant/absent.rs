//! `absent` and `absent_over_time`.

use common::model::{Labels, LabelsBuilder, MatchOp, Matcher, label::METRIC_NAME};

use crate::eval::selector_scan::{ScanKind, WindowParams};
use crate::eval::series::{MISSING, Series, Steps, Vector, is_missing};
use crate::eval::{Evaluated, Evaluator, range_argument};
use crate::functions::over_time;
use crate::parser::ast::{Call, Expr, VectorSelector};

/// `absent(v)`: 1 where the argument has no series.
pub(crate) fn absent(evaluator: &Evaluator<'_>, call: &Call, steps: Steps) -> Evaluated<Vector> {
    let vector = evaluator.argument(call, 0, steps)?;
    let mut values = vec![1.0; steps.count];
    for series in vector {
        for (absent, &value) in values.iter_mut().zip(&series.values) {
            if !is_missing(value) {
                *absent = MISSING;
            }
        }
    }
    Ok(vec![Series::new(absent_labels(call), values)])
}

/// `absent_over_time(v)`: 1 where no series has a sample in its window.
pub(crate) fn absent_over_time(
    evaluator: &Evaluator<'_>,
    call: &Call,
    steps: Steps,
) -> Evaluated<Vector> {
    let argument = range_argument(evaluator, call)?;
    let kind = ScanKind::Windows(&over_time::PRESENT, WindowParams::default());
    let scan = evaluator.range_scan(argument, steps, kind)?;
    let parts = evaluator.scan_in_parts(&scan, |range, stats| {
        let mut present = vec![false; steps.count];
        scan.read(range, &evaluator.budget, stats, &mut |_, values| {
            for (present, &value) in present.iter_mut().zip(values) {
                *present |= !is_missing(value);
            }
            Ok(())
        })?;
        Ok(present)
    })?;
    let value = |step: usize| {
        let present = parts.iter().any(|part| part[step]);
        if present { MISSING } else { 1.0 }
    };
    let values = (0..steps.count).map(value).collect();
    let mut absent = Series::new(absent_labels(call), values);
    absent.drop_name = evaluator.features.delayed_name_removal;
    Ok(vec![absent])
}

/// Returns the labels that `=` matchers fix, each named by one matcher only; none when the argument is not a selector.
fn absent_labels(call: &Call) -> Labels {
    let selector: &VectorSelector = match call.args.first().map(Expr::unwrap_parens) {
        Some(Expr::Vector(selector)) => selector,
        Some(Expr::Matrix(matrix)) => &matrix.selector,
        _ => return Labels::empty(),
    };
    // Prometheus' head sorts the matchers of the selector in place: those that only remove series come after those
    // that find them. `absent` then reads them in that order.
    let must_be_set: Vec<&str> = selector
        .matchers
        .iter()
        .filter(|matcher| !matcher.matches_empty())
        .map(Matcher::name)
        .collect();
    let only_removes = |matcher: &&Matcher| {
        !must_be_set.contains(&matcher.name())
            || (matches!(matcher.op(), MatchOp::NotEqual | MatchOp::NotRegex)
                && matcher.matches_empty())
    };
    let (last, first): (Vec<_>, Vec<_>) = selector.matchers.iter().partition(only_removes);
    let mut builder = LabelsBuilder::default();
    let mut fixed: Vec<&str> = Vec::new();
    for matcher in first.into_iter().chain(last) {
        let name = matcher.name();
        if name == METRIC_NAME {
            continue;
        }
        if matcher.op() == MatchOp::Equal && !fixed.contains(&name) {
            builder.set(name, matcher.value());
            fixed.push(name);
        } else {
            builder.remove(name);
        }
    }
    builder.build().unwrap_or_default()
}
