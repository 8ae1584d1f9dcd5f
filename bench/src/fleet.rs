//! Pushes a corpus into our aggregator as agents do: each node has a connection, a certificate and a session of the wire
//! protocol, and waits until its ticks are durable.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use common::identity::authority::LEAF_LIFETIME;
use common::identity::tls::{ANY_AGGREGATOR, client_config};
use common::identity::{Authority, Identity, Role};
use common::limits::FRAME_BYTES_MAX;
use common::model::Labels;
use common::wire::{Compressor, Frame, FrameBuffer, SchemaWriter, TickState, VERSIONS};
use quinn::crypto::rustls::QuicClientConfig;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::corpus::{Label, Node, Shape};
use crate::push::Pushed;

/// Maximum number of unacknowledged ticks of an agent.
const WINDOW: usize = 4;
/// Time without an answer after which the aggregator counts as failed.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Name of a `--dev` aggregator.
const TRUST_DOMAIN: &str = "tidemark.local";
const IDC: &str = "default";

/// The connected agents of a cluster. A push continues where the last one ended.
#[derive(Debug)]
pub struct Fleet {
    runtime: Runtime,
    agents: Vec<Agent>,
    at: usize,
}

impl Fleet {
    /// Issues a certificate to each node with the aggregator's authority, connects the node, and sends its series.
    ///
    /// # Errors
    /// The authority in `data` can't be read, or the aggregator refuses a session.
    pub fn connect(shape: &Shape, address: SocketAddr, data: &Path) -> Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "benchmarks are not part of the product, and these certificates must be valid now"
        )]
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let now_ms = i64::try_from(now.as_millis())?;
        let authority = Authority::open_or_create(&data.join("pki"), TRUST_DOMAIN, now_ms)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let agents = runtime.block_on(async {
            let mut agents = Vec::new();
            for index in 0..shape.nodes {
                let node = Node::new(shape, index);
                let agent = Agent::connect(node, index, &authority, now_ms, address).await;
                agents.push(agent.with_context(|| format!("agent {index}"))?);
            }
            anyhow::Ok(agents)
        })?;
        Ok(Self {
            runtime,
            agents,
            at: 0,
        })
    }

    /// Pushes the remaining scrapes before number `end`, and waits until all are durable.
    ///
    /// # Errors
    /// A session ended.
    pub fn push(&mut self, end: usize) -> Result<Pushed> {
        let ticks = end.saturating_sub(self.at);
        self.at = end;
        let agents = std::mem::take(&mut self.agents);
        let started = Instant::now();
        let results = self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for agent in agents {
                tasks.spawn(agent.push(ticks));
            }
            tasks.join_all().await
        });
        let mut pushed = Pushed {
            wall: started.elapsed(),
            latencies: Vec::new(),
        };
        for result in results {
            let (agent, latencies) = result?;
            pushed.latencies.extend(latencies);
            self.agents.push(agent);
        }
        Ok(pushed)
    }

    /// Returns the size of all frames with values so far, without QUIC's overhead.
    #[must_use]
    pub fn sample_bytes(&self) -> u64 {
        self.agents.iter().map(|agent| agent.sample_bytes).sum()
    }
}

/// A node and its session.
#[derive(Debug)]
struct Agent {
    node: Node,
    state: TickState,
    compressor: Compressor,
    sequence: u64,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    buffer: FrameBuffer,
    unacked: VecDeque<(u64, Instant)>,
    sample_bytes: u64,
    /// Keep the session open.
    _open: (quinn::Endpoint, quinn::Connection),
}

impl Agent {
    async fn connect(
        node: Node,
        index: usize,
        authority: &Authority,
        now_ms: i64,
        address: SocketAddr,
    ) -> Result<Self> {
        let name = node_name(&node)?;
        let identity = Identity::new(TRUST_DOMAIN, IDC, Role::Node, &name)?;
        let credentials = authority.credentials(&identity, now_ms, LEAF_LIFETIME)?;
        let tls = client_config(&credentials, &[authority.root().clone()])?;
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        let connecting = endpoint.connect_with(config, address, ANY_AGGREGATOR)?;
        let connection = connecting.await.context("connect")?;
        let (send, receive) = connection.open_bi().await?;
        let mut agent = Self {
            node,
            state: TickState::default(),
            compressor: Compressor::default(),
            sequence: 0,
            send,
            receive,
            buffer: FrameBuffer::new(FRAME_BYTES_MAX),
            unacked: VecDeque::new(),
            sample_bytes: 0,
            _open: (endpoint, connection),
        };
        agent.hello(&name, index).await?;
        agent.schema().await?;
        Ok(agent)
    }

