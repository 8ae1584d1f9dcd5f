//! What the kubelet measures about itself, as it says it: `job="kubelet", metrics_path="/metrics"`.

use std::cmp::Ordering;
use std::sync::Arc;

use common::model::Labels;
use common::model::label::METRIC_NAME;

use crate::collect::{CollectContext, Collector, Outcome};
use crate::kube::KubeletData;
use crate::kube::metrics::{KubeletMetrics as Answer, MetricSample};
use crate::schema::{Schema, Target};
use crate::table::{SeriesId, SeriesTable};

/// Passes each answer on once, at the first tick after it came: a sample twice would make rates jump.
#[derive(Debug)]
pub struct KubeletMetrics {
    data: KubeletData,
    /// The answer whose series are there, and the one whose values went out.
    followed: u64,
    sent: u64,
    /// By ascending labels, as the answer's samples are.
    series: Vec<(Labels, SeriesId)>,
}

impl KubeletMetrics {
    /// A collector of what is published in `data`.
    #[must_use]
    pub const fn new(data: KubeletData) -> Self {
        Self {
            data,
            followed: 0,
            sent: 0,
            series: Vec::new(),
        }
    }

    /// Adds series that are new and removes those that are gone. Nothing is hashed or allocated while they stay the same.
    fn follow(&mut self, samples: &[MetricSample], table: &mut SeriesTable, schema: &mut Schema) {
        let known = self.series.iter().map(|(labels, _)| labels);
        if known.eq(samples.iter().map(|sample| &sample.labels)) {
            return;
        }
        let mut known = std::mem::take(&mut self.series).into_iter().peekable();
        for sample in samples {
            while let Some((_, gone)) =
                known.next_if(|(labels, _)| labels.cmp(&sample.labels) == Ordering::Less)
            {
                table.remove(gone);
            }
            let series = known.next_if(|(labels, _)| *labels == sample.labels);
            self.series.push(
                series.unwrap_or_else(|| (sample.labels.clone(), add(sample, table, schema))),
            );
        }
        for (_, gone) in known {
            table.remove(gone);
        }
    }
}

fn add(sample: &MetricSample, table: &mut SeriesTable, schema: &mut Schema) -> SeriesId {
    let name = sample.labels.metric_name().unwrap_or_default();
    let own = sample
        .labels
        .iter()
        .filter(|(name, _)| *name != METRIC_NAME);
    let own: Vec<(&str, &str)> = own.collect();
    let metadata = (*sample.metadata).clone();
    let family = (sample.family(), metadata);
    schema.member_series(table, Target::Kubelet, family, name, &own)
}

impl Collector for KubeletMetrics {
    fn name(&self) -> &'static str {
        super::KUBELET_METRICS
    }

    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let (generation, answer) = self.data.metrics();
        let samples = answer
            .as_deref()
            .map_or(&[][..], |answer: &Answer| &answer.samples);
        if self.followed != generation {
            self.followed = generation;
            self.follow(samples, context.table, context.schema);
        }
        // A scrape sees everything, and takes nothing from the next tick.
        let is_scrape = context.due.is_scrape();
        if is_scrape || self.sent != generation {
            for (sample, (_, id)) in samples.iter().zip(&self.series) {
                context.table.set(*id, sample.value);
            }
        }
        if !is_scrape {
            self.sent = generation;
        }
        Outcome::of(answer.as_ref().map(Arc::as_ref))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Due;
    use crate::collectors::testing::Bench;
    use crate::kube::metrics::Families;

    fn answer(text: &str) -> Option<Answer> {
        let families = Families::new(&["pods".to_owned(), "runs".to_owned()]).unwrap();
        Some(Answer::parse(text.as_bytes(), &families).unwrap())
    }

    const RUNS: [(&str, &str); 2] = [("job", "kubelet"), ("metrics_path", "/metrics")];

    #[test]
    fn each_answer_goes_out_once_and_a_scrape_has_it_always() {
        let (mut bench, data) = (Bench::new(), KubeletData::default());
        let mut metrics = KubeletMetrics::new(data.clone());
        let mut tick = 0;
        let mut next = || {
            tick += 1;
            Due::at(tick, 10_000)
        };
        assert_eq!(bench.collect_due(&mut metrics, next()), Outcome::NoData);
        data.set_metrics(answer("runs{kind=\"a\"} 1\nruns{kind=\"b\"} 2\n"));
        bench.collect(&mut metrics);
        let value = |bench: &Bench, kind| bench.value("runs", &[RUNS[0], RUNS[1], ("kind", kind)]);
        assert_eq!(value(&bench, "b"), Some(2.0), "a scrape before the tick");
        assert_eq!(bench.collect_due(&mut metrics, next()), Outcome::Done);
        assert_eq!(value(&bench, "b"), Some(2.0), "the scrape took nothing");
        bench.collect_due(&mut metrics, next());
        assert_eq!(value(&bench, "b"), None, "no value twice");
        bench.collect(&mut metrics);
        assert_eq!(value(&bench, "b"), Some(2.0), "a scrape after the tick");
        data.set_metrics(answer("runs{kind=\"a\"} 3\nruns{kind=\"b\"} 2\n"));
        bench.collect_due(&mut metrics, next());
        assert_eq!(
            (value(&bench, "a"), value(&bench, "b")),
            (Some(3.0), Some(2.0))
        );
    }

    #[test]
    fn series_come_and_go_with_the_answers() {
        let (mut bench, data) = (Bench::new(), KubeletData::default());
        let mut metrics = KubeletMetrics::new(data.clone());
        let mut names = |text: Option<&str>| {
            data.set_metrics(text.and_then(answer));
            bench.table.clear_changes();
            bench.collect(&mut metrics);
            let defs = bench.table.series().map(|(id, def)| {
                let value = bench.table.current().find(|(one, _)| *one == id);
                let (name, kind) = (def.labels.metric_name(), def.labels.get("kind"));
                let name = format!("{} {}", name.unwrap_or_default(), kind.unwrap_or_default());
                (name, value.map(|(_, value)| value))
            });
            let mut defs: Vec<_> = defs.collect();
            defs.sort_by(|a, b| a.0.cmp(&b.0));
            defs
        };
        let has = |list: &[(&str, f64)]| -> Vec<(String, Option<f64>)> {
            let list = list.iter();
            list.map(|(name, value)| ((*name).to_owned(), Some(*value)))
                .collect()
        };
        let found = names(Some("runs{kind=\"b\"} 2\nruns{kind=\"d\"} 4\n"));
        assert_eq!(found, has(&[("runs b", 2.0), ("runs d", 4.0)]));
        let found = names(Some(
            "pods 1\nruns{kind=\"c\"} 3\nruns{kind=\"d\"} 5\nruns{kind=\"e\"} 6\n",
        ));
        let want = [
            ("pods ", 1.0),
            ("runs c", 3.0),
            ("runs d", 5.0),
            ("runs e", 6.0),
        ];
        assert_eq!(found, has(&want));
        assert_eq!(names(None), [], "no answer, no series");
    }
}
