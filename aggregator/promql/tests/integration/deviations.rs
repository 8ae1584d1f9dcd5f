//! Where Tidemark follows later releases of Prometheus, so that its answers differ from those of Prometheus 3.5.3.
//! The right answers are in `tests/cases/fixed_upstream.test`.

use tidemark_promql::Features;

/// Functions that Prometheus 3.5 does not have.
const NEWER_FUNCTIONS: [&str; 2] = ["first_over_time(", "ts_of_first_over_time("];

/// A query that both sides answered, and how the answers differ.
pub(crate) struct Difference<'d> {
    pub(crate) query: &'d str,
    pub(crate) features: Features,
    /// The error here, if any.
    pub(crate) our_error: Option<&'d str>,
    /// The error of Prometheus, if any.
    pub(crate) their_error: Option<&'d str>,
}

impl Difference<'_> {
    fn uses(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.query.contains(word))
    }

    fn both_answer(&self) -> bool {
        self.our_error.is_none() && self.their_error.is_none()
    }

    fn only_they_fail(&self, message: &str) -> bool {
        self.our_error.is_none()
            && self
                .their_error
                .is_some_and(|error| error.contains(message))
    }

    fn only_we_fail(&self, message: &str) -> bool {
        self.their_error.is_none() && self.our_error.is_some_and(|error| error.contains(message))
    }
}

/// A bug of Prometheus 3.5.3 that a later release fixed.
struct FixedBug {
    name: &'static str,
    explains: fn(&Difference<'_>) -> bool,
}

const FIXED_BUGS: [FixedBug; 8] = [
    FixedBug {
        name: "17703: label functions fail on series of disjoint steps",
        explains: |difference| {
            difference.uses(&["label_replace(", "label_join("])
                && difference.only_they_fail("same labelset")
        },
    },
    FixedBug {
        name: "17708: unary minus fails on series of disjoint steps",
        explains: |difference| {
            difference.uses(&["-"]) && difference.only_they_fail("same labelset")
        },
    },
    FixedBug {
        name: "17424: histogram_fraction is NaN in the first bucket",
        explains: |difference| {
            difference.uses(&["histogram_fraction("]) && difference.both_answer()
        },
    },
    FixedBug {
        name: "17668: a filter hides ambiguous matches",
        explains: |difference| {
            difference.uses(&["=", ">", "<"])
                && difference.only_we_fail("multiple matches for labels")
        },
    },
    FixedBug {
        name: "a parameter that is NaN is accepted where there are no series",
        explains: |difference| {
            difference.uses(&["topk", "bottomk", "limitk", "limit_ratio"])
                && difference.only_we_fail("NaN")
        },
    },
    FixedBug {
        name: "19040: mad_over_time ignores NaN",
        explains: |difference| difference.uses(&["mad_over_time("]) && difference.both_answer(),
    },
    FixedBug {
        name: "18409: last_over_time keeps names that its subquery dropped",
        explains: |difference| {
            difference.features.delayed_name_removal
                && difference.uses(&["last_over_time("])
                && difference.uses(&[":"])
        },
    },
    FixedBug {
        name: "19413: info keeps names that its operand dropped",
        explains: |difference| {
            difference.features.delayed_name_removal && difference.uses(&["info("])
        },
    },
];

/// Returns whether a query calls a function that Prometheus 3.5 does not have.
pub(crate) fn uses_newer_function(query: &str) -> bool {
    NEWER_FUNCTIONS.iter().any(|name| query.contains(name))
}

/// Returns the name of the fixed bug that explains a difference, if any.
pub(crate) fn fixed_bug(difference: &Difference<'_>) -> Option<&'static str> {
    let bug = FIXED_BUGS.iter().find(|bug| (bug.explains)(difference));
    bug.map(|bug| bug.name)
}
