//! Range queries through the cache: the steps that it has are taken from there, the others are evaluated.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemark_storage::read::StableUntil;

use super::range_cache::{CachedRange, RangeKey, cut, is_cacheable, join};
use super::{Engine, QueryOptions, RangeParams, RangeQuery, millis};
use crate::error::QueryError;
use crate::value::{MatrixSeries, QueryResult, Stats, Value};

impl Engine {
    /// Evaluates `query` at each step of `range`, as far as the cache does not have the result.
    pub(super) fn range_cached(
        &self,
        query: &RangeQuery<'_>,
        range: RangeParams,
    ) -> Result<QueryResult, QueryError> {
        let cacheable =
            !self.cache.is_off() && !query.options.per_step_stats && is_cacheable(query.expr);
        let Some(stable) = query.data.stable_until().filter(|_| cacheable) else {
            return self.range_uncached(query, range);
        };
        let key = self.cache_key(query.query, range, query.options);
        let hit = self.cache.get(&key, stable);
        let hit = hit.filter(|hit| (hit.start_ms..=hit.end_ms).contains(&range.start_ms));
        let Some(hit) = hit else {
            let result = self.range_uncached(query, range)?;
            if let Value::Matrix(matrix) = &result.value
                && self.is_unchanged(query, stable)
                && let Some(part) = CachedRange::stable_part(stable, range, matrix, &result)
            {
                self.cache.put(key, part);
            }
            return Ok(result);
        };
        let cached = cut(&hit.series, range.start_ms, range.end_ms);
        let mut result = QueryResult {
            value: Value::Matrix(Vec::new()),
            warnings: hit.warnings.clone(),
            infos: hit.infos.clone(),
            stats: Stats::default(),
        };
        if hit.end_ms + range.step_ms > range.end_ms {
            result.value = Value::Matrix(cached);
            return Ok(result);
        }
        let rest = RangeParams {
            start_ms: hit.end_ms + range.step_ms,
            ..range
        };
        let matrix = self.append_steps(query, rest, cached, &mut result)?;
        if self.is_unchanged(query, stable)
            && let Some(part) = CachedRange::stable_part(stable, range, &matrix, &result)
        {
            self.cache.put(key, part);
        }
        result.value = Value::Matrix(matrix);
        Ok(result)
    }

    /// Evaluates the steps after the cached ones; adds their annotations and statistics to `result`.
    fn append_steps(
        &self,
        query: &RangeQuery<'_>,
        rest: RangeParams,
        cached: Vec<MatrixSeries>,
        result: &mut QueryResult,
    ) -> Result<Vec<MatrixSeries>, QueryError> {
        let new = self.range_uncached(query, rest)?;
        result.warnings = union(&result.warnings, &new.warnings);
        result.infos = union(&result.infos, &new.infos);
        result.stats = new.stats;
        Ok(match new.value {
            Value::Matrix(later) => join(cached, later),
            Value::Scalar(_) | Value::String { .. } | Value::Vector(_) => cached,
        })
    }

    fn cache_key(&self, query: &str, range: RangeParams, options: &QueryOptions<'_>) -> RangeKey {
        let lookback = options
            .lookback_delta
            .unwrap_or(self.options.lookback_delta);
        RangeKey {
            query: query.to_owned(),
            step_ms: range.step_ms,
            phase_ms: range.start_ms.rem_euclid(range.step_ms),
            lookback_ms: millis(lookback),
        }
    }

    /// Returns whether the data did not change since `stable` was read.
    fn is_unchanged(&self, query: &RangeQuery<'_>, stable: StableUntil) -> bool {
        let now = query.data.stable_until();
        now.is_some_and(|now| now.generation == stable.generation)
    }
}

fn union(a: &[String], b: &[String]) -> Arc<[String]> {
    let all: BTreeSet<&String> = a.iter().chain(b).collect();
    all.into_iter().cloned().collect()
}
