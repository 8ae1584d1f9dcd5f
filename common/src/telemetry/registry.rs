//! The list of a process' metrics, and how it is written for a scraper.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::metric::{Counter, Gauge, Histogram};

type Read = Box<dyn Fn() -> f64 + Send + Sync>;

enum Source {
    Counter(Arc<Counter>),
    Gauge(Arc<Gauge>),
    Histogram(Arc<Histogram>),
    CounterFn(Read),
    GaugeFn(Read),
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows.
    Counter,
    /// A value of the moment.
    Gauge,
    /// Counts by bound.
    Histogram,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One series of a registry and its value.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The family's name.
    pub family: &'a str,
    /// What stands behind it in the name of a histogram's series; empty for others.
    pub suffix: &'static str,
    /// The family's help.
    pub help: &'a str,
    /// What it is.
    pub kind: Kind,
    /// Labels, without the bound of a bucket.
    pub labels: &'a [(String, String)],
    /// The upper bound of a histogram's bucket.
    pub bound: Option<f64>,
    /// The value.
    pub value: f64,
}

impl Source {
    const fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) | Self::CounterFn(_) => Kind::Counter,
            Self::Gauge(_) | Self::GaugeFn(_) => Kind::Gauge,
            Self::Histogram(_) => Kind::Histogram,
        }
    }
}

struct Series {
    /// Already escaped and joined: `reason="x",kind="y"`, empty without labels.
    labels: String,
    pairs: Vec<(String, String)>,
    source: Source,
}

struct Family {
    name: String,
    help: String,
    series: Vec<Series>,
}

/// All metrics of a process. Clones share it.
///
/// Registering a name and label set a second time returns the first metric, so that a module that is started
/// twice goes on counting where it was.
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
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a counter. Its name ends in `_total`.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Arc<Counter> {
        let find = |source: &Source| match source {
            Source::Counter(counter) => Some(Arc::clone(counter)),
            _ => None,
        };
        self.register(name, help, labels, find, || {
            let counter = Arc::new(Counter::new());
            (Source::Counter(Arc::clone(&counter)), counter)
        })
    }

    /// Registers a gauge.
    #[must_use]
    pub fn gauge(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Arc<Gauge> {
        let find = |source: &Source| match source {
            Source::Gauge(gauge) => Some(Arc::clone(gauge)),
            _ => None,
        };
        self.register(name, help, labels, find, || {
            let gauge = Arc::new(Gauge::new());
            (Source::Gauge(Arc::clone(&gauge)), gauge)
        })
    }

    /// Registers a histogram over `bounds`, for instance [`Histogram::SECONDS`].
    #[must_use]
    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        bounds: &'static [f64],
    ) -> Arc<Histogram> {
        let find = |source: &Source| match source {
            Source::Histogram(histogram) => Some(Arc::clone(histogram)),
            _ => None,
        };
        self.register(name, help, labels, find, || {
            let histogram = Arc::new(Histogram::new(bounds));
            (Source::Histogram(Arc::clone(&histogram)), histogram)
        })
    }

    /// Registers a counter that is read when it is rendered.
    pub fn counter_fn(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.register(
            name,
            help,
            labels,
            |_| None,
            || (Source::CounterFn(Box::new(read)), ()),
        );
    }

    /// Registers a gauge that is read when it is rendered.
    pub fn gauge_fn(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.register(
            name,
            help,
            labels,
            |_| None,
            || (Source::GaugeFn(Box::new(read)), ()),
        );
    }

    fn register<T>(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        find: impl Fn(&Source) -> Option<T>,
        make: impl FnOnce() -> (Source, T),
    ) -> T {
        let pairs = labels
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let pairs = pairs.collect();
        let labels = render_labels(labels);
        let mut families = self.families();
        let index = families
            .iter()
            .position(|family| family.name == name)
            .unwrap_or_else(|| {
                families.push(Family {
                    name: name.to_owned(),
                    help: help.to_owned(),
                    series: Vec::new(),
                });
                families.len() - 1
            });
        let series = &mut families[index].series;
        let same = series.iter().position(|one| one.labels == labels);
        if let Some(found) = same.and_then(|at| find(&series[at].source)) {
            return found;
        }
        let (source, handle) = make();
        debug_assert!(
            series.iter().all(|one| one.source.kind() == source.kind()),
            "{name} is registered with two types"
        );
        match same {
            Some(at) => series[at].source = source,
            None => series.push(Series {
                labels,
                pairs,
                source,
            }),
        }
        handle
    }

    /// How many series [`Self::read`] gives.
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

    /// Gives every series to `each`, in an order that changes only when more are registered.
    ///
    /// The registry is locked meanwhile: `each` must not use it.
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
        order.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        for family in order {
            let (Ok(()) | Err(fmt::Error)) = render_family(out, family);
        }
    }
}

fn read_series(family: &Family, series: &Series, each: &mut dyn FnMut(Reading<'_>)) {
    let reading = Reading {
        family: &family.name,
        suffix: "",
        help: &family.help,
        kind: series.source.kind(),
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
    let name = &family.name;
    let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
    writeln!(out, "# HELP {name} {help}")?;
    writeln!(out, "# TYPE {name} {}", first.source.kind().as_str())?;
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

/// Writes a number as scrapers of the text format read it.
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

    #[test]
    fn every_kind_is_written_as_scrapers_read_it() {
        let registry = Registry::default();
        let refused = registry.counter("b_total", "Refused\nthings.", &[("reason", "a\"b\\c\n")]);
        refused.add(3);
        registry.gauge("a_bytes", "Bytes.", &[]).set(1.5);
        let histogram = registry.histogram("c_seconds", "Time.", &[("op", "x")], &[0.5]);
        histogram.observe(0.25);
        histogram.observe(4.0);
        registry.gauge_fn("d", "Read late.", &[], || f64::NEG_INFINITY);
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
    fn second_registration_goes_on_with_the_first_metric() {
        let registry = Registry::default();
        registry.counter("a_total", "A.", &[("x", "1")]).inc();
        registry.counter("a_total", "A.", &[("x", "1")]).inc();
        registry.counter("a_total", "A.", &[("x", "2")]).inc();
        let mut text = String::new();
        registry.render(&mut text);
        assert!(text.ends_with("a_total{x=\"1\"} 2\na_total{x=\"2\"} 1\n"));
    }
}