    async fn hello(&mut self, name: &str, index: usize) -> Result<()> {
        let mut instance = [0; 16];
        instance[..8].copy_from_slice(&(index as u64).to_le_bytes());
        let frame = Frame::Hello {
            versions: VERSIONS.to_vec(),
            node: name,
            instance,
            oldest_sequence: 1,
            interval_ms: 10_000,
            program: "tidemark-bench",
        };
        let mut bytes = Vec::new();
        frame.encode(&mut bytes)?;
        self.send.write_all(&bytes).await?;
        let message = self.message().await?;
        match Frame::decode(&message)? {
            Frame::Welcome { .. } => Ok(()),
            Frame::Refused { code, reason } => bail!("refused, {}: {reason}", code.as_str()),
            other => bail!("{} in place of Welcome", other.name()),
        }
    }

    async fn schema(&mut self) -> Result<()> {
        let mut writer = SchemaWriter::default();
        let (mut bytes, mut reset) = (Vec::new(), true);
        for (number, labels) in (0_u32..).zip(&self.node.series) {
            writer.added(number, &without_node(labels)?);
            self.state.define(number);
            if writer.is_full() || number as usize + 1 == self.node.series.len() {
                let mut payload = Vec::new();
                writer.finish(&mut self.compressor, &mut payload);
                let payload = &payload;
                Frame::Schema { reset, payload }.encode(&mut bytes)?;
                reset = false;
            }
        }
        let mut payload = Vec::new();
        self.state.encode_base(&mut self.compressor, &mut payload);
        Frame::Base { payload: &payload }.encode(&mut bytes)?;
        self.send.write_all(&bytes).await?;
        Ok(())
    }

    /// Sends `count` ticks and returns how long each took to become durable.
    async fn push(mut self, ticks: usize) -> Result<(Self, Vec<Duration>)> {
        let mut latencies = Vec::with_capacity(ticks);
        let (mut values, mut payload, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ticks {
            let timestamp_ms = self.node.scrape(&mut values);
            self.sequence += 1;
            payload.clear();
            let tick = (0_u32..).zip(values.iter().copied());
            self.state.encode(tick, &mut self.compressor, &mut payload);
            bytes.clear();
            let frame = Frame::Samples {
                sequence: self.sequence,
                timestamp_ms,
                payload: &payload,
            };
            frame.encode(&mut bytes)?;
            self.sample_bytes += bytes.len() as u64;
            self.unacked.push_back((self.sequence, Instant::now()));
            self.send.write_all(&bytes).await?;
            while self.unacked.len() >= WINDOW {
                self.acknowledged(&mut latencies).await?;
            }
        }
        while !self.unacked.is_empty() {
            self.acknowledged(&mut latencies).await?;
        }
        Ok((self, latencies))
    }

    async fn acknowledged(&mut self, latencies: &mut Vec<Duration>) -> Result<()> {
        let message = self.message().await?;
        let acked = match Frame::decode(&message)? {
            Frame::Ack { sequence } => sequence,
            Frame::Refused { code, reason } => bail!("refused, {}: {reason}", code.as_str()),
            _ => return Ok(()),
        };
        while let Some((_, since)) = self
            .unacked
            .pop_front_if(|(sequence, _)| *sequence <= acked)
        {
            latencies.push(since.elapsed());
        }
        Ok(())
    }

    /// Receives the next message of the aggregator.
    async fn message(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(message) = self.buffer.next_message()? {
                return Ok(message.to_vec());
            }
            let chunk = self.receive.read_chunk(FRAME_BYTES_MAX, true);
            let chunk = tokio::time::timeout(TIMEOUT, chunk).await??;
            let chunk = chunk.context("the aggregator ended the session")?;
            self.buffer.extend(&chunk.bytes);
        }
    }
}

fn node_name(node: &Node) -> Result<String> {
    let mut labels = node.series.iter().flatten();
    let found = labels.find(|(name, _)| *name == "node");
    Ok(found.context("a node without a name")?.1.clone())
}

/// Returns the labels as an agent sends them: without the node, which its certificate names.
fn without_node(labels: &[Label]) -> Result<Labels> {
    let labels = labels.iter().filter(|(name, _)| *name != "node");
    Ok(Labels::from_pairs(
        labels.map(|(name, value)| (*name, value.as_str())),
    )?)
}
