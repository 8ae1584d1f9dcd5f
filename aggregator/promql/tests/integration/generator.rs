//! Random queries over random data.

mod data;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The length of the data.
pub(crate) const MINUTES: i64 = 90;
/// The usual distance of two samples.
const STEP_MS: i64 = 15_000;

/// A query and its times.
pub(crate) struct Case<'c> {
    pub(crate) query: &'c str,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// 0 for an instant query.
    pub(crate) step_ms: i64,
    pub(crate) lookback_seconds: Option<u32>,
}

/// Generates data and queries; equal seeds generate equal ones.
pub(crate) struct Generator {
    random: StdRng,
    /// Whether to use experimental functions and duration expressions.
    experimental: bool,
    /// Start of the data.
    start_ms: i64,
}

impl Generator {
    pub(crate) fn new(seed: u64, start_ms: i64, experimental: bool) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            experimental,
            start_ms,
        }
    }

    /// Returns the generator of query `number`, which depends on the number and the seed only.
    pub(crate) fn numbered(seed: u64, number: u64, start_ms: i64, experimental: bool) -> Self {
        let mut of_seed = StdRng::seed_from_u64(seed);
        let mixed = of_seed.random::<u64>() ^ number;
        Self::new(mixed, start_ms, experimental)
    }

    fn one<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.random.random_range(0..choices.len())]
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    /// Chooses the times of query `number`.
    pub(crate) fn case<'c>(&mut self, query: &'c str, number: usize) -> Case<'c> {
        let length_ms = MINUTES * 60_000;
        let start_ms = self.start_ms
            + match self.random.random_range(0..3) {
                0 => self.random.random_range(0..length_ms),
                _ => self.random.random_range(0..length_ms) / 15_000 * 15_000,
            };
        let lookback_seconds = self.chance(10).then(|| self.random.random_range(1..900));
        let mut step_ms = 0;
        let mut end_ms = start_ms;
        if !number.is_multiple_of(3) {
            step_ms =
                [15_000, 60_000, 37_000, 1_000, 300_000, 7_500][self.random.random_range(0..6)];
            let steps = match self.random.random_range(0..40) {
                0 => 1500,
                1 => 0,
                _ => self.random.random_range(0..60),
            };
            // With delayed name removal, Prometheus treats one step like an instant query only if the range ends on it.
            let rest_ms = if steps == 0 { 0 } else { 500 };
            end_ms += step_ms * steps + self.random.random_range(0..2) * rest_ms;
        }
        Case {
            query,
            start_ms,
            end_ms,
            step_ms,
            lookback_seconds,
        }
    }

    /// Generates a query of any type.
    pub(crate) fn query(&mut self) -> String {
        let depth = self.random.random_range(1..5);
        match self.random.random_range(0..40) {
            20 => self
                .one(&[r#""text""#, r#"'\u00e4\xff\n'"#, "`raw\\n`"])
                .to_owned(),
            0 | 21 => self.scalar(depth),
            1 | 22 => self.matrix(depth),
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
            6 => self
                .one(&[
                    "1e3", ".5", "1_000", "0b11", "0o17", "1m30s", "-0", "1e-7", "inf", "1e300",
                ])
                .to_owned(),
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

    /// Generates the parameter of an aggregation, where Prometheus 3.5 ignores `@ start()` and `@ end()`.
    fn parameter(&mut self, depth: u32) -> String {
        let scalar = self.scalar(depth);
        scalar.replace(" @ start()", "").replace(" @ end()", "")
    }

    fn duration(&mut self) -> String {
        let plain = self.one(&[
            "15s", "30s", "1m", "90s", "2m", "5m", "7m30s", "10m", "300", "1h",
        ]);
        if self.experimental && self.chance(15) {
            let other = self.one(&["15s", "2", "1m", "(3s*5)", "-7"]);
            let op = self.one(&["+", "*", "-", "/", "%"]);
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
                r#""job"='web'"#,
                "job=`db`",
                r#"instance!="0""#,
                r#"job=~"(a|w).+""#,
                r#"job=~"api|web|""#,
                r#"code=~"[25]00""#,
                r#"job!~"a.*""#,
                r#"__type__="gauge""#,
                r#"job=~"""#,
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
            "strange_bucket",
            "typed",
            "typed_total",
            "target_info",
        ]);
        match self.random.random_range(0..24) {
            20 => r#"{"http.requests"}"#.to_owned(),
            21 => format!(r#"{{"http.requests","host.name"="h 1",{matchers}}}"#),
            22 => format!(r#"{{"host.name"=~"gr.*|h 1",{matchers}}}"#),
            23 => format!(r#"{{__name__=~"typed.*",{matchers}}}"#),
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
            let offset = self.one(&["5m", "-3m", "30s", "10", "1h", "-1.5", "1m30s", "0s"]);
            out.push_str(&format!(" offset {offset}"));
        }
        if self.experimental && self.chance(5) {
            let offset = self.one(&["(1m+30s)", "-(2*15)", "(2^5)", "(90s % 40)", "-(5m/2)"]);
            return format!(" offset {offset}");
        }
        if self.chance(12) {
            let at = match self.random.random_range(0..4) {
                0 => "start()".to_owned(),
                1 => "end()".to_owned(),
                _ => {
                    let ms = self.start_ms + self.random.random_range(0..MINUTES * 60_000);
                    format!("{}.{:03}", ms / 1000, ms % 1000)
                }
            };
            // The order is free.
            out = if self.chance(50) {
                format!(" @ {at}{out}")
            } else {
                format!("{out} @ {at}")
            };
        }
        out
    }

    fn matrix(&mut self, depth: u32) -> String {
        let (range, modifiers) = (self.duration(), self.modifiers());
        if depth > 0 && self.chance(20) {
            let inner = self.vector(depth - 1);
            let step = self.one(&["", "30s", "1m", "17s", "5m", "7.5"]);
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
            _ if self.chance(5) => format!("{function}(({matrix}))"),
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
            r#""host.name""#,
            "kind",
            "__type__, job",
            "version, instance",
            "job, instance, code",
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
            "best",
            "limitk",
        ]);
        let clause = self.one(&["", "by", "without"]);
        let clause = if clause.is_empty() {
            String::new()
        } else {
            format!(" {clause} ({})", self.labels())
        };
        // Here the last digit of a logarithm or an angle becomes a label.
        let depth = if op == "count_values" { 1 } else { depth };
        let operand = self.vector(depth - 1);
        match op {
            // The order of series, which is unspecified, decides between equal values; their sum is the same.
            "best" => {
                let op = self.one(&["topk", "bottomk"]);
                let k = match self.random.random_range(0..4) {
                    0 => self.parameter(depth - 1),
                    _ => self.one(&["1", "2", "3.7", "5"]).to_owned(),
                };
                return format!("sum{clause} ({op}{clause} ({k}, {operand}))");
            }
            "limitk" if self.experimental => {
                let k = match self.random.random_range(0..4) {
                    0 => self.parameter(depth - 1),
                    _ => self.one(&["1", "2", "1000"]).to_owned(),
                };
                return format!("count{clause} (limitk{clause} ({k}, {operand}))");
            }
            _ => {}
        }
        let op = op.replace("limitk", "max");
        let param = match op.as_str() {
            // The order of series, which is unspecified, decides between equal values, so all are selected.
            "topk" | "bottomk" => self.one(&["1000, ", "1000, ", "0, ", "-1, ", "0.5, "]),
            "quantile" if self.chance(15) => &format!("{}, ", self.parameter(depth - 1)),
            "quantile" => self.one(&["0.5, ", "0.9, ", "0, ", "1, ", "-1, ", "2, ", "NaN, "]),
            "count_values" => self.one(&[
                r#""value", "#,
                r#""job", "#,
                r#""a b", "#,
                r#""", "#,
                r#""__name__", "#,
            ]),
            _ => "",
        };
        if self.chance(30) {
            return format!("{op} ({param}{operand}){clause}");
        }
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
        let matching = match self.random.random_range(0..12) {
            8 => format!("on ({}) ", self.labels()),
            9 if !set => format!("on ({}) group_left ({})", self.labels(), self.labels()),
            10 if !set => format!(
                "ignoring ({}) group_right ({})",
                self.labels(),
                self.labels()
            ),
            11 if !set => format!(
                "ignoring ({}) group_left ({})",
                self.labels(),
                self.labels()
            ),
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
        // Over several steps, Prometheus 3.5 confuses series if some have gaps.
        let steady = self.one(&["build_info", "steady", "steady * 2"]);
        let operand = if self.chance(50) { steady } else { operand };
        let selector = self.one(&[
            "",
            r#", {__name__="build_info"}"#,
            r#", {__name__="build_info", version=~".+"}"#,
            r#", {version="1.2"}"#,
            r#", {__name__=~"build_.*", version="1.10"}"#,
            r#", {__name__="build_info", nothing="x"}"#,
            r#", {__name__="build_info", nothing=""}"#,
            r#", {region=~".+"}"#,
            r#", {region="north"}"#,
            r#", {__name__=~"target_info|build_info"}"#,
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
        if self.experimental && self.chance(8) {
            let function = self.one(&["sort_by_label", "sort_by_label_desc"]);
            let names = self.one(&["", ", \"job\"", ", \"instance\", \"code\"", ", \"nothing\""]);
            return format!("{function}({operand}{names})");
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
            "histogram_avg",
            "histogram_stddev",
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
            "absent" if self.chance(60) => format!("absent({})", self.selector()),
            "minute" | "hour" if self.chance(20) => format!("{function}()"),
            "label_replace" => {
                let arguments = self.one(&[
                    r#""new", "$1-x", "job", "(.).*""#,
                    r#""job", "", "job", "api""#,
                    r#""instance", "$2${1}", "code", "(.)(..)""#,
                    r#""__name__", "renamed", "job", ".*""#,
                    r#""__name__", "$1_x", "__name__", "(.*)_total""#,
                    r#""host.name", "$1", "host.name", "(.+) .*""#,
                    r#""job", "$1", "instance", "(.*)""#,
                    r#""a b", "x${1}y", "job", "(a|w).*""#,
                    r#""code", "", "", """#,
                    r#""new", "$9$", "job", "(.*)""#,
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
                    r#""job", "/", "job", "instance", "code""#,
                    r#""__name__", "_", "__name__", "job""#,
                    r#""host name", "_", "host.name", "job""#,
                    r#""new", "_", """#,
                ]);
                format!("label_join({operand}, {arguments})")
            }
            "histogram_quantile" => {
                let quantile = match self.random.random_range(0..8) {
                    0 => self.scalar(depth - 1),
                    _ => self
                        .one(&["0.5", "0.9", "0.99", "0", "1", "-1", "2", "NaN"])
                        .to_owned(),
                };
                let buckets = match self.random.random_range(0..6) {
                    4 => "strange_bucket".to_owned(),
                    5 => "sum without (kind) (strange_bucket)".to_owned(),
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
                let buckets = self.one(&[
                    "latency_seconds_bucket",
                    "latency_seconds_bucket",
                    "strange_bucket",
                    "rate(latency_seconds_bucket[5m])",
                    "sum by (le) (strange_bucket)",
                ]);
                format!("histogram_fraction({bounds}, {buckets})")
            }
            _ => format!("{function}({operand})"),
        }
    }
}
