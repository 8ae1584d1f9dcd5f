//! Declarations of our own metrics: name, help and field stand in one place.
//!
//! Modules with several metrics declare a struct with [`metrics!`](crate::metrics!); a single metric is a
//! [`metric!`](crate::metric!). There is no other way to register one. docs/metrics.md is generated from these
//! declarations, which is why name and help are literals.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::metric::{Counter, Gauge, Histogram};
use super::registry::{Instrument, LabelPairs, Registry, Source};

/// The name and help of a metric of type `M`. Made by [`metric!`](crate::metric!).
pub struct MetricDef<M> {
    name: &'static str,
    help: &'static str,
    instrument: PhantomData<fn() -> M>,
}

impl<M> Clone for MetricDef<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for MetricDef<M> {}

impl<M> fmt::Debug for MetricDef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<M> MetricDef<M> {
    /// For the macros only: docs/metrics.md finds their calls.
    #[doc(hidden)]
    #[must_use]
    pub const fn declare(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            instrument: PhantomData,
        }
    }

    /// The metric's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The metric's help.
    #[must_use]
    pub const fn help(&self) -> &'static str {
        self.help
    }
}

impl<M: Instrument> MetricDef<M> {
    /// Registers one series. A second registration with the same labels returns the first one's instrument.
    #[must_use]
    pub fn register(self, registry: &Registry, labels: LabelPairs<'_>) -> Arc<M> {
        registry.register((self.name, self.help), labels, M::default)
    }
}

impl MetricDef<Counter> {
    /// Registers a series whose value is read when it is rendered.
    pub fn register_fn(
        self,
        registry: &Registry,
        labels: LabelPairs<'_>,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        let source = Source::CounterFn(Box::new(read));
        registry.register_source((self.name, self.help), labels, source);
    }
}

impl MetricDef<Gauge> {
    /// Registers a series whose value is read when it is rendered.
    pub fn register_fn(
        self,
        registry: &Registry,
        labels: LabelPairs<'_>,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        let source = Source::GaugeFn(Box::new(read));
        registry.register_source((self.name, self.help), labels, source);
    }
}

impl MetricDef<Histogram> {
    /// Registers a histogram over other bounds than [`Histogram::SECONDS`].
    #[must_use]
    pub fn register_with_bounds(
        self,
        registry: &Registry,
        labels: LabelPairs<'_>,
        bounds: &'static [f64],
    ) -> Arc<Histogram> {
        registry.register((self.name, self.help), labels, || Histogram::new(bounds))
    }
}

/// What a field of [`metrics!`](crate::metrics!) may be declared as.
pub trait Declared {
    /// The field's type.
    type Handle;

    /// Registers the metric's series that exist from the start.
    fn register(
        registry: &Registry,
        name: &'static str,
        help: &'static str,
        labels: LabelPairs<'_>,
    ) -> Self::Handle;
}

impl<M: Instrument> Declared for M {
    type Handle = Arc<M>;

    fn register(
        registry: &Registry,
        name: &'static str,
        help: &'static str,
        labels: LabelPairs<'_>,
    ) -> Arc<M> {
        MetricDef::declare(name, help).register(registry, labels)
    }
}

/// A closed set of values of one label.
pub trait LabelValue: Copy + Eq + fmt::Debug + 'static {
    /// The label's name.
    const LABEL: &'static str;

    /// Every value.
    fn all() -> Vec<Self>;

    /// The value as text.
    fn as_label(self) -> &'static str;
}

/// A metric with one series per value of `V`, each at zero from the start.
pub struct By<M, V> {
    series: Vec<(V, Arc<M>)>,
    /// Takes what a value outside [`LabelValue::all`] counts.
    unlisted: Arc<M>,
}

impl<M: fmt::Debug, V: fmt::Debug> fmt::Debug for By<M, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.series).finish()
    }
}

impl<M, V: LabelValue> By<M, V> {
    /// The instrument of one value.
    #[must_use]
    pub fn of(&self, value: V) -> &M {
        let found = self.series.iter().find(|(one, _)| *one == value);
        debug_assert!(found.is_some(), "LabelValue::all() omits {value:?}");
        found.map_or(&self.unlisted, |(_, metric)| metric)
    }
}

impl<M: Instrument, V: LabelValue> Declared for By<M, V> {
    type Handle = Self;

