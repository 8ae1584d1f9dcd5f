//! The metrics of a process, and how they are rendered for a scraper.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard};

use super::metric::{Counter, Gauge, Histogram};
use crate::model::MetricType;
use crate::sync;

/// Names and values of a series' labels.
pub type LabelPairs<'a> = &'a [(&'a str, &'a str)];

/// Reads a value when it is rendered.
pub(super) type ReadFn = Box<dyn Fn() -> f64 + Send + Sync>;

/// Where the value of a series comes from.
pub enum Source {
    /// A counter.
    Counter(Arc<Counter>),
    /// A gauge.
    Gauge(Arc<Gauge>),
    /// A histogram.
    Histogram(Arc<Histogram>),
    /// A counter that is read when it is rendered.
    CounterFn(ReadFn),
    /// A gauge that is read when it is rendered.
    GaugeFn(ReadFn),
}

impl Source {
    const fn metric_type(&self) -> MetricType {
        match self {
            Self::Counter(_) | Self::CounterFn(_) => MetricType::Counter,
            Self::Gauge(_) | Self::GaugeFn(_) => MetricType::Gauge,
            Self::Histogram(_) => MetricType::Histogram,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric_type().as_str())
    }
}

/// A metric that holds its own value: [`Counter`], [`Gauge`] or [`Histogram`].
pub trait Instrument: Default + 'static {
    /// Wraps the instrument as the source of a series.
    fn into_source(self: Arc<Self>) -> Source;

    /// Returns the instrument of a series; `None` when the series has another type.
    fn of_source(source: &Source) -> Option<Arc<Self>>;
}

macro_rules! instruments {
    ($($name:ident)*) => {
        $(impl Instrument for $name {
            fn into_source(self: Arc<Self>) -> Source {
                Source::$name(self)
            }

            fn of_source(source: &Source) -> Option<Arc<Self>> {
                match source {
                    Source::$name(metric) => Some(Arc::clone(metric)),
                    _ => None,
                }
            }
        })*
    };
}

instruments!(Counter Gauge Histogram);

/// The value of one series.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The family's name.
    pub family: &'a str,
    /// Suffix that a histogram's series add to the family's name; empty for other types.
    pub suffix: &'static str,
    /// The family's help.
    pub help: &'a str,
    /// The family's type.
    pub metric_type: MetricType,
    /// Labels without `le`.
    pub labels: &'a [(String, String)],
    /// The upper bound of a histogram's bucket.
    pub bound: Option<f64>,
    /// The value.
    pub value: f64,
}

struct Series {
    /// Escaped and joined: `reason="x",kind="y"`; empty without labels.
    labels: String,
    pairs: Vec<(String, String)>,
    source: Source,
}

struct Family {
    name: &'static str,
    help: &'static str,
    series: Vec<Series>,
}

/// All metrics of a process. Clones share them.
///
/// Registering the same name and labels again returns the existing metric, so a restarted module keeps counting.
#[derive(Clone, Default)]
pub struct Registry {
    families: Arc<Mutex<Vec<Family>>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let families = self.families();
        f.debug_struct("Registry")
            .field("families", &families.len())
            .finish()
    }
}

