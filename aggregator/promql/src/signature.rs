//! The functions of the language as the parser knows them: names, argument types, and which need a feature flag.

use crate::function_table::with_function_table;
use crate::value_type::ValueType;

/// What a function takes and returns.
#[derive(Debug, PartialEq, Eq)]
pub struct Signature {
    /// Its name.
    pub name: &'static str,
    /// Its id.
    pub function: Function,
    /// Types of its arguments, optional ones included.
    pub args: &'static [ValueType],
    /// How many arguments it takes.
    pub arity: Arity,
    /// The type of its result.
    pub returns: ValueType,
    /// Whether it needs a feature flag.
    pub stage: Stage,
}

/// How many arguments a function takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Exactly those listed.
    Exact,
    /// The last one may be omitted.
    LastOptional,
    /// The last one may be omitted or repeated any number of times.
    LastRepeated,
}

/// How settled a function is in Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Always available.
    Stable,
    /// Needs `promql-experimental-functions`.
    Experimental,
}

/// Returns the signature of the function `name`, experimental ones included.
#[must_use]
pub fn signature(name: &str) -> Option<&'static Signature> {
    SIGNATURES
        .binary_search_by(|signature| signature.name.cmp(name))
        .ok()
        .and_then(|index| SIGNATURES.get(index))
}

/// Returns the signatures of all functions, sorted by name.
#[must_use]
pub const fn signatures() -> &'static [Signature] {
    SIGNATURES
}

macro_rules! define_signatures {
    ($($name:literal: $function:ident($($arg:ident),*) $arity:ident -> $returns:ident, $stage:ident,
        $depends_on:ident, $class:ident $evaluation:tt;)*) => {
        /// A function of the language.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the variants are named after the functions")]
        pub enum Function { $($function),* }

        static SIGNATURES: &[Signature] = &[$(Signature {
            name: $name,
            function: Function::$function,
            args: &[$(ValueType::$arg),*],
            arity: Arity::$arity,
            returns: ValueType::$returns,
            stage: Stage::$stage,
        }),*];
    };
}

with_function_table!(define_signatures);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_complete() {
        assert!(SIGNATURES.is_sorted_by(|a, b| a.name < b.name));
        let count = |stage| SIGNATURES.iter().filter(|s| s.stage == stage).count();
        // Prometheus 3.5 has 72 stable functions and 8 experimental ones; two of the latter came with 3.7.
        assert_eq!(count(Stage::Stable), 72);
        assert_eq!(count(Stage::Experimental), 10);
        assert_eq!(signature("rate").map(|s| s.function), Some(Function::Rate));
        assert_eq!(signature("rat"), None);
    }
}
