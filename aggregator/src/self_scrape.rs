//! Writes the aggregator's own metrics into its own store, so that rules can alert on them.
//!
//! Off unless asked for, as in Prometheus, where it is a scrape job: who fills a store with known series wants
//! only those in it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::clock::Clock;
use common::exposition::{Entry, Parser};
use common::model::{Labels, Metadata, STALE_NAN};
use common::telemetry::Registry;
use tidemark_storage::{Store, Stream};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::metrics::store::StoreMetrics;
use crate::report;

/// Time between two looks at the store when nothing is written: `/metrics` shows what the last look saw.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// The value of `job` on all of these series.
const JOB: &str = "tidemark-aggregator";

/// Keeps the store's figures in the registry until `stop`, without writing anything.
pub async fn look(store: Store, registry: Registry, stop: CancellationToken) {
    let figures = Arc::new(StoreMetrics::register(&registry));
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let (figures, store) = (Arc::clone(&figures), store.clone());
        if let Err(error) = tokio::task::spawn_blocking(move || figures.update(&store)).await {
            tracing::error!(error = %error, "reading the store's figures died");
            return;
        }
    }
}

/// Writes the registry to the store every `interval` until `stop`, then ends the series.
pub async fn run(
    store: Store,
    registry: Registry,
    clock: Arc<dyn Clock>,
    address: SocketAddr,
    interval: Duration,
    stop: CancellationToken,
) {
    let mut scrape = SelfScrape::new(&store, &registry, address);
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => break,
        }
        let now_ms = clock.now_ms();
        let tick = move || {
            scrape.tick(now_ms);
            scrape
        };
        match tokio::task::spawn_blocking(tick).await {
            Ok(returned) => scrape = returned,
            Err(error) => {
                tracing::error!(error = %error, "reading our own metrics died");
                return;
            }
        }
    }
    let now_ms = clock.now_ms();
    if let Err(error) = tokio::task::spawn_blocking(move || scrape.end(now_ms)).await {
        tracing::error!(error = %error, "ending our own series died");
    }
}

struct SelfScrape {
    store: Store,
    registry: Registry,
    figures: StoreMetrics,
    instance: String,
    stream: Stream,
    /// The column of each series, by the text of its line up to the value.
    columns: HashMap<String, u32>,
    families: HashMap<String, Metadata>,
    row: Vec<(u32, f64)>,
    text: String,
    sequence: u64,
}

impl SelfScrape {
    fn new(store: &Store, registry: &Registry, address: SocketAddr) -> Self {
        let stream = store.stream("self");
        Self {
            sequence: stream.durable_sequence().unwrap_or(0),
            stream,
            store: store.clone(),
            registry: registry.clone(),
            figures: StoreMetrics::register(registry),
            instance: address.to_string(),
            columns: HashMap::new(),
            families: HashMap::new(),
            row: Vec::new(),
            text: String::new(),
        }
    }

    fn tick(&mut self, now_ms: i64) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        self.figures.update(&self.store);
        self.registry.render(&mut text);
        text.push_str("up 1\n");
        self.row.clear();
        for line in text.lines() {
            self.take(line);
        }
        self.text = text;
        self.append(now_ms);
    }

    /// Notes one line. Only a line never seen before is parsed as a whole.
    fn take(&mut self, line: &str) {
        if line.starts_with('#') {
            self.take_comment(line);
            return;
        }
        let Some((series, value)) = line.rsplit_once(' ') else {
            return;
        };
        let Ok(value) = value.replace("Inf", "inf").parse::<f64>() else {
            return;
        };
        let column = match self.columns.get(series) {
            Some(&column) => column,
            None => match self.define(series, line) {
                Some(column) => column,
                None => return,
            },
        };
        self.row.push((column, value));
    }

    fn define(&mut self, series: &str, line: &str) -> Option<u32> {
        let labels = match Parser::new(line).next() {
            Some(Ok(Entry::Sample { labels, .. })) => self.with_target(&labels)?,
            _ => return None,
        };
        let column = u32::try_from(self.columns.len()).ok()?;
        if let Err(error) = self.stream.define(column, &labels) {
            tracing::warn!(error = report::chain(&error), "own series is not kept");
            return None;
        }
        self.columns.insert(series.to_owned(), column);
        Some(column)
    }

    fn with_target(&self, labels: &Labels) -> Option<Labels> {
        let mut builder = labels.to_builder();
        builder.set("job", JOB);
        builder.set("instance", self.instance.as_str());
        builder.build().ok()
    }

    fn take_comment(&mut self, line: &str) {
        let (family, help, metric_type) = match Parser::new(line).next() {
            Some(Ok(Entry::Help { family, text })) => (family, Some(text.into_owned()), None),
            Some(Ok(Entry::Type {
                family,
                metric_type,
            })) => (family, None, Some(metric_type)),
            _ => return,
        };
        let known = self
            .families
            .entry(family.clone().into_owned())
            .or_default();
        let mut now = known.clone();
        now.help = help.unwrap_or(now.help);
        now.metric_type = metric_type.unwrap_or(now.metric_type);
        if *known != now {
            *known = now.clone();
            self.store.set_metadata(&family, now);
        }
    }

    fn append(&mut self, now_ms: i64) {
        self.sequence += 1;
        if let Err(error) = self.stream.append_row(self.sequence, now_ms, &self.row) {
            tracing::warn!(error = report::chain(&error), "own metrics are not kept");
        }
    }

    /// Marks all series as ended: the process stops.
    fn end(&mut self, now_ms: i64) {
        self.row.clear();
        self.row
            .extend(self.columns.values().map(|&column| (column, STALE_NAN)));
        self.row.sort_unstable_by_key(|&(column, _)| column);
        self.append(now_ms);
    }
}