impl Registry {
    fn families(&self) -> MutexGuard<'_, Vec<Family>> {
        sync::lock(&self.families)
    }

    /// Registers an instrument, or returns the one that this series already has.
    pub(super) fn register<M: Instrument>(
        &self,
        (name, help): (&'static str, &'static str),
        labels: LabelPairs<'_>,
        new: impl FnOnce() -> M,
    ) -> Arc<M> {
        let mut families = self.families();
        let family = family(&mut families, name, help);
        let text = render_labels(labels);
        let known = family.series.iter().find(|series| series.labels == text);
        if let Some(metric) = known.and_then(|series| M::of_source(&series.source)) {
            return metric;
        }
        let metric = Arc::new(new());
        family.set(text, labels, Arc::clone(&metric).into_source());
        metric
    }

    /// Registers a series that is read when it is rendered, in place of the one with the same labels.
    pub(super) fn register_source(
        &self,
        (name, help): (&'static str, &'static str),
        labels: LabelPairs<'_>,
        source: Source,
    ) {
        let mut families = self.families();
        family(&mut families, name, help).set(render_labels(labels), labels, source);
    }

    /// Counts the series that [`Self::read`] passes on.
    #[must_use]
    pub fn series_count(&self) -> usize {
        let families = self.families();
        let series = families.iter().flat_map(|family| &family.series);
        let count = series.map(|one| match &one.source {
            Source::Histogram(histogram) => histogram.buckets() + 2,
            _ => 1,
        });
        count.sum()
    }

    /// Passes every series to `each`. The order changes only when series are registered.
    ///
    /// The registry stays locked meanwhile: `each` must not use it.
    pub fn read(&self, each: &mut dyn FnMut(Reading<'_>)) {
        let families = self.families();
        for family in families.iter() {
            for series in &family.series {
                read_series(family, series, each);
            }
        }
    }

    /// Appends all metrics to `out` in the text exposition format 0.0.4
    /// (`text/plain; version=0.0.4; charset=utf-8`), families by name.
    pub fn render(&self, out: &mut String) {
        let families = self.families();
        let mut order: Vec<&Family> = families.iter().collect();
        order.sort_unstable_by(|a, b| a.name.cmp(b.name));
        for family in order {
            let (Ok(()) | Err(fmt::Error)) = render_family(out, family);
        }
    }
}

/// Returns the family, added when it is new.
fn family<'a>(
    families: &'a mut Vec<Family>,
    name: &'static str,
    help: &'static str,
) -> &'a mut Family {
    let known = families.iter().position(|family| family.name == name);
    let index = known.unwrap_or_else(|| {
        families.push(Family {
            name,
            help,
            series: Vec::new(),
        });
        families.len() - 1
    });
    &mut families[index]
}

impl Family {
    /// Adds a series, or replaces the one with the same labels.
    fn set(&mut self, text: String, labels: LabelPairs<'_>, source: Source) {
        debug_assert!(
            self.series
                .iter()
                .all(|one| one.source.metric_type() == source.metric_type()),
            "{} is registered with two types",
            self.name
        );
        let pairs = labels
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let pairs = pairs.collect();
        let series = Series {
            labels: text,
            pairs,
            source,
        };
        match self
            .series
            .iter_mut()
            .find(|one| one.labels == series.labels)
        {
            Some(known) => *known = series,
            None => self.series.push(series),
        }
    }
}

