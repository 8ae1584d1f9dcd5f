//! Writes the aggregator's own metrics into its own store, so that rules can alert on them.
//!
//! Off by default, as in Prometheus, where this needs a scrape job: a store that imports a known set of series should
//! have no others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::clock::Clock;
use common::exposition::{ExpositionLine, Parser};
use common::model::{Labels, Metadata};
use common::telemetry::Registry;
use tidemark_storage::Store;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::metrics::store::StoreMetrics;
use crate::report::chain;
use crate::series_writer::{ColumnId, SeriesWriter};

/// Time between two updates of the store's figures on `/metrics` when nothing is written.
const UPDATE_INTERVAL: Duration = Duration::from_secs(15);
/// The value of `job` on all of these series.
const JOB: &str = "tidemark-aggregator";

/// Most series of the aggregator itself: it has some 800.
const SERIES_MAX: usize = 50_000;

/// Updates the store's figures in the registry until `stop`, without writing anything.
pub async fn update_figures(store: Store, registry: Registry, stop: CancellationToken) {
    let figures = Arc::new(StoreMetrics::register(&registry));
    let mut ticks = tokio::time::interval(UPDATE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let (figures, store) = (Arc::clone(&figures), store.clone());
        if let Err(error) = tokio::task::spawn_blocking(move || figures.update(&store)).await {
            tracing::error!(
                error = chain(&error),
                "update of the store's figures panicked"
            );
            return;
        }
    }
}

/// Writes the registry to the store at each `interval` until `stop`, then ends the series.
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
                tracing::error!(error = chain(&error), "scrape of own metrics panicked");
                return;
            }
        }
    }
    let now_ms = clock.now_ms();
    if let Err(error) = tokio::task::spawn_blocking(move || scrape.end(now_ms)).await {
        tracing::error!(error = chain(&error), "end of own series panicked");
    }
}

struct SelfScrape {
    store: Store,
    registry: Registry,
    figures: StoreMetrics,
    instance: String,
    writer: SeriesWriter,
    /// The column of each series, by the text of its line up to the value.
    columns: HashMap<String, ColumnId>,
    families: HashMap<String, Metadata>,
    text: String,
}

impl SelfScrape {
    fn new(store: &Store, registry: &Registry, address: SocketAddr) -> Self {
        Self {
            writer: SeriesWriter::new(store.stream("self"), SERIES_MAX),
            store: store.clone(),
            registry: registry.clone(),
            figures: StoreMetrics::register(registry),
            instance: address.to_string(),
            columns: HashMap::new(),
            families: HashMap::new(),
            text: String::new(),
        }
    }

    fn tick(&mut self, now_ms: i64) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        self.figures.update(&self.store);
        self.registry.render(&mut text);
        text.push_str("up 1\n");
        for line in text.lines() {
            match line.starts_with('#') {
                true => self.handle_comment(line),
                false => self.handle_sample(line),
            }
        }
        self.text = text;
        self.write(now_ms);
    }

    /// Stores the value of a line. Parses the whole line only when it is seen for the first time.
    fn handle_sample(&mut self, line: &str) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            return;
        };
        let Ok(value) = value.replace("Inf", "inf").parse::<f64>() else {
            return;
        };
        let known = self.columns.get(series).copied();
        if let Some(column) = known.or_else(|| self.add_series(series, line)) {
            self.writer.set(column, value);
        }
    }

    fn add_series(&mut self, series: &str, line: &str) -> Option<ColumnId> {
        let labels = match Parser::new(line).next() {
            Some(Ok(ExpositionLine::Sample { labels, .. })) => self.with_target(&labels)?,
            _ => return None,
        };
        match self.writer.column(&labels) {
            Ok(column) => {
                self.columns.insert(series.to_owned(), column);
                Some(column)
            }
            Err(error) => {
                tracing::warn!(%labels, error = chain(&error), "refuse own series");
                None
            }
        }
    }

    fn with_target(&self, labels: &Labels) -> Option<Labels> {
        let mut builder = labels.to_builder();
        builder.set("job", JOB);
        builder.set("instance", self.instance.as_str());
        builder.build().ok()
    }

    fn handle_comment(&mut self, line: &str) {
        let (family, help, metric_type) = match Parser::new(line).next() {
            Some(Ok(ExpositionLine::Help { family, text })) => {
                (family, Some(text.into_owned()), None)
            }
            Some(Ok(ExpositionLine::Type {
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

    fn write(&mut self, now_ms: i64) {
        if let Err(error) = self.writer.write(now_ms) {
            tracing::warn!(error = chain(&error), "write own metrics");
        }
    }

    /// Ends all series: the process stops.
    fn end(&mut self, now_ms: i64) {
        self.writer.end_all();
        self.write(now_ms);
    }
}
