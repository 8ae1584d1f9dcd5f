//! Random data: counters, gauges, histograms and infos, with gaps, resets and staleness markers.

use common::model::{Labels, STALE_NAN, Sample};
use rand::Rng as _;

use super::{Generator, MINUTES, STEP_MS};

impl Generator {
    /// Generates counters with resets, gauges with unusual values, and classic histograms, with gaps and staleness markers.
    /// Values are multiples of 1/4, so that sums are exact in any order.
    pub(crate) fn data(&mut self) -> Vec<(Labels, Vec<Sample>)> {
        let start_ms = self.start_ms;
        let mut series = Vec::new();
        for job in ["api", "web", "db"] {
            for instance in ["0", "1"] {
                for code in ["200", "500"] {
                    let labels = [
                        ("__name__", "requests_total"),
                        ("job", job),
                        ("instance", instance),
                        ("code", code),
                    ];
                    series.push((labels.to_vec(), Shape::Counter));
                    let labels = [
                        ("__name__", "errors"),
                        ("job", job),
                        ("instance", instance),
                        ("code", code),
                    ];
                    series.push((labels.to_vec(), Shape::Counter));
                }
                let labels = [
                    ("__name__", "temperature"),
                    ("job", job),
                    ("instance", instance),
                ];
                series.push((labels.to_vec(), Shape::Gauge));
                let labels = [("__name__", "odd"), ("job", job), ("instance", instance)];
                series.push((labels.to_vec(), Shape::Odd));
                let labels = [
                    ("__name__", "build_info"),
                    ("instance", instance),
                    ("job", job),
                    ("version", if instance == "0" { "1.2" } else { "1.10" }),
                ];
                series.push((labels.to_vec(), Shape::One));
                let labels = [
                    ("__name__", "constant"),
                    ("job", job),
                    ("instance", instance),
                ];
                series.push((labels.to_vec(), Shape::Constant));
            }
            let labels = [("__name__", "sparse"), ("job", job)];
            series.push((labels.to_vec(), Shape::Sparse));
            series.extend(about_targets(job));
        }
        series.extend(typed());
        let mut all: Vec<_> = series
            .into_iter()
            .map(|(labels, shape)| {
                let labels = Labels::from_pairs(labels).unwrap();
                (labels, self.samples(start_ms, shape))
            })
            .collect();
        for job in ["api", "web"] {
            all.extend(self.histogram(start_ms, job));
        }
        for kind in ODD_BUCKETS {
            all.extend(self.odd_histogram(start_ms, kind));
        }
        all
    }

    /// Generates buckets that are not a proper histogram; their counts need not ascend.
    fn odd_histogram(
        &mut self,
        start_ms: i64,
        &(kind, bounds): &(&str, &[&str]),
    ) -> Vec<(Labels, Vec<Sample>)> {
        let times = self.times(start_ms, Shape::Counter);
        let mut all = Vec::new();
        for (index, bound) in bounds.iter().enumerate() {
            let mut labels = vec![("__name__", "strange_bucket"), ("kind", kind)];
            if !bound.is_empty() {
                labels.push(("le", bound));
            }
            let mut value = 0.0;
            let mut samples = Vec::new();
            for &timestamp_ms in &times {
                if kind != "zero" {
                    value += f64::from(self.random.random_range(0..4) * (index as u32 + 1));
                }
                samples.push(Sample {
                    timestamp_ms,
                    value,
                });
            }
            all.push((Labels::from_pairs(labels).unwrap(), samples));
        }
        all
    }

    /// Generates the times of one series, with gaps and a start and end of its own, without jitter.
    fn times(&mut self, start_ms: i64, shape: Shape) -> Vec<i64> {
        let count = MINUTES * 60_000 / STEP_MS;
        let step = if shape == Shape::Sparse { 12 } else { 1 };
        let jitter = self.chance(30);
        let mut times = Vec::new();
        let mut index = 0;
        while index < count {
            // Where an info series has gaps, info() of Prometheus 3.5 adds the labels of other series.
            if shape != Shape::One && self.chance(2) {
                index += self.random.random_range(1..40); // A gap.
            }
            let shift = if jitter {
                self.random.random_range(0..5000)
            } else {
                0
            };
            times.push(start_ms + index * STEP_MS + shift);
            index += step;
        }
        times
    }

