//! Writes `up` of each agent, and ends the series of agents that stay away.

use std::collections::HashMap;
use std::sync::Arc;

use common::model::label::METRIC_NAME;
use common::model::{Labels, Matcher, Metadata, MetricType};
use tidemark_storage::{ReadControl, Readable as _, Selection, Store};
use tokio::time::MissedTickBehavior;

use super::Context;
use super::agents::Agent;
use super::left_open;
use crate::report::chain;
use crate::series_writer::{ColumnId, SeriesWriter};

/// The value of `job` on `up` of agents.
pub const AGENT_JOB: &str = "agent";

/// Most series of this source: two for each agent.
const SERIES_MAX: usize = 1 << 20;

/// Writes `up` at each interval until the aggregator stops, also of agents that were up before the last start.
pub(super) async fn run(context: Arc<Context>) {
    let started_ms = context.clock.now_ms();
    let find = {
        let context = Arc::clone(&context);
        move || {
            (
                find_known(&context, started_ms),
                Liveness::new(&context.store),
            )
        }
    };
    let mut liveness = match tokio::task::spawn_blocking(find).await {
        Ok(((), liveness)) => liveness,
        Err(error) => return tracing::error!(error = chain(&error), "liveness of agents panicked"),
    };
    let mut ticks = tokio::time::interval(context.config.liveness_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = context.cancel.cancelled() => return,
        }
        let round = {
            let context = Arc::clone(&context);
            move || {
                liveness.round(&context, started_ms);
                liveness
            }
        };
        match tokio::task::spawn_blocking(round).await {
            Ok(returned) => liveness = returned,
            Err(error) => {
                return tracing::error!(error = chain(&error), "liveness of agents panicked");
            }
        }
    }
}

/// Finds the agents that had an `up` within the time after which agents are forgotten.
fn find_known(context: &Context, now_ms: i64) {
    let forget_ms = context.config.forget_after.as_millis() as i64;
    let selection = Selection {
        matchers: vec![
            Matcher::equal(METRIC_NAME, "up"),
            Matcher::equal("job", AGENT_JOB),
        ],
        start_ms: now_ms.saturating_sub(forget_ms),
        end_ms: now_ms,
    };
    let found = context.store.select(&selection, &ReadControl::unlimited());
    let set = match found {
        Ok(set) => set,
        Err(error) => {
            return tracing::warn!(
                error = chain(&error),
                "look up the agents of the previous run"
            );
        }
    };
    for index in 0..set.len() {
        let labels = set.labels(index);
        if let (Some(idc), Some(node)) = (labels.get("idc"), labels.get("node")) {
            let agent = context.agents.known(idc, node, now_ms);
            agent.park_previous_run(now_ms, context.config.absence_grace);
        }
    }
}

/// Refused series of an agent, written once there were some: alerts name the agent by it.
const REFUSED_SERIES: &str = "ingest_refused_series";

/// The columns of one agent.
#[derive(Debug, Clone, Copy)]
struct AgentColumns {
    up: ColumnId,
    /// Absent until a series of the agent is refused.
    refused: Option<ColumnId>,
}

/// Writes `up` and [`REFUSED_SERIES`] of all agents, a row at a time.
struct Liveness {
    writer: SeriesWriter,
    /// By data centre and node.
    columns: HashMap<(String, String), AgentColumns>,
}

impl Liveness {
    fn new(store: &Store) -> Self {
        let families = [
            ("up", "1 if the target is healthy, 0 if it is not."),
            (REFUSED_SERIES, "Series of the agent that are refused now."),
        ];
        for (name, help) in families {
            let metadata = Metadata {
                metric_type: MetricType::Gauge,
                help: help.to_owned(),
                unit: String::new(),
            };
            store.set_metadata(name, metadata);
        }
        Self {
            writer: SeriesWriter::new(store.stream("liveness/agent"), SERIES_MAX),
            columns: HashMap::new(),
        }
    }

