//! The known agents: who is connected, and which series end if one stays away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::identity::Identity;
use tidemark_storage::Appended;
use tokio_util::sync::CancellationToken;

use super::agent_series::AgentSeries;
use super::new_series::NewSeries;

/// The state of one agent.
#[derive(Debug, Clone)]
pub struct AgentStatus {
    /// The data centre, from the certificate.
    pub idc: String,
    /// The node, from the certificate.
    pub node: String,
    /// Whether a session is open.
    pub connected: bool,
    /// The address it last connected from.
    pub address: Option<SocketAddr>,
    /// Its program version.
    pub version: String,
    /// Time of its newest tick.
    pub last_tick_ms: Option<i64>,
    /// Its stored series.
    pub series: u64,
    /// Series that it sends and that are refused.
    pub refused_series: u64,
    /// Samples refused since this process knows the agent.
    pub refused_samples: u64,
    /// Of these, those older than the retention.
    pub too_old_samples: u64,
}

/// By data centre and node.
type AgentMap = BTreeMap<(String, String), Arc<Agent>>;

/// The known agents. Clones share the list.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    agents: Arc<Mutex<AgentMap>>,
}

const NEVER: i64 = i64::MIN;

/// One agent. Outlives its sessions.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) idc: String,
    pub(super) node: String,
    link: Mutex<Link>,
    /// When bytes last arrived from it, by the aggregator's clock.
    seen_ms: AtomicI64,
    tick_ms: AtomicI64,
    series: AtomicU64,
    refused_series: AtomicU64,
    refused_samples: AtomicU64,
    too_old_samples: AtomicU64,
    /// Its allowance of series that the store does not know.
    pub(super) new_series: NewSeries,
    /// Locked by a running session; between sessions it holds what the last one parked.
    pub(super) parked: Arc<tokio::sync::Mutex<Option<ParkedSession>>>,
}

#[derive(Debug, Default)]
struct Link {
    session: Option<CancellationToken>,
    address: Option<SocketAddr>,
    version: String,
    interval_ms: i64,
}

/// The series of a session that has ended.
#[derive(Debug)]
pub(super) struct ParkedSession {
    pub(super) series: Vec<AgentSeries>,
    pub(super) last_tick_ms: i64,
    pub(super) interval_ms: i64,
    /// When its series end, by the aggregator's clock.
    pub(super) ends_at_ms: i64,
    /// No session of this run: `series` is empty, and what the previous run left open is looked up when it is needed.
    pub(super) is_of_previous_run: bool,
}

impl ParkedSession {
    /// Returns the timestamp of the staleness markers: after the last tick, and just before the next tick that the spool
    /// may still deliver, so that a late tick is hidden for a millisecond at most.
    pub(super) fn marker_ms(&self, now_ms: i64) -> i64 {
        let interval_ms = self.interval_ms.max(1);
        let missed = now_ms.saturating_sub(self.last_tick_ms).max(1);
        let steps = (missed + interval_ms - 1) / interval_ms;
        self.last_tick_ms + steps * interval_ms - i64::from(interval_ms > 1)
    }
}

