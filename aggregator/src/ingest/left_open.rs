//! Finds the series of an agent that an earlier run of the aggregator left open.
//!
//! While the aggregator runs, a session that ends parks its series, and the next one of the agent ends those that it
//! does not continue. After a restart nothing is parked, but the store still knows the agent's streams: one for each
//! spool that the agent had (its instance). An agent that returns with a new spool continues none of the old stream's
//! series, and an agent that never returns continues none at all.

use std::collections::HashSet;

use common::model::{Labels, Matcher, is_stale};
use tidemark_storage::{ReadControl, ReadError, Readable as _, Selection, Store, Values};

use super::agent_series::AgentSeries;
use super::role::agent_prefix;
use crate::report::chain;

/// A series without a sample for so long has ended for every query with an ordinary lookback.
const OPEN_WITHIN_MS: i64 = 15 * 60 * 1000;

/// Returns the live series of the agent's streams other than `except`, by stream.
///
/// # Errors
/// The store can't be read.
pub(super) fn find(
    store: &Store,
    (idc, node): (&str, &str),
    except: Option<&str>,
    now_ms: i64,
) -> Result<Vec<AgentSeries>, ReadError> {
    let mut names = store.stream_names(&agent_prefix(idc, node));
    names.retain(|name| Some(name.as_str()) != except);
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let live = live_series(store, (idc, node), now_ms)?;
    let mut found = Vec::new();
    for name in names {
        let mut series = AgentSeries::new(store, &name);
        let own = store.stream_series(&name).into_iter();
        for (column, labels) in (0..).zip(own.filter(|labels| live.contains(labels))) {
            if let Err(error) = series.define(column, &labels, &mut || true) {
                tracing::warn!(%labels, error = chain(&error), "cannot end series of an earlier run");
            }
        }
        if series.len() > 0 {
            found.push(series);
        }
    }
    Ok(found)
}

/// Returns the series with these labels whose newest sample is recent and not a staleness marker.
fn live_series(
    store: &Store,
    (idc, node): (&str, &str),
    now_ms: i64,
) -> Result<HashSet<Labels>, ReadError> {
    let selection = Selection {
        matchers: vec![Matcher::equal("idc", idc), Matcher::equal("node", node)],
        start_ms: now_ms.saturating_sub(OPEN_WITHIN_MS),
        end_ms: now_ms,
    };
    let control = ReadControl::unlimited();
    let set = store.select(&selection, &control)?;
    let mut live = HashSet::new();
    set.read_newest(0..set.len(), &control, &mut |index, column| {
        let Values::Floats(values) = column.values;
        if values.last().is_some_and(|&value| !is_stale(value)) {
            live.insert(set.labels(index));
        }
        Ok(())
    })?;
    Ok(live)
}
