//! The kubelet's own metrics, as it reports them: `job="kubelet", metrics_path="/metrics"`.

use std::sync::Arc;

use common::model::Labels;
use common::model::label::METRIC_NAME;

use super::series_cache::{CacheUpdate, SeriesCache};
use crate::collect::{CollectContext, Collector, Outcome};
use crate::kube::KubeletData;
use crate::kube::metrics::{KubeletMetrics as Answer, MetricSample};
use crate::schema::{Schema, Target};
use crate::table::{SeriesId, SeriesTable};

/// Stores each answer once, at the first tick after its arrival. Storing it twice would distort rates.
#[derive(Debug)]
pub struct KubeletMetrics {
    data: KubeletData,
    /// Generation of the answer in `series`.
    cached_generation: u64,
    /// Generation of the newest answer that a tick has stored.
    stored_generation: u64,
    series: SeriesCache<Labels>,
}

impl KubeletMetrics {
    /// A collector of the answers in `data`.
    #[must_use]
    pub fn new(data: KubeletData) -> Self {
        Self {
            data,
            cached_generation: 0,
            stored_generation: 0,
            series: SeriesCache::default(),
        }
    }

    /// Adds new series, removes those that are gone, and sets the values of all.
    fn update(&mut self, samples: &[MetricSample], context: &mut CollectContext<'_>) {
        self.series.begin_pass();
        for sample in samples {
            if self.series.update(&sample.labels, sample.value) == CacheUpdate::Unknown {
                let id = add(sample, context.table, context.schema);
                self.series.insert(sample.labels.clone(), id, sample.value);
            }
        }
        self.series.end_pass(context.table);
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
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        let (generation, answer) = self.data.metrics();
        if self.cached_generation != generation {
            self.cached_generation = generation;
            let samples = answer
                .as_deref()
                .map_or(&[][..], |answer: &Answer| &answer.samples);
            self.update(samples, context);
        }
        // A scrape gets every value and does not use up the answer that the next tick stores.
        let is_scrape = context.due.is_scrape();
        if is_scrape || self.stored_generation != generation {
            self.series.store(context.table);
        }
        if !is_scrape {
            self.stored_generation = generation;
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
    fn each_answer_is_stored_once_and_every_scrape_has_it() {
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
    fn series_follow_the_answers() {
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