fn read_series(family: &Family, series: &Series, each: &mut dyn FnMut(Reading<'_>)) {
    let reading = Reading {
        family: family.name,
        suffix: "",
        help: family.help,
        metric_type: series.source.metric_type(),
        labels: &series.pairs,
        bound: None,
        value: 0.0,
    };
    match &series.source {
        Source::Counter(counter) => each(Reading {
            value: counter.get() as f64,
            ..reading
        }),
        Source::Gauge(gauge) => each(Reading {
            value: gauge.get(),
            ..reading
        }),
        Source::CounterFn(read) | Source::GaugeFn(read) => each(Reading {
            value: read(),
            ..reading
        }),
        Source::Histogram(histogram) => {
            let mut total = 0;
            for (bound, count) in histogram.cumulative() {
                total = count;
                each(Reading {
                    suffix: "_bucket",
                    bound: Some(bound),
                    value: count as f64,
                    ..reading
                });
            }
            each(Reading {
                suffix: "_sum",
                value: histogram.sum(),
                ..reading
            });
            each(Reading {
                suffix: "_count",
                value: total as f64,
                ..reading
            });
        }
    }
}

/// Writing to a `String` can't fail; the result only carries `write!`'s type.
fn render_family(out: &mut String, family: &Family) -> fmt::Result {
    let Some(first) = family.series.first() else {
        return Ok(());
    };
    let name = family.name;
    let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
    writeln!(out, "# HELP {name} {help}")?;
    writeln!(out, "# TYPE {name} {}", first.source.metric_type().as_str())?;
    for series in &family.series {
        let labels = series.labels.as_str();
        match &series.source {
            Source::Counter(counter) => line(out, name, labels, counter.get() as f64)?,
            Source::Gauge(gauge) => line(out, name, labels, gauge.get())?,
            Source::CounterFn(read) | Source::GaugeFn(read) => line(out, name, labels, read())?,
            Source::Histogram(histogram) => render_histogram(out, name, labels, histogram)?,
        }
    }
    Ok(())
}

fn render_histogram(
    out: &mut String,
    name: &str,
    labels: &str,
    histogram: &Histogram,
) -> fmt::Result {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut total = 0;
    for (bound, count) in histogram.cumulative() {
        total = count;
        write!(out, "{name}_bucket{{{labels}{comma}le=\"")?;
        write_value(out, bound)?;
        writeln!(out, "\"}} {count}")?;
    }
    line(out, &format!("{name}_sum"), labels, histogram.sum())?;
    line(out, &format!("{name}_count"), labels, total as f64)
}

fn line(out: &mut String, name: &str, labels: &str, value: f64) -> fmt::Result {
    out.push_str(name);
    if !labels.is_empty() {
        write!(out, "{{{labels}}}")?;
    }
    out.push(' ');
    write_value(out, value)?;
    out.push('\n');
    Ok(())
}

/// Writes a number in the text format's spelling.
fn write_value(out: &mut String, value: f64) -> fmt::Result {
    if value == f64::INFINITY {
        out.push_str("+Inf");
        Ok(())
    } else if value == f64::NEG_INFINITY {
        out.push_str("-Inf");
        Ok(())
    } else {
        write!(out, "{value}")
    }
}

fn render_labels(labels: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric;

    #[test]
    fn every_type_is_rendered_as_scrapers_read_it() {
        let registry = Registry::default();
        let refused = metric!(Counter, "b_total", "Refused\nthings.")
            .register(&registry, &[("reason", "a\"b\\c\n")]);
        refused.add(3);
        metric!(Gauge, "a_bytes", "Bytes.")
            .register(&registry, &[])
            .set(1.5);
        let histogram = metric!(Histogram, "c_seconds", "Time.").register_with_bounds(
            &registry,
            &[("op", "x")],
            &[0.5],
        );
        histogram.observe(0.25);
        histogram.observe(4.0);
        metric!(Gauge, "d", "Read late.").register_fn(&registry, &[], || f64::NEG_INFINITY);
        let mut text = String::new();
        registry.render(&mut text);
        let want = "# HELP a_bytes Bytes.\n# TYPE a_bytes gauge\na_bytes 1.5\n\
            # HELP b_total Refused\\nthings.\n# TYPE b_total counter\n\
            b_total{reason=\"a\\\"b\\\\c\\n\"} 3\n\
            # HELP c_seconds Time.\n# TYPE c_seconds histogram\n\
            c_seconds_bucket{op=\"x\",le=\"0.5\"} 1\nc_seconds_bucket{op=\"x\",le=\"+Inf\"} 2\n\
            c_seconds_sum{op=\"x\"} 4.25\nc_seconds_count{op=\"x\"} 2\n\
            # HELP d Read late.\n# TYPE d gauge\nd -Inf\n";
        assert_eq!(text, want);
    }

    #[test]
    fn second_registration_returns_the_first_metric() {
        let registry = Registry::default();
        let counter = metric!(Counter, "a_total", "A.");
        for x in ["1", "1", "2"] {
            counter.register(&registry, &[("x", x)]).inc();
        }
        let mut text = String::new();
        registry.render(&mut text);
        assert!(text.ends_with("a_total{x=\"1\"} 2\na_total{x=\"2\"} 1\n"));
    }
}