    fn round(&mut self, context: &Context, started_ms: i64) {
        let now_ms = context.clock.now_ms();
        let grace_ms = context.config.absence_grace.as_millis() as i64;
        let forget_ms = context.config.forget_after.as_millis() as i64;
        for agent in context.agents.all() {
            end_absent(context, &agent, now_ms);
            let is_up = agent.is_up(now_ms, grace_ms);
            let key = (agent.idc.clone(), agent.node.clone());
            // After our own start, agents get time to reconnect before they count as down.
            let may_reconnect = now_ms < started_ms.saturating_add(grace_ms);
            if !is_up && may_reconnect && !self.columns.contains_key(&key) {
                continue;
            }
            let silence_ms = now_ms.saturating_sub(agent.seen_ms());
            if !agent.is_connected() && silence_ms > forget_ms {
                self.end(&key);
                context.agents.forget(&agent);
            } else if let Some(columns) = self.columns(key, &agent) {
                self.writer.set(columns.up, f64::from(u8::from(is_up)));
                if let Some(refused) = columns.refused {
                    self.writer.set(refused, agent.refused_series() as f64);
                }
            }
        }
        if let Err(error) = self.writer.write(now_ms) {
            tracing::error!(error = chain(&error), "write up of agents");
        }
    }

    fn end(&mut self, key: &(String, String)) {
        if let Some(columns) = self.columns.remove(key) {
            self.writer.end(columns.up);
            if let Some(refused) = columns.refused {
                self.writer.end(refused);
            }
        }
    }

    fn columns(&mut self, key: (String, String), agent: &Agent) -> Option<AgentColumns> {
        let mut columns = match self.columns.get(&key).copied() {
            Some(columns) => columns,
            None => AgentColumns {
                up: self.column("up", agent)?,
                refused: None,
            },
        };
        if columns.refused.is_none() && agent.refused_series() > 0 {
            columns.refused = self.column(REFUSED_SERIES, agent);
        }
        self.columns.insert(key, columns);
        Some(columns)
    }

    fn column(&mut self, name: &str, agent: &Agent) -> Option<ColumnId> {
        let labels = Labels::from_sorted([
            (METRIC_NAME, name),
            ("idc", agent.idc.as_str()),
            ("instance", agent.node.as_str()),
            ("job", AGENT_JOB),
            ("node", agent.node.as_str()),
        ]);
        let column = self.writer.column(&labels);
        column
            .inspect_err(|error| {
                tracing::warn!(%labels, error = chain(error), "refuse series of an agent");
            })
            .ok()
    }
}

