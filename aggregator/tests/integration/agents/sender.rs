//! The agent's side of the protocol, with series and values chosen by the test.

use common::model::Labels;
use common::wire::{Compressor, Frame, SchemaWriter, TickState};

use super::peer::{Known, Peer};
use crate::harness::now_ms;

/// One session of one agent.
pub(super) struct Sender {
    peer: Peer,
    state: TickState,
    compressor: Compressor,
    pub(super) sequence: u64,
    last_ms: i64,
    /// The last acknowledged sequence.
    acked: u64,
}

impl Sender {
    /// Connects and sends Hello. Ticks continue after `sequence`.
    pub(super) async fn connect(address: &str, known: &Known, node: &str, sequence: u64) -> Self {
        let mut peer = Peer::with_certificate(address, known).await.unwrap();
        peer.hello(node).await.unwrap();
        Self {
            peer,
            state: TickState::default(),
            compressor: Compressor::default(),
            sequence,
            last_ms: 0,
            acked: 0,
        }
    }

    /// Sends a schema that removes and adds series. `first` marks the first schema of a session.
    pub(super) async fn schema(
        &mut self,
        first: bool,
        removed: impl Iterator<Item = u32>,
        added: impl Iterator<Item = (u32, Labels)>,
    ) {
        let mut writer = SchemaWriter::default();
        let mut bytes = Vec::new();
        let mut reset = first;
        removed.for_each(|number| writer.removed(number));
        let mut added = added.peekable();
        while added.peek().is_some() || !writer.is_empty() {
            while !writer.is_full()
                && let Some((number, labels)) = added.next()
            {
                self.state.define(number);
                writer.added(number, &labels);
            }
            let mut payload = Vec::new();
            writer.finish(&mut self.compressor, &mut payload);
            let payload = &payload;
            Frame::Schema { reset, payload }.encode(&mut bytes).unwrap();
            reset = false;
        }
        if first {
            let mut payload = Vec::new();
            self.state.encode_base(&mut self.compressor, &mut payload);
            let payload = &payload;
            Frame::Base { payload }.encode(&mut bytes).unwrap();
        }
        self.peer.send_bytes(&bytes).await.unwrap();
    }

    /// Sends a tick with the current time, later than the last one.
    pub(super) async fn tick_now(&mut self, values: &[(u32, f64)]) {
        self.last_ms = now_ms().max(self.last_ms + 1);
        self.tick(self.last_ms, values).await;
    }

    /// Sends a tick with the next sequence.
    pub(super) async fn tick(&mut self, timestamp_ms: i64, values: &[(u32, f64)]) {
        self.sequence += 1;
        let mut payload = Vec::new();
        let values = values.iter().copied();
        self.state
            .encode(values, &mut self.compressor, &mut payload);
        let frame = Frame::Samples {
            sequence: self.sequence,
            timestamp_ms,
            payload: &payload,
        };
        self.peer.send(&frame).await.unwrap();
    }

    /// Waits until everything sent is acknowledged.
    pub(super) async fn acknowledged(&mut self) {
        while self.acked < self.sequence {
            let answer = self.peer.receive().await.unwrap();
            if let Frame::Ack { sequence } = Frame::decode(&answer).unwrap() {
                self.acked = sequence;
            }
        }
    }

    /// Returns how the aggregator closed the connection.
    pub(super) async fn closed(&self) -> String {
        self.peer.closed().await
    }
}
