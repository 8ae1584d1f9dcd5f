//! `sort`, `sort_desc`, `sort_by_label` and `sort_by_label_desc`. They order the results of instant queries. Range
//! results are ordered by labels, so there these functions have no effect.

use std::cmp::Ordering;

use crate::eval::series::{Series, Steps, Vector};
use crate::eval::{Evaluated, Evaluator};
use crate::functions::SeriesOrder;
use crate::parser::ast::Call;

/// Evaluates the argument and sorts it by `order`.
pub(crate) fn sort(
    evaluator: &Evaluator<'_>,
    call: &Call,
    steps: Steps,
    order: SeriesOrder,
) -> Evaluated<Vector> {
    let mut vector = evaluator.argument(call, 0, steps)?;
    let mut labels = Vec::new();
    for arg in call.args.iter().skip(1) {
        let text = evaluator.string(arg, steps)?;
        labels.push(String::from_utf8_lossy(&text).into_owned());
    }
    if evaluator.instant && steps.count == 1 {
        vector.sort_by(|a, b| order(a, b, &labels));
    }
    Ok(vector)
}

/// `sort(v)`
pub(crate) fn ascending(a: &Series, b: &Series, _: &[String]) -> Ordering {
    by_value(a, b, f64::total_cmp)
}

/// `sort_desc(v)`
pub(crate) fn descending(a: &Series, b: &Series, _: &[String]) -> Ordering {
    by_value(a, b, |a, b| b.total_cmp(a))
}

/// `sort_by_label(v, label, …)`
pub(crate) fn by_labels(a: &Series, b: &Series, names: &[String]) -> Ordering {
    for name in names {
        let value = |series: &Series| series.labels.get(name).unwrap_or("").to_owned();
        let order = natural(&value(a), &value(b));
        if order != Ordering::Equal {
            return order;
        }
    }
    a.labels.cmp(&b.labels)
}

/// `sort_by_label_desc(v, label, …)`
pub(crate) fn by_labels_descending(a: &Series, b: &Series, names: &[String]) -> Ordering {
    by_labels(b, a, names)
}

/// Compares first values; NaN comes last in either direction, and 0 equals -0.
fn by_value(a: &Series, b: &Series, compare: fn(&f64, &f64) -> Ordering) -> Ordering {
    let value = |series: &Series| series.values.first().copied().unwrap_or(f64::NAN);
    let (a, b) = (value(a), value(b));
    match (a.is_nan(), b.is_nan()) {
        (false, false) if a == b => Ordering::Equal,
        (false, false) => compare(&a, &b),
        (a_is_nan, b_is_nan) => a_is_nan.cmp(&b_is_nan),
    }
}

/// Compares texts with the numbers in them by value: `a2` before `a10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        let ((left, a_rest), (right, b_rest)) = (first_run(a), first_run(b));
        let order = match (left.parse::<u128>(), right.parse::<u128>()) {
            // Of equal numbers, the one with fewer leading zeros comes first.
            (Ok(x), Ok(y)) => x.cmp(&y).then(left.len().cmp(&right.len())),
            _ => left.cmp(right),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
}

/// Splits a text after its first run of digits, or of other characters.
fn first_run(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|char: char| char.is_ascii_digit());
    let end = text
        .find(|char: char| char.is_ascii_digit() != digits)
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_sort_by_value() {
        let mut texts = ["a10", "a2", "b", "a", "a2b", "10", "9"];
        texts.sort_by(|a, b| natural(a, b));
        assert_eq!(texts, ["9", "10", "a", "a2", "a2b", "a10", "b"]);
    }
}
