//! Optional parts of the language.

/// Parts of the language that Prometheus enables with `--enable-feature`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// `promql-experimental-functions`
    pub experimental_functions: bool,
    /// `promql-duration-expr`
    pub duration_expressions: bool,
    /// `promql-delayed-name-removal`
    pub delayed_name_removal: bool,
    /// `type-and-unit-labels`
    pub type_and_unit_labels: bool,
}
