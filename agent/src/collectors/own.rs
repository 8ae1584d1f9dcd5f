//! The agent's own metrics, as series of the node.

use common::model::Metadata;
use common::telemetry::{Reading, Registry};

use crate::collect::{Due, Tier};
use crate::schema::{Schema, Target};
use crate::table::{SeriesId, SeriesTable};

/// Stores the values of a metrics registry every 30 s.
#[derive(Debug)]
pub struct OwnMetrics {
    registry: Registry,
    /// In the registry's order, in which a new metric comes after the others of its family.
    series: Vec<SeriesId>,
}

impl OwnMetrics {
    /// The metrics of `registry`.
    #[must_use]
    pub const fn new(registry: Registry) -> Self {
        let series = Vec::new();
        Self { registry, series }
    }

    /// Stores all values if they are due.
    pub fn collect(&mut self, table: &mut SeriesTable, schema: &mut Schema, due: Due) {
        if !due.includes(Tier::Medium) {
            return;
        }
        if self.registry.series_count() != self.series.len() {
            self.name_anew(table, schema);
        }
        let mut series = self.series.iter();
        self.registry.read(&mut |reading| {
            if let Some(&id) = series.next() {
                table.set(id, reading.value);
            }
        });
    }

    /// Adds all series again, because metrics that were registered after the start changed the order.
    fn name_anew(&mut self, table: &mut SeriesTable, schema: &mut Schema) {
        self.series.drain(..).for_each(|id| table.remove(id));
        let series = &mut self.series;
        self.registry.read(&mut |reading| {
            series.push(add(&reading, table, schema));
        });
    }
}

fn add(reading: &Reading<'_>, table: &mut SeriesTable, schema: &mut Schema) -> SeriesId {
    let metadata = Metadata {
        metric_type: reading.metric_type,
        help: reading.help.to_owned(),
        unit: String::new(),
    };
    let bound = reading.bound.map(|bound| match bound {
        f64::INFINITY => "+Inf".to_owned(),
        bound => bound.to_string(),
    });
    let mut labels: Vec<(&str, &str)> = reading
        .labels
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    labels.extend(bound.as_deref().map(|bound| ("le", bound)));
    let name = format!("{}{}", reading.family, reading.suffix);
    schema.named_series(table, Target::Agent, (&name, metadata), &labels)
}

#[cfg(test)]
mod tests {
    use common::metric;

    use super::*;

    fn values(table: &SeriesTable) -> Vec<(String, f64)> {
        let named = |(id, value)| (table.def(id).unwrap().labels.to_string(), value);
        let mut values: Vec<_> = table.current().map(named).collect();
        values.sort_by(|a, b| a.0.cmp(&b.0));
        values
    }

    #[test]
    fn metrics_of_every_kind_are_series_of_the_agent() {
        let registry = Registry::default();
        let counter =
            metric!(Counter, "agent_x_total", "X.").register(&registry, &[("reason", "r")]);
        let histogram = metric!(Histogram, "agent_y_seconds", "Y.").register_with_bounds(
            &registry,
            &[],
            &[0.5],
        );
        let (mut table, mut schema) = (SeriesTable::default(), Schema::for_node("n"));
        let mut own = OwnMetrics::new(registry.clone());
        counter.add(3);
        histogram.observe(0.25);
        table.begin_tick(1);
        own.collect(&mut table, &mut schema, Due::ALL);
        let series = |name: &str, own: &str| {
            format!(r#"{{__name__="{name}", instance="n", job="tidemark-agent"{own}}}"#)
        };
        let want = [
            (series("agent_x_total", r#", reason="r""#), 3.0),
            (series("agent_y_seconds_bucket", r#", le="+Inf""#), 1.0),
            (series("agent_y_seconds_bucket", r#", le="0.5""#), 1.0),
            (series("agent_y_seconds_count", ""), 1.0),
            (series("agent_y_seconds_sum", ""), 0.25),
        ];
        assert_eq!(values(&table), want);
        // A metric registered later, in an existing family.
        metric!(Counter, "agent_x_total", "X.")
            .register(&registry, &[])
            .inc();
        table.begin_tick(2);
        own.collect(&mut table, &mut schema, Due::ALL);
        let values = values(&table);
        assert_eq!(values.len(), 6);
        assert!(values.contains(&(series("agent_x_total", ""), 1.0)));
        assert!(values.contains(&want[0]));
    }
}