    fn register(
        registry: &Registry,
        name: &'static str,
        help: &'static str,
        labels: LabelPairs<'_>,
    ) -> Self {
        let register = |value: V| {
            let labels = [labels, &[(V::LABEL, value.as_label())]].concat();
            let metric = MetricDef::declare(name, help).register(registry, &labels);
            (value, metric)
        };
        Self {
            series: V::all().into_iter().map(register).collect(),
            unlisted: Arc::default(),
        }
    }
}

/// Names a metric: `metric!(Gauge, "aggregator_http_connections", "Open HTTP connections.")`.
///
/// The first argument is [`Counter`], [`Gauge`] or [`Histogram`]; the name of a counter ends in `_total`.
#[macro_export]
macro_rules! metric {
    ($instrument:ident, $name:literal, $help:literal $(,)?) => {
        $crate::telemetry::MetricDef::<$crate::telemetry::$instrument>::declare($name, $help)
    };
}

/// Declares a struct of metrics and its constructor `register(&Registry, labels)`.
///
/// A field's type is [`Counter`], [`Gauge`] or [`Histogram`] (the field becomes an `Arc` of it), or [`By`]. A section
/// `with { .. }` after the struct declares fields that are not metrics; `register` takes their values.
///
/// ```
/// common::metrics! {
///     /// Metrics of the spool.
///     #[derive(Debug)]
///     pub struct SpoolMetrics {
///         pub ticks: Counter = "spool_ticks_total", "Ticks written to the spool.";
///         pub bytes: Gauge = "spool_bytes", "Size of the spool on disk.";
///     }
/// }
/// # use common::telemetry::{Counter, Gauge, Registry};
/// let metrics = SpoolMetrics::register(&Registry::default(), &[]);
/// metrics.ticks.inc();
/// ```
#[macro_export]
macro_rules! metrics {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $metrics:ident {
            $($field_visibility:vis $field:ident: $declared:ty = $name:literal, $help:literal;)*
        }
        $(with {
            $(
                $(#[$other_attribute:meta])*
                $other_visibility:vis $other:ident: $other_type:ty,
            )*
        })?
    ) => {
        $(#[$attribute])*
        $visibility struct $metrics {
            $(
                #[doc = concat!("`", $name, "`: ", $help)]
                $field_visibility $field: <$declared as $crate::telemetry::Declared>::Handle,
            )*
            $($(
                $(#[$other_attribute])*
                $other_visibility $other: $other_type,
            )*)?
        }

        impl $metrics {
            /// Registers the metrics; every series gets `labels`.
            #[must_use]
            $visibility fn register(
                registry: &$crate::telemetry::Registry,
                labels: $crate::telemetry::LabelPairs<'_>,
                $($($other: $other_type,)*)?
            ) -> Self {
                Self {
                    $($field: <$declared as $crate::telemetry::Declared>::register(
                        registry, $name, $help, labels,
                    ),)*
                    $($($other,)*)?
                }
            }
        }
    };
}

/// Declares an enum whose variants are the values of one label.
#[macro_export]
macro_rules! closed_labels {
    (
        $(#[$attribute:meta])*
        $visibility:vis $name:ident as $label:literal {
            $($(#[$variant_attribute:meta])* $variant:ident = $value:literal,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $name {
            $($(#[$variant_attribute])* $variant,)*
        }

        impl $crate::telemetry::LabelValue for $name {
            const LABEL: &'static str = $label;

            fn all() -> Vec<Self> {
                vec![$(Self::$variant,)*]
            }

            fn as_label(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)*
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::closed_labels! {
        Fault as "kind" {
            Read = "read",
            Parse = "parse",
        }
    }

    crate::metrics! {
        struct TestMetrics {
            seen: Counter = "seen_total", "Seen.";
            faults: By<Counter, Fault> = "faults_total", "Faults.";
        }
    }

    #[test]
    fn declared_metrics_are_registered_with_their_labels() {
        let registry = Registry::default();
        let metrics = TestMetrics::register(&registry, &[("receiver", "mirror")]);
        metrics.seen.inc();
        metrics.faults.of(Fault::Parse).add(2);
        let mut text = String::new();
        registry.render(&mut text);
        let want = "# HELP faults_total Faults.\n# TYPE faults_total counter\n\
            faults_total{receiver=\"mirror\",kind=\"read\"} 0\n\
            faults_total{receiver=\"mirror\",kind=\"parse\"} 2\n\
            # HELP seen_total Seen.\n# TYPE seen_total counter\n\
            seen_total{receiver=\"mirror\"} 1\n";
        assert_eq!(text, want);
    }
}
