//! `count_values`: counts the series of a group by their value, which becomes a label.

use common::model::{Labels, label::METRIC_NAME};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::series::{MISSING, Series, Steps, Vector, is_missing, merge_same_labels};
use super::{Evaluated, Evaluator};
use crate::format::format_float_plain;
use crate::parser::ast::Aggregation;
use crate::parser::quote::go_quote_bytes;

impl Evaluator<'_> {
    pub(super) fn count_values(
        &self,
        aggregation: &Aggregation,
        steps: Steps,
    ) -> Evaluated<Vector> {
        let Some(param) = &aggregation.param else {
            return Err(self.execution("aggregation without a parameter"));
        };
        let text = self.string(param, steps)?;
        let label = match String::from_utf8(text) {
            Ok(label) if !label.is_empty() => label,
            invalid => {
                let text = go_quote_bytes(
                    &invalid.map_or_else(|error| error.into_bytes(), String::into_bytes),
                );
                return Err(self.execution(format!("invalid label name {text}")));
            }
        };
        let vector = self.vector(&aggregation.expr, steps)?;
        let keep = |name: &str| {
            let listed = aggregation.grouping.iter().any(|label| label == name);
            if aggregation.without {
                !listed && name != METRIC_NAME
            } else {
                listed
            }
        };
        let labelled = !aggregation.without
            || (label != METRIC_NAME && !aggregation.grouping.contains(&label));
        let mut counted: HashMap<(Labels, u64), Vec<f64>> = HashMap::new();
        for series in vector {
            self.check()?;
            let group = series.labels.filtered(|name| keep(name) && name != label);
            for (step, &value) in series.values.iter().enumerate() {
                if is_missing(value) {
                    continue;
                }
                // All NaNs print alike.
                let bits = if value.is_nan() {
                    f64::NAN.to_bits()
                } else {
                    value.to_bits()
                };
                let key = (group.clone(), if labelled { bits } else { 0 });
                let counts = match counted.entry(key) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        self.hold(steps.count)?;
                        entry.insert(vec![MISSING; steps.count])
                    }
                };
                let count = &mut counts[step];
                *count = if is_missing(*count) {
                    1.0
                } else {
                    *count + 1.0
                };
            }
        }
        let series = counted.into_iter().map(|((group, bits), counts)| {
            let mut builder = group.to_builder();
            if labelled {
                builder.set(label.as_str(), format_float_plain(f64::from_bits(bits)));
            }
            let labels = builder
                .build()
                .map_err(|error| self.execution(error.to_string()))?;
            Ok(Series::new(labels, counts))
        });
        let series: Evaluated<Vector> = series.collect();
        merge_same_labels(series?, self.features)
    }
}