impl Agent {
    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seen(&self, now_ms: i64) {
        self.seen_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(super) fn seen_ms(&self) -> i64 {
        self.seen_ms.load(Ordering::Relaxed)
    }

    pub(super) fn progress(&self, tick_ms: Option<i64>, series: u64, refused: u64) {
        if let Some(tick_ms) = tick_ms {
            self.tick_ms.store(tick_ms, Ordering::Relaxed);
        }
        self.series.store(series, Ordering::Relaxed);
        self.refused_series.store(refused, Ordering::Relaxed);
    }

    /// Counts the refused samples of a tick.
    pub(super) fn refused(&self, appended: &Appended) {
        if appended.refused > 0 {
            let refused = &self.refused_samples;
            refused.fetch_add(appended.refused, Ordering::Relaxed);
            let too_old = &self.too_old_samples;
            too_old.fetch_add(appended.too_old, Ordering::Relaxed);
        }
    }

    /// Returns how many series of it are refused.
    pub(super) fn refused_series(&self) -> u64 {
        self.refused_series.load(Ordering::Relaxed)
    }

    /// Notes that the previous run may have left series of this agent open: they end after `grace` unless it connects.
    pub(super) fn park_previous_run(&self, now_ms: i64, grace: Duration) {
        if let Ok(mut parked) = self.parked.try_lock() {
            parked.get_or_insert(ParkedSession {
                series: Vec::new(),
                last_tick_ms: now_ms,
                interval_ms: 1,
                ends_at_ms: now_ms.saturating_add(grace.as_millis() as i64),
                is_of_previous_run: true,
            });
        }
    }

    /// Returns whether it is connected and has sent something lately.
    pub(super) fn is_up(&self, now_ms: i64, grace_ms: i64) -> bool {
        let link = self.link();
        let silence_ms = now_ms.saturating_sub(self.seen_ms());
        link.session.is_some() && silence_ms <= grace_ms.max(3 * link.interval_ms)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.link().session.is_some()
    }

    /// Makes `session` the agent's session, and cancels the previous one. Returns whether there was one.
    pub(super) fn open(
        &self,
        session: &CancellationToken,
        address: SocketAddr,
        version: &str,
        interval_ms: i64,
    ) -> bool {
        let mut link = self.link();
        link.address = Some(address);
        version.clone_into(&mut link.version);
        link.interval_ms = interval_ms;
        let before = link.session.replace(session.clone());
        before.is_some_and(|before| {
            before.cancel();
            true
        })
    }

    /// Records that the session ended, unless another replaced it.
    pub(super) fn close(&self, session: &CancellationToken) {
        if !session.is_cancelled() {
            self.link().session = None;
        }
    }

    fn status(&self) -> AgentStatus {
        let link = self.link();
        let tick_ms = self.tick_ms.load(Ordering::Relaxed);
        AgentStatus {
            idc: self.idc.clone(),
            node: self.node.clone(),
            connected: link.session.is_some(),
            address: link.address,
            version: link.version.clone(),
            last_tick_ms: (tick_ms != NEVER).then_some(tick_ms),
            series: self.series.load(Ordering::Relaxed),
            refused_series: self.refused_series(),
            refused_samples: self.refused_samples.load(Ordering::Relaxed),
            too_old_samples: self.too_old_samples.load(Ordering::Relaxed),
        }
    }
}

impl Agents {
    fn agents(&self) -> MutexGuard<'_, AgentMap> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all known agents, ordered by data centre and node.
    #[must_use]
    pub fn list(&self) -> Vec<AgentStatus> {
        let agents = self.agents();
        agents.values().map(|agent| agent.status()).collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<Agent>> {
        self.agents().values().cloned().collect()
    }

    pub(super) fn of(&self, identity: &Identity, now_ms: i64) -> Arc<Agent> {
        self.known(identity.idc(), identity.name(), now_ms)
    }

    /// Returns the agent of that name, created if it is not known.
    pub(super) fn known(&self, idc: &str, node: &str, now_ms: i64) -> Arc<Agent> {
        let mut agents = self.agents();
        let agent = agents
            .entry((idc.to_owned(), node.to_owned()))
            .or_insert_with(|| {
                Arc::new(Agent {
                    idc: idc.to_owned(),
                    node: node.to_owned(),
                    link: Mutex::default(),
                    seen_ms: AtomicI64::new(now_ms),
                    tick_ms: AtomicI64::new(NEVER),
                    series: AtomicU64::new(0),
                    refused_series: AtomicU64::new(0),
                    refused_samples: AtomicU64::new(0),
                    too_old_samples: AtomicU64::new(0),
                    new_series: NewSeries::default(),
                    parked: Arc::default(),
                })
            });
        Arc::clone(agent)
    }

    pub(super) fn forget(&self, agent: &Agent) {
        let key = (agent.idc.clone(), agent.node.clone());
        self.agents().remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::tests::store;

    #[test]
    fn marker_lies_just_before_the_next_possible_tick() {
        let (store, _dir) = store();
        let left = ParkedSession {
            series: vec![AgentSeries::new(&store, "x")],
            last_tick_ms: 100_000,
            interval_ms: 10_000,
            ends_at_ms: 0,
            is_of_previous_run: false,
        };
        for (now_ms, want) in [
            (100_000, 109_999),
            (109_999, 109_999),
            (110_001, 119_999),
            (133_000, 139_999),
            (5, 109_999),
        ] {
            assert_eq!(left.marker_ms(now_ms), want, "{now_ms}");
        }
    }
}