/// Ends the series of an agent that stayed away longer than its grace period.
fn end_absent(context: &Context, agent: &Agent, now_ms: i64) {
    // A session holds the lock.
    let Ok(mut slot) = agent.parked.try_lock() else {
        return;
    };
    let Some(parked) = slot.take_if(|parked| parked.ends_at_ms <= now_ms) else {
        return;
    };
    let marker_ms = parked.marker_ms(now_ms);
    let series = match parked.is_of_previous_run {
        false => parked.series,
        true => match left_open::find(&context.store, (&agent.idc, &agent.node), None, now_ms) {
            Ok(series) => series,
            Err(error) => {
                let error = chain(&error);
                return tracing::error!(
                    node = agent.node,
                    error,
                    "look up series of an absent agent"
                );
            }
        },
    };
    let mut ended = 0;
    for series in series {
        match series.end(marker_ms, None) {
            Ok(count) => ended += count,
            Err(error) => {
                let error = chain(&error);
                tracing::error!(node = agent.node, error, "end series of an absent agent");
            }
        }
    }
    context.metrics.stale_markers.add(ended);
    agent.progress(None, 0, 0);
    tracing::info!(
        node = agent.node,
        series = ended,
        "agent is absent: end its series"
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::clock::{Clock, ManualClock};
    use common::model::{STALE_NAN, is_stale};
    use common::telemetry::Registry;
    use tidemark_storage::Values;
    use tokio::sync::Semaphore;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::ingest::tests::{NOW_MS, store_with};
    use crate::ingest::{Agents, IngestConfig, IngestMetrics};
    use crate::pki::{AggregatorName, Pki};

    fn context() -> (Context, Arc<ManualClock>, tempfile::TempDir) {
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let (store, dir) = store_with(Arc::clone(&shared));
        let pki = Pki::open(dir.path(), AggregatorName::default(), Arc::clone(&shared)).unwrap();
        let context = Context {
            config: IngestConfig::new("127.0.0.1:0".parse().unwrap(), pki),
            store,
            clock: shared,
            cancel: CancellationToken::new(),
            metrics: Arc::new(IngestMetrics::new(&Registry::default())),
            agents: Agents::default(),
            appends: Semaphore::new(1),
            waiting: Arc::default(),
        };
        (context, clock, dir)
    }

    /// Seconds since the start and value of `up` of a node; the marker is `None`.
    fn up(context: &Context, node: &str) -> Vec<(i64, Option<f64>)> {
        let selection = Selection {
            matchers: vec![
                Matcher::equal(METRIC_NAME, "up"),
                Matcher::equal("instance", node),
            ],
            start_ms: NOW_MS,
            end_ms: NOW_MS + 90_000_000,
        };
        let control = ReadControl::unlimited();
        let set = context.store.select(&selection, &control).unwrap();
        let mut shown = Vec::new();
        set.read(0..set.len(), &control, &mut |_, column| {
            let Values::Floats(values) = column.values;
            let samples = column.timestamps_ms.iter().zip(values);
            shown.extend(samples.map(|(&timestamp_ms, &value)| {
                let seconds = (timestamp_ms - NOW_MS) / 1000;
                (seconds, (!is_stale(value)).then_some(value))
            }));
            Ok(())
        })
        .unwrap();
        shown
    }

    #[test]
    fn agent_is_up_down_and_forgotten() {
        let (context, clock, _dir) = context();
        let mut liveness = Liveness::new(&context.store);
        let mut round = |after: u64| {
            clock.set_ms(NOW_MS);
            clock.advance(Duration::from_secs(after));
            liveness.round(&context, NOW_MS);
        };
        let agent = context.agents.known("a", "n1", NOW_MS);
        let lost = context.agents.known("a", "n2", NOW_MS);
        let session = CancellationToken::new();
        let address = "127.0.0.1:1".parse().unwrap();
        agent.open(&session, address, "1", 10_000);
        // `n2` is known from the previous run, and gets time to reconnect.
        round(10);
        agent.seen(NOW_MS + 30_000);
        round(40);
        // Connected, but silent.
        round(90);
        agent.close(&session);
        round(86_429);
        round(86_431);
        let n1 = [
            (10, Some(1.0)),
            (40, Some(1.0)),
            (90, Some(0.0)),
            (86_429, Some(0.0)),
            (86_431, None),
        ];
        assert_eq!(up(&context, "n1"), n1);
        assert_eq!(
            up(&context, "n2"),
            [(40, Some(0.0)), (90, Some(0.0)), (86_429, None)]
        );
        assert_eq!(lost.node, "n2");
        assert!(context.agents.list().is_empty());
    }

    #[test]
    fn agents_of_the_previous_run_are_known_from_the_store() {
        let (context, clock, _dir) = context();
        context.agents.known("a", "n1", NOW_MS);
        clock.advance(Duration::from_secs(60));
        Liveness::new(&context.store).round(&context, NOW_MS);
        let again = Context {
            agents: Agents::default(),
            ..context
        };
        find_known(&again, clock.now_ms());
        let nodes: Vec<_> = again
            .agents
            .list()
            .into_iter()
            .map(|one| one.node)
            .collect();
        assert_eq!(nodes, ["n1"]);
    }

    #[test]
    fn series_of_an_agent_that_does_not_return_after_a_restart_end() {
        let (context, clock, _dir) = context();
        context.agents.known("a", "n1", NOW_MS);
        Liveness::new(&context.store).round(&context, NOW_MS - 60_000);
        let write = |name: &str, metric: &str, value: f64| {
            let pairs = [("__name__", metric), ("idc", "a"), ("node", "n1")];
            let labels = Labels::from_pairs(pairs).unwrap();
            let mut stream = context.store.stream(name);
            stream.define(0, &labels).unwrap();
            stream.append_row(1, NOW_MS, &[(0, value)]).unwrap();
        };
        write("agent/a/n1/spool1", "live", 1.0);
        write("agent/a/n1/spool2", "ended", STALE_NAN);
        // The result of a rule about the node is not the agent's.
        write("rule/x", "recorded", 1.0);
        let restarted = Context {
            agents: Agents::default(),
            ..context
        };
        find_known(&restarted, NOW_MS);
        let mut liveness = Liveness::new(&restarted.store);
        liveness.round(&restarted, NOW_MS);
        assert_eq!(restarted.metrics.stale_markers.get(), 0, "it may return");
        clock.advance(Duration::from_secs(31));
        liveness.round(&restarted, NOW_MS);
        assert_eq!(restarted.metrics.stale_markers.get(), 1);
        let open = left_open::find(&restarted.store, ("a", "n1"), None, clock.now_ms());
        assert!(open.unwrap().is_empty());
        liveness.round(&restarted, NOW_MS);
        assert_eq!(restarted.metrics.stale_markers.get(), 1);
    }
}
