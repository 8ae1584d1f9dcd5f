//! Compares the answers of two servers value by value.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The content of an answer, independent of the order of its parts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// Series by their labels as text, each with its points (seconds, value). A name or a label set without values has
    /// no points.
    series: BTreeMap<String, Vec<(f64, f64)>>,
}

/// Difference of two answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Difference {
    /// Series and timestamps are equal; the largest relative difference of two values.
    Values(f64),
    /// Number of series or points in only one of the answers.
    Shape(usize),
}

impl Answer {
    /// Parses the JSON of any endpoint.
    pub(super) fn parse(body: &[u8]) -> Result<Self> {
        let answer: Value = serde_json::from_slice(body)?;
        let data = &answer["data"];
        let result = data.get("result").unwrap_or(data);
        let Some(items) = result.as_array() else {
            bail!(
                "no result in {}",
                String::from_utf8_lossy(&body[..body.len().min(200)])
            );
        };
        let mut series = BTreeMap::new();
        for item in items {
            let points = match (item.get("values"), item.get("value")) {
                (Some(Value::Array(values)), _) => {
                    values.iter().map(point).collect::<Result<_>>()?
                }
                (_, Some(value)) => vec![point(value)?],
                _ => Vec::new(),
            };
            // serde_json's maps are sorted by name.
            let labels = item.get("metric").unwrap_or(item).to_string();
            series.insert(labels, points);
        }
        Ok(Self { series })
    }

    /// Returns the number of series, names or label sets.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// Returns the number of values.
    pub(super) fn points(&self) -> usize {
        self.series.values().map(Vec::len).sum()
    }

    /// Compares with the reference answer.
    pub(super) fn difference(&self, right: &Self) -> Difference {
        let only = |a: &Self, b: &Self| {
            a.series
                .keys()
                .filter(|key| !b.series.contains_key(*key))
                .count()
        };
        let mut apart = only(self, right) + only(right, self);
        let mut largest = 0.0_f64;
        for (labels, points) in &self.series {
            let Some(others) = right.series.get(labels) else {
                continue;
            };
            let times =
                |points: &[(f64, f64)]| points.iter().map(|p| p.0.to_bits()).collect::<Vec<_>>();
            if times(points) != times(others) {
                apart += points.len().abs_diff(others.len()).max(1);
                continue;
            }
            for (a, b) in points.iter().zip(others) {
                largest = largest.max(relative(a.1, b.1));
            }
        }
        if apart > 0 {
            Difference::Shape(apart)
        } else {
            Difference::Values(largest)
        }
    }
}

fn point(value: &Value) -> Result<(f64, f64)> {
    let time = value[0].as_f64().context("a time")?;
    let text = value[1].as_str().context("a value")?;
    // Rust parses Prometheus' `NaN`, `+Inf` and `-Inf`.
    Ok((time, text.parse().with_context(|| format!("value {text}"))?))
}

fn relative(a: f64, b: f64) -> f64 {
    if a == b || (a.is_nan() && b.is_nan()) {
        return 0.0;
    }
    let difference = ((a - b) / a.abs().max(b.abs())).abs();
    if difference.is_nan() {
        f64::INFINITY
    } else {
        difference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(a: &str, b: &str) -> Answer {
        let text = format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[
            {{"metric":{{"x":"a"}},"value":[1,"{a}"]}},{{"metric":{{"x":"b"}},"value":[1,"{b}"]}}]}}}}"#
        );
        Answer::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn values_are_compared_relative_to_their_size() {
        let left = vector("1000", "NaN");
        assert_eq!(left.len(), 2);
        assert_eq!(left.points(), 2);
        assert_eq!(left.difference(&left), Difference::Values(0.0));
        assert_eq!(
            left.difference(&vector("999", "NaN")),
            Difference::Values(0.001)
        );
        assert_eq!(
            left.difference(&vector("1000", "1")),
            Difference::Values(f64::INFINITY)
        );
    }

    #[test]
    fn missing_series_and_points_are_counted() {
        let names = |text: &str| Answer::parse(text.as_bytes()).unwrap();
        let two = names(r#"{"status":"success","data":["a","b"]}"#);
        let one = names(r#"{"status":"success","data":["b"]}"#);
        assert_eq!(one.difference(&two), Difference::Shape(1));
        let matrix = |points: &str| {
            names(&format!(
                r#"{{"data":{{"result":[{{"metric":{{}},"values":[{points}]}}]}}}}"#
            ))
        };
        let long = matrix(r#"[1,"1"],[2,"1"],[3,"1"]"#);
        assert_eq!(matrix(r#"[1,"1"]"#).difference(&long), Difference::Shape(2));
        assert!(Answer::parse(br#"{"status":"error"}"#).is_err());
    }
}