    fn samples(&mut self, start_ms: i64, shape: Shape) -> Vec<Sample> {
        let times = self.times(start_ms, shape);
        let mut value = f64::from(self.random.random_range(0..400)) / 4.0;
        let mut samples = Vec::new();
        for timestamp_ms in times {
            let step = f64::from(self.random.random_range(0..40)) / 4.0;
            value = match shape {
                Shape::Counter if self.chance(2) => step,
                Shape::Counter => value + step,
                Shape::Gauge | Shape::Sparse => value + step - 5.0,
                Shape::Odd => match self.random.random_range(0..12) {
                    0 => f64::NAN,
                    1 => f64::INFINITY,
                    2 => f64::NEG_INFINITY,
                    3 => -0.0,
                    _ => step - 5.0,
                },
                Shape::One => 1.0,
                Shape::Constant => value,
            };
            let stale = shape != Shape::One && self.chance(1);
            let value = if stale { STALE_NAN } else { value };
            samples.push(Sample {
                timestamp_ms,
                value,
            });
        }
        samples
    }

    fn histogram(&mut self, start_ms: i64, job: &str) -> Vec<(Labels, Vec<Sample>)> {
        const BOUNDS: [&str; 6] = ["0.1", "0.5", "1", "2.5", "10", "+Inf"];
        let times = self.times(start_ms, Shape::Counter);
        let mut counts = [0.0; BOUNDS.len()];
        let mut columns = vec![Vec::new(); BOUNDS.len()];
        for &timestamp_ms in &times {
            let reset = self.chance(1);
            for (index, count) in counts.iter_mut().enumerate() {
                if reset {
                    *count = 0.0;
                }
                *count += f64::from(self.random.random_range(0..4) * (index as u32 + 1));
            }
            let mut total = 0.0;
            for (column, &count) in columns.iter_mut().zip(&counts) {
                total += count;
                // Rarely a bucket is too low, so that the counts do not ascend.
                let value = if self.chance(1) { total / 2.0 } else { total };
                column.push(Sample {
                    timestamp_ms,
                    value,
                });
            }
        }
        let series = BOUNDS.iter().zip(columns).map(|(bound, samples)| {
            let labels = [
                ("__name__", "latency_seconds_bucket"),
                ("job", job),
                ("le", bound),
            ];
            (Labels::from_pairs(labels).unwrap(), samples)
        });
        series.collect()
    }
}

/// Generates series with UTF-8 names, and info series, of which one has a value at all times.
fn about_targets(job: &'static str) -> Vec<(Vec<(&'static str, &'static str)>, Shape)> {
    let host = if job == "db" { "größe" } else { "h 1" };
    let requests = [
        ("__name__", "http.requests"),
        ("host.name", host),
        ("job", job),
    ];
    let steady = [("__name__", "steady"), ("instance", "0"), ("job", job)];
    let region = if job == "api" { "north" } else { "south" };
    let info = [
        ("__name__", "target_info"),
        ("instance", "0"),
        ("job", job),
        ("region", region),
    ];
    vec![
        (requests.to_vec(), Shape::Counter),
        (steady.to_vec(), Shape::One),
        (info.to_vec(), Shape::One),
    ]
}

/// Generates series with types and units; some differ in nothing else.
fn typed() -> Vec<(Vec<(&'static str, &'static str)>, Shape)> {
    let all = [
        ("typed_total", "counter", "bytes"),
        ("typed_total", "gauge", "bytes"),
        ("typed", "gauge", "seconds"),
        ("typed", "histogram", "seconds"),
        ("typed", "unknown", ""),
    ];
    let labels = |(name, kind, unit)| {
        [
            ("__name__", name),
            ("__type__", kind),
            ("__unit__", unit),
            ("job", "api"),
        ]
    };
    all.map(|one| (labels(one).to_vec(), Shape::Counter))
        .to_vec()
}

/// Kinds of malformed buckets, and their bounds; an empty one stands for a missing `le`.
const ODD_BUCKETS: &[(&str, &[&str])] = &[
    ("endless", &["1", "2", "4"]),
    ("words", &["1", "two", "+Inf"]),
    ("nameless", &["1", "", "+Inf"]),
    ("twice", &["1", "1.0", "1e0", "2", "+Inf", "Inf"]),
    ("negative", &["-4", "-1", "0", "3", "+Inf"]),
    ("below", &["-4", "-1", "+Inf"]),
    ("lonely", &["+Inf"]),
    ("zero", &["1", "2", "+Inf"]),
    ("hex", &["0x1p-2", "0x10", "1_0", "infinity"]),
    ("minus", &["-Inf", "1", "+Inf"]),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Counter,
    Gauge,
    /// NaN, infinities, negative zero.
    Odd,
    One,
    Constant,
    Sparse,
}
