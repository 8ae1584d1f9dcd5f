//! Random data and random queries about it.

use common::model::{Labels, STALE_NAN, Sample};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The length of the data.
pub(crate) const MINUTES: i64 = 90;
/// Between two samples, mostly.
const STEP_MS: i64 = 15_000;

/// A source of data and queries; the same seed gives the same.
pub(crate) struct Generator {
    random: StdRng,
    /// Whether experimental functions and duration expressions are used.
    experimental: bool,
}

impl Generator {
    pub(crate) fn new(seed: u64, experimental: bool) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            experimental,
        }
    }

    fn one<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.random.random_range(0..choices.len())]
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    /// Series of counters with resets, gauges with odd values, and classic histograms, with gaps and staleness
    /// markers. Values are quarters, so that sums are exact in any order.
    pub(crate) fn data(&mut self, start_ms: i64) -> Vec<(Labels, Vec<Sample>)> {
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
        }
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
        all
    }

    /// Times of one series: gaps, jitter of none, and a start and end of its own.
    fn times(&mut self, start_ms: i64, shape: Shape) -> Vec<i64> {
        let count = MINUTES * 60_000 / STEP_MS;
        let step = if shape == Shape::Sparse { 12 } else { 1 };
        let jitter = self.chance(30);
        let mut times = Vec::new();
        let mut index = 0;
        while index < count {
            // Prometheus 3.5's info() enriches with labels of other series where an info series has gaps.
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
                // Rarely a bucket lags behind, and the counts do not ascend.
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

    /// A query of any type but string.
    pub(crate) fn query(&mut self) -> String {
        let depth = self.random.random_range(1..5);
        match self.random.random_range(0..20) {
            0 => self.scalar(depth),
            1 => self.matrix(depth),
            _ => self.vector(depth),
        }
    }

    fn number(&mut self) -> String {
        match self.random.random_range(0..12) {
            0 => "NaN".to_owned(),
            1 => "Inf".to_owned(),
            2 => "-1".to_owned(),
            3 => "0".to_owned(),
            4 => "5m".to_owned(),
            5 => "0x10".to_owned(),
            _ => format!("{}", f64::from(self.random.random_range(0..40)) / 4.0),
        }
    }

    fn scalar(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self.number();
        }
        match self.random.random_range(0..8) {
            0 => "time()".to_owned(),
            1 => "pi()".to_owned(),
            2 => format!("scalar({})", self.vector(depth - 1)),
            3 => {
                let (lhs, rhs) = (self.scalar(depth - 1), self.scalar(depth - 1));
                let op = self.one(&[
                    "+", "-", "*", "/", "%", "^", "atan2", "== bool", "> bool", "<= bool",
                ]);
                format!("({lhs} {op} {rhs})")
            }
            4 => format!("-{}", self.scalar(depth - 1)),
            _ => self.number(),
        }
    }

    fn duration(&mut self) -> String {
        let plain = self.one(&[
            "15s", "30s", "1m", "90s", "2m", "5m", "7m30s", "10m", "300", "1h",
        ]);
        if self.experimental && self.chance(15) {
            let other = self.one(&["15s", "2", "1m"]);
            let op = self.one(&["+", "*"]);
            return format!("{plain} {op} {other}");
        }
        plain.to_owned()
    }

    fn matchers(&mut self) -> String {
        let mut out = String::new();
        for _ in 0..self.random.random_range(0..3) {
            let matcher = self.one(&[
                r#"job="api""#,
                r#"job!="web""#,
                r#"job=~"a.*|d.""#,
                r#"job!~"(api|db)""#,
                r#"instance="0""#,
                r#"instance=~"\\d""#,
                r#"code="200""#,
                r#"code=~"5..""#,
                r#"nothing="""#,
                r#"job=~"(?i:WEB)""#,
                r#"code!~".+""#,
            ]);
            out.push_str(&format!("{matcher},"));
        }
        out
    }

    fn selector(&mut self) -> String {
        let matchers = self.matchers();
        let name = self.one(&[
            "requests_total",
            "requests_total",
            "errors",
            "temperature",
            "odd",
            "sparse",
            "constant",
            "latency_seconds_bucket",
            "build_info",
            "missing",
        ]);
        match self.random.random_range(0..20) {
            0 => format!(r#"{{__name__=~"requests_total|errors",{matchers}}}"#),
            1 => format!(r#"{{__name__=~"temp.*",{matchers}}}"#),
            2 => format!(r#"{{"{name}",{matchers}}}"#),
            _ if matchers.is_empty() => name.to_owned(),
            _ => format!("{name}{{{matchers}}}"),
        }
    }

    fn modifiers(&mut self) -> String {
        let mut out = String::new();
        if self.chance(20) {
            let offset = self.one(&["5m", "-3m", "30s", "10", "1h"]);
            out.push_str(&format!(" offset {offset}"));
        }
        if self.chance(8) {
            let at = self.one(&["start()", "end()"]);
            out.push_str(&format!(" @ {at}"));
        }
        out
    }

    fn matrix(&mut self, depth: u32) -> String {
        let (range, modifiers) = (self.duration(), self.modifiers());
        if depth > 0 && self.chance(20) {
            let inner = self.vector(depth - 1);
            let step = self.one(&["", "30s", "1m", "17s", "5m"]);
            return format!("({inner})[{range}:{step}]{modifiers}");
        }
        format!("{}[{range}]{modifiers}", self.selector())
    }

    fn vector(&mut self, depth: u32) -> String {
        if depth == 0 {
            let (selector, modifiers) = (self.selector(), self.modifiers());
            return format!("{selector}{modifiers}");
        }
        match self.random.random_range(0..16) {
            0..=3 => self.over_time(depth),
            4..=6 => self.aggregation(depth),
            7..=9 => self.binary(depth),
            10..=12 => self.function(depth),
            13 => format!("-({})", self.vector(depth - 1)),
            14 => format!("({})", self.vector(depth - 1)),
            _ => self.vector(0),
        }
    }

    fn over_time(&mut self, depth: u32) -> String {
        let matrix = self.matrix(depth - 1);
        let mut functions = vec![
            "rate",
            "rate",
            "increase",
            "delta",
            "irate",
            "idelta",
            "deriv",
            "sum_over_time",
            "avg_over_time",
            "min_over_time",
            "max_over_time",
            "count_over_time",
            "last_over_time",
            "stddev_over_time",
            "stdvar_over_time",
            "present_over_time",
            "absent_over_time",
            "changes",
            "resets",
            "quantile_over_time",
            "predict_linear",
        ];
        if self.experimental {
            functions.extend([
                "mad_over_time",
                "ts_of_max_over_time",
                "ts_of_min_over_time",
                "ts_of_last_over_time",
                "double_exponential_smoothing",
            ]);
        }
        let function = self.one(&functions);
        match function {
            "quantile_over_time" => {
                let quantile = self.one(&["0.5", "0.9", "0", "1", "-1", "2", "NaN"]);
                format!("{function}({quantile}, {matrix})")
            }
            "predict_linear" => format!("{function}({matrix}, {})", self.number()),
            "double_exponential_smoothing" => format!("{function}({matrix}, 0.5, 0.25)"),
            _ => format!("{function}({matrix})"),
        }
    }

    fn labels(&mut self) -> String {
        self.one(&[
            "",
            "job",
            "instance",
            "job, instance",
            "code",
            "job, code",
            "le",
            "job, le",
            "__name__",
            "nothing",
        ])
        .to_owned()
    }

    fn aggregation(&mut self, depth: u32) -> String {
        let op = self.one(&[
            "sum",
            "avg",
            "min",
            "max",
            "count",
            "group",
            "stddev",
            "stdvar",
            "topk",
            "bottomk",
            "quantile",
            "count_values",
            "sum",
            "sum",
        ]);
        let clause = self.one(&["", "by", "without"]);
        let clause = if clause.is_empty() {
            String::new()
        } else {
            format!(" {clause} ({})", self.labels())
        };
        // The last digit of a logarithm or an angle would become a label.
        let depth = if op == "count_values" { 1 } else { depth };
        let operand = self.vector(depth - 1);
        let param = match op {
            // Values that tie are picked by the order of series, which is nobody's promise: all are taken.
            "topk" | "bottomk" => self.one(&["1000, ", "1000, ", "0, ", "-1, ", "0.5, "]),
            "quantile" => self.one(&["0.5, ", "0.9, ", "0, ", "1, ", "-1, ", "2, ", "NaN, "]),
            "count_values" => self.one(&[r#""value", "#, r#""job", "#, r#""a b", "#]),
            _ => "",
        };
        format!("{op}{clause} ({param}{operand})")
    }

    fn binary(&mut self, depth: u32) -> String {
        let op = self.one(&[
            "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=", "== bool",
            "> bool", "and", "or", "unless", "+", "and", "or",
        ]);
        let set = matches!(op, "and" | "or" | "unless");
        let lhs = self.vector(depth - 1);
        if !set && self.chance(40) {
            let scalar = self.scalar(depth - 1);
            return if self.chance(50) {
                format!("({lhs}) {op} ({scalar})")
            } else {
                format!("({scalar}) {op} ({lhs})")
            };
        }
        let rhs = if self.chance(40) {
            lhs.clone()
        } else {
            self.vector(depth - 1)
        };
        let matching = match self.random.random_range(0..8) {
            0 => format!("on ({})", self.labels()),
            1 => format!("ignoring ({})", self.labels()),
            2 if !set => "on (job, instance) group_left".to_owned(),
            3 if !set => "on (job, instance) group_right (version)".to_owned(),
            4 if !set => "ignoring (code) group_left ()".to_owned(),
            5 if !set => "on (instance, job) group_left (version)".to_owned(),
            _ => String::new(),
        };
        let rhs = if matching.contains("version") && matching.contains("left") && self.chance(70) {
            "build_info".to_owned()
        } else {
            rhs
        };
        format!("({lhs}) {op} {matching} ({rhs})")
    }

    fn info(&mut self, operand: &str) -> String {
        let selector = self.one(&[
            "",
            r#", {__name__="build_info"}"#,
            r#", {__name__="build_info", version=~".+"}"#,
            r#", {version="1.2"}"#,
            r#", {__name__=~"build_.*", version="1.10"}"#,
            r#", {__name__="build_info", nothing="x"}"#,
            r#", {__name__="build_info", nothing=""}"#,
        ]);
        format!("info({operand}{selector})")
    }

    #[expect(clippy::too_many_lines, reason = "a list of alternatives")]
    fn function(&mut self, depth: u32) -> String {
        let operand = self.vector(depth - 1);
        if self.experimental && self.chance(20) {
            return self.info(&operand);
        }
        if self.experimental && self.chance(20) {
            let ratio = self.one(&["0.5", "-0.5", "0.3", "-0.8", "1", "0", "1.5", "-2"]);
            let clause = self.one(&["", " by (job)"]);
            let selector = self.selector();
            return format!("limit_ratio{clause} ({ratio}, {selector})");
        }
        let function = self.one(&[
            "abs",
            "ceil",
            "floor",
            "exp",
            "ln",
            "log2",
            "log10",
            "sqrt",
            "sgn",
            "deg",
            "rad",
            "sin",
            "cos",
            "tan",
            "asin",
            "acos",
            "atan",
            "sinh",
            "cosh",
            "tanh",
            "asinh",
            "acosh",
            "atanh",
            "round",
            "round",
            "clamp",
            "clamp_min",
            "clamp_max",
            "absent",
            "sort",
            "sort_desc",
            "timestamp",
            "timestamp",
            "minute",
            "hour",
            "day_of_week",
            "day_of_month",
            "day_of_year",
            "days_in_month",
            "month",
            "year",
            "label_replace",
            "label_replace",
            "label_join",
            "vector",
            "histogram_quantile",
            "histogram_quantile",
            "histogram_quantile",
            "histogram_fraction",
            "histogram_count",
        ]);
        match function {
            "round" if self.chance(50) => format!("round({operand}, {})", self.number()),
            // Far from zero the last digit of an argument decides the whole result, and C's and Go's
            // functions differ there.
            "sin" | "cos" | "tan" => format!("{function}(clamp({operand}, -100, 100))"),
            "clamp" => {
                let (min, max) = (self.number(), self.scalar(depth - 1));
                format!("clamp({operand}, {min}, {max})")
            }
            "clamp_min" | "clamp_max" => format!("{function}({operand}, {})", self.number()),
            "vector" => format!("vector({})", self.scalar(depth - 1)),
            "minute" | "hour" if self.chance(20) => format!("{function}()"),
            "label_replace" => {
                let arguments = self.one(&[
                    r#""new", "$1-x", "job", "(.).*""#,
                    r#""job", "", "job", "api""#,
                    r#""instance", "$2${1}", "code", "(.)(..)""#,
                    r#""__name__", "renamed", "job", ".*""#,
                    r#""new", "$$1 $name", "job", "(?P<name>\\w+)""#,
                    r#""", "x", "job", ".*""#,
                    r#""new", "x", "job", "(""#,
                ]);
                format!("label_replace({operand}, {arguments})")
            }
            "label_join" => {
                let arguments = self.one(&[
                    r#""new", "-", "job", "instance""#,
                    r#""job", "", "nothing""#,
                    r#""new", ",""#,
                ]);
                format!("label_join({operand}, {arguments})")
            }
            "histogram_quantile" => {
                let quantile = self.one(&["0.5", "0.9", "0.99", "0", "1", "-1", "2", "NaN"]);
                let buckets = match self.random.random_range(0..4) {
                    0 => "latency_seconds_bucket".to_owned(),
                    1 => format!(
                        "rate(latency_seconds_bucket[{}])",
                        self.one(&["1m", "5m", "10m"])
                    ),
                    2 => "sum by (le) (rate(latency_seconds_bucket[5m]))".to_owned(),
                    _ => operand,
                };
                format!("histogram_quantile({quantile}, {buckets})")
            }
            "histogram_fraction" => {
                let bounds =
                    self.one(&["0, 0.5", "-Inf, 1", "0.3, 4", "1, +Inf", "2, 1", "NaN, 1"]);
                format!("histogram_fraction({bounds}, latency_seconds_bucket)")
            }
            _ => format!("{function}({operand})"),
        }
    }
}

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
