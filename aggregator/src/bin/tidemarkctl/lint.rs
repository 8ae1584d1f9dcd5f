//! Naming rules for metrics (prometheus.io/docs/practices/naming), as `promtool check metrics` checks them.

use std::collections::BTreeMap;

use common::exposition::{ExpositionLine, ParseError, Parser};
use common::model::MetricType;

/// Metadata of a family.
#[derive(Debug, Default)]
struct Family {
    help: Option<String>,
    metric_type: Option<MetricType>,
}

/// Units that are not base units, and their base units.
const UNITS: [(&str, &str); 17] = [
    ("nanoseconds", "seconds"),
    ("microseconds", "seconds"),
    ("milliseconds", "seconds"),
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("days", "seconds"),
    ("weeks", "seconds"),
    ("kilobytes", "bytes"),
    ("megabytes", "bytes"),
    ("gigabytes", "bytes"),
    ("kibibytes", "bytes"),
    ("mebibytes", "bytes"),
    ("gibibytes", "bytes"),
    ("millivolts", "volts"),
    ("milliamperes", "amperes"),
    ("fahrenheit", "celsius"),
    ("percent", "ratio"),
];

/// Returns the faults of a text as pairs of metric and reason.
///
/// # Errors
/// The text is not in the text format.
pub(crate) fn lint(text: &str) -> Result<Vec<(String, String)>, ParseError> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut samples = Vec::new();
    for entry in Parser::new(text) {
        match entry? {
            ExpositionLine::Help { family, text } => {
                families.entry(family.into_owned()).or_default().help = Some(text.into_owned());
            }
            ExpositionLine::Type {
                family,
                metric_type,
            } => {
                families.entry(family.into_owned()).or_default().metric_type = Some(metric_type);
            }
            ExpositionLine::Sample { labels, .. } => samples.push(labels),
        }
    }
    let mut faults = Vec::new();
    for labels in samples {
        let name = labels.metric_name().unwrap_or_default();
        let family = family_of(name, &families);
        for (label, _) in &labels {
            if is_camel_case(label) {
                faults.push((
                    family.clone(),
                    "label names should be written in 'snake_case' not 'camelCase'".to_owned(),
                ));
            }
        }
        families.entry(family).or_default();
    }
    for (name, family) in &families {
        for reason in faults_of(name, family) {
            faults.push((name.clone(), reason));
        }
    }
    faults.sort();
    faults.dedup();
    Ok(faults)
}

/// `x_bucket`, `x_sum` and `x_count` belong to the histogram or summary `x`.
fn family_of(name: &str, families: &BTreeMap<String, Family>) -> String {
    let owner = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
        let base = name.strip_suffix(suffix)?;
        let metric_type = families.get(base)?.metric_type?;
        matches!(metric_type, MetricType::Histogram | MetricType::Summary).then_some(base)
    });
    owner.unwrap_or(name).to_owned()
}

fn faults_of(name: &str, family: &Family) -> Vec<String> {
    let mut faults = Vec::new();
    if family.help.as_deref().is_none_or(str::is_empty) {
        faults.push("no help text".to_owned());
    }
    let metric_type = family.metric_type.unwrap_or_default();
    let is_counter = metric_type == MetricType::Counter;
    if is_counter && !name.ends_with("_total") {
        faults.push("counter metrics should have \"_total\" suffix".to_owned());
    }
    if metric_type != MetricType::Unknown && !is_counter && name.ends_with("_total") {
        faults.push("non-counter metrics should not have \"_total\" suffix".to_owned());
    }
    let composed = matches!(
        metric_type,
        MetricType::Histogram | MetricType::Summary | MetricType::Unknown
    );
    for suffix in ["_bucket", "_count", "_sum"] {
        if !composed && name.ends_with(suffix) {
            faults.push(format!(
                "non-histogram and non-summary metrics should not have {suffix:?} suffix"
            ));
        }
    }
    for word in name.split('_') {
        if let Some((unit, base)) = UNITS.iter().find(|(unit, _)| *unit == word) {
            faults.push(format!("use base unit {base:?} instead of {unit:?}"));
        }
    }
    if is_camel_case(name) {
        faults.push("metric names should be written in 'snake_case' not 'camelCase'".to_owned());
    }
    if name.contains(':') {
        faults.push("metric names should not contain ':'".to_owned());
    }
    faults
}

fn is_camel_case(name: &str) -> bool {
    name.as_bytes()
        .windows(2)
        .any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[(&str, &str)]) {
        let got = lint(text).unwrap();
        let got: Vec<_> = got.iter().map(|(m, r)| (m.as_str(), r.as_str())).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn good_metrics_have_no_faults() {
        check(
            "# HELP a_total x\n# TYPE a_total counter\na_total 1\n\
             # HELP b_seconds x\n# TYPE b_seconds histogram\n\
             b_seconds_bucket{le=\"+Inf\"} 1\nb_seconds_sum 1\nb_seconds_count 1\n",
            &[],
        );
    }

    #[test]
    fn faults_are_named() {
        check("up 1\n", &[("up", "no help text")]);
        check(
            "# HELP aB x\n# TYPE aB counter\naB 1\n",
            &[
                ("aB", "counter metrics should have \"_total\" suffix"),
                (
                    "aB",
                    "metric names should be written in 'snake_case' not 'camelCase'",
                ),
            ],
        );
        check(
            "# HELP x_milliseconds h\n# TYPE x_milliseconds gauge\nx_milliseconds 1\n",
            &[(
                "x_milliseconds",
                "use base unit \"seconds\" instead of \"milliseconds\"",
            )],
        );
    }
}
