//! Pushes a corpus into a server by remote write from many senders.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::corpus::{Node, Shape};
use crate::http::Client;
use crate::remote_write::Sender;

/// How many scrapes a sender may be ahead of the slowest one: in a real cluster, all push the same time.
const AHEAD_MAX: usize = 2;

const HEADERS: [(&str, &str); 4] = [
    ("Content-Encoding", "snappy"),
    ("Content-Type", "application/x-protobuf"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
    ("User-Agent", "tidemark-bench"),
];

/// The order in which a sender lists its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// The same in every request, as with Prometheus and agents.
    Steady,
    /// A different one in every request.
    Shuffled,
}

/// Options of a push.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The corpus.
    pub shape: Shape,
    /// Number of connections. Each sends a share of the nodes, with one request per node and scrape.
    pub connections: usize,
    /// The order of the series.
    pub order: Order,
}

/// Cost of a push for the senders.
#[derive(Debug, Default)]
pub struct Pushed {
    /// From the first request to the last answer.
    pub wall: Duration,
    /// Duration of each request.
    pub latencies: Vec<Duration>,
}

impl Pushed {
    /// Returns a quantile of the latencies.
    #[must_use]
    pub fn latency(&self, quantile: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        let index = (last as f64 * quantile).round() as usize;
        sorted.get(index).copied().unwrap_or_default()
    }

    /// Adds the cost of a later push.
    pub fn add(&mut self, next: Self) {
        self.wall += next.wall;
        self.latencies.extend(next.latencies);
    }
}

/// The senders of a cluster, each with a share of the nodes. A push continues where the last one ended.
#[derive(Debug)]
pub struct Senders {
    order: Order,
    at: usize,
    shares: Vec<Vec<(Node, Sender)>>,
    body_bytes: u64,
}

impl Senders {
    /// Encodes all labels in advance, outside the measurement.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let connections = plan.connections.clamp(1, plan.shape.nodes);
        let share = |number: usize| {
            let nodes = (number..plan.shape.nodes).step_by(connections);
            let nodes = nodes.map(|index| {
                let node = Node::new(&plan.shape, index);
                let sender = Sender::new(&node.series);
                (node, sender)
            });
            nodes.collect()
        };
        Self {
            order: plan.order,
            at: 0,
            shares: (0..connections).map(share).collect(),
            body_bytes: 0,
        }
    }

    /// Returns the size of all request bodies so far, in bytes.
    #[must_use]
    pub const fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Pushes the remaining scrapes before number `end` to the server at `address`.
    ///
    /// # Errors
    /// A request was refused or its connection broke. A benchmark with missing data would be meaningless.
    pub fn push(&mut self, end: usize, address: SocketAddr) -> Result<Pushed> {
        let scrapes = self.at..end;
        self.at = end;
        let order = self.order;
        let pace = Pace::new(self.shares.len());
        let started = Instant::now();
        let (latencies, bytes) = thread::scope(|scope| {
            let threads: Vec<_> = (self.shares.iter_mut().enumerate())
                .map(|(number, nodes)| {
                    let (pace, scrapes) = (&pace, scrapes.clone());
                    scope.spawn(move || {
                        let result = push_share(nodes, order, scrapes, address, |scrape| {
                            pace.wait(number, scrape);
                        });
                        pace.leave(number);
                        result.with_context(|| format!("sender {number}"))
                    })
                })
                .collect();
            let (mut all, mut all_bytes) = (Vec::new(), 0);
            for thread in threads {
                let Ok(result) = thread.join() else {
                    bail!("a sender panicked");
                };
                let (latencies, bytes) = result?;
                all.extend(latencies);
                all_bytes += bytes;
            }
            Ok((all, all_bytes))
        })?;
        self.body_bytes += bytes;
        Ok(Pushed {
            wall: started.elapsed(),
            latencies,
        })
    }
}

/// Pushes the scrapes of some nodes over one connection, and calls `wait` before each. Returns the duration of each request
/// and the total size.
fn push_share(
    nodes: &mut [(Node, Sender)],
    order: Order,
    scrapes: Range<usize>,
    address: SocketAddr,
    wait: impl Fn(usize),
) -> Result<(Vec<Duration>, u64)> {
    let mut client = Client::connect(address)?;
    let mut latencies = Vec::with_capacity(scrapes.len() * nodes.len());
    let mut values = Vec::new();
    let mut bytes = 0;
    for scrape in scrapes {
        wait(scrape);
        for (node, sender) in &mut *nodes {
            let timestamp_ms = node.scrape(&mut values);
            if order == Order::Shuffled {
                sender.shuffle(timestamp_ms.unsigned_abs());
            }
            let body = sender.request(timestamp_ms, &values)?;
            bytes += body.len() as u64;
            let started = Instant::now();
            let answer = client.post("/api/v1/write", &HEADERS, body.into())?;
            latencies.push(started.elapsed());
            answer.good()?;
        }
    }
    Ok((latencies, bytes))
}

/// Keeps the senders close together in the corpus' time.
#[derive(Debug)]
struct Pace {
    at: Mutex<Vec<usize>>,
    moved: Condvar,
}

impl Pace {
    fn new(senders: usize) -> Self {
        Self {
            // A sender that has not started holds the others back, wherever in the corpus they start.
            at: Mutex::new(vec![0; senders]),
            moved: Condvar::new(),
        }
    }

    /// Records that `sender` starts `scrape`, and waits for senders that lag too far.
    fn wait(&self, sender: usize, scrape: usize) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at[sender] = scrape;
        self.moved.notify_all();
        let behind = |at: &mut Vec<usize>| {
            let slowest = at.iter().min().copied().unwrap_or(scrape);
            scrape > slowest.saturating_add(AHEAD_MAX)
        };
        // A poisoned lock means that another sender panicked, which ends the run.
        drop(self.moved.wait_while(at, behind));
    }

    /// Removes `sender`, so that the others continue without it.
    fn leave(&self, sender: usize) {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)[sender] = usize::MAX;
        self.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sender_waits_until_the_slowest_has_come_near() {
        let pace = Pace::new(2);
        thread::scope(|scope| {
            let ahead = scope.spawn(|| pace.wait(0, AHEAD_MAX + 1));
            assert!(!ahead.is_finished());
            pace.wait(1, 1);
            ahead.join().unwrap();
            let ahead = scope.spawn(|| pace.wait(0, 100));
            pace.leave(1);
            ahead.join().unwrap();
        });
    }

    #[test]
    fn latency_is_the_quantile_of_all_requests() {
        let latencies = (0..=100).rev().map(Duration::from_millis).collect();
        let pushed = Pushed {
            latencies,
            ..Pushed::default()
        };
        assert_eq!(pushed.latency(0.5), Duration::from_millis(50));
        assert_eq!(pushed.latency(0.99), Duration::from_millis(99));
        assert_eq!(Pushed::default().latency(0.5), Duration::ZERO);
    }
}
