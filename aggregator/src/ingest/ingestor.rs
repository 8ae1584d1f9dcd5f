//! What the frames of one session do to the store. No network here.

mod lane;
mod unstored;

use std::sync::Arc;

use common::clock::Clock;
use common::identity::Identity;
use common::wire::{Frame, FrameBuffer, WireError};
use tidemark_storage::{AppendError, LogPosition, Store};

use self::lane::{Lane, LaneKind};
pub(super) use self::unstored::PendingSeriesBudget;
use super::agent_series::AgentSeries;
use super::agents::Agent;
use super::metrics::IngestMetrics;
use super::new_series::SeriesLimits;

/// Why a session can't go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum IngestorError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("{0} at this point of the session")]
    Unexpected(&'static str),
    #[error("sequence {sequence} after {last}")]
    Sequence { sequence: u64, last: u64 },
    #[error("store")]
    Store(#[from] AppendError),
}

impl IngestorError {
    /// Whether the agent is to blame, as opposed to the store.
    pub(super) const fn is_protocol(&self) -> bool {
        !matches!(self, Self::Store(error) if !matches!(error, AppendError::UndefinedColumn { .. }))
    }
}

/// What became of some frames.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The last tick appended: its sequence and where it is in the log.
    pub(super) appended: Option<(u64, LogPosition)>,
    /// The same of the backfill lane.
    pub(super) backfilled: Option<(u64, LogPosition)>,
    /// Requests for a certificate, in order.
    pub(super) renewals: Vec<Vec<u8>>,
    /// The agent has said goodbye.
    pub(super) bye: bool,
}

/// Whose frames they are, and what they may do.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) store: Store,
    pub(super) stream_name: String,
    pub(super) identity: Identity,
    pub(super) limits: SeriesLimits,
    /// Its agent, which has what it may bring of new series.
    pub(super) agent: Arc<Agent>,
    pub(super) waiting: Arc<PendingSeriesBudget>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<IngestMetrics>,
}

/// The state of one session.
#[derive(Debug)]
pub(super) struct Ingestor {
    source: Arc<Source>,
    live: Lane,
    /// Made when it is first used.
    backfill: Option<Box<Lane>>,
    at_backfill: bool,
}

impl Ingestor {
    pub(super) fn new(source: Source, before: Option<AgentSeries>) -> Self {
        let source = Arc::new(source);
        Self {
            live: Lane::new(Arc::clone(&source), LaneKind::Live, before),
            source,
            backfill: None,
            at_backfill: false,
        }
    }

    pub(super) fn durable_sequence(&self) -> Option<u64> {
        self.live.durable_sequence()
    }

    /// Time of the last tick that was not passed over.
    pub(super) const fn last_tick_ms(&self) -> Option<i64> {
        self.live.last_tick_ms()
    }

    /// Series of the last such tick.
    pub(super) const fn series(&self) -> u64 {
        self.live.series()
    }

    /// Series that are refused now.
    pub(super) fn refused(&self) -> u64 {
        self.live.refused()
    }

    /// What is to end if the agent does not come back. A session that never got to a tick leaves what it took over.
    pub(super) fn into_series(self) -> Option<AgentSeries> {
        self.live.into_series()
    }

    /// Takes every whole frame out of `buffer`.
    ///
    /// # Errors
    /// The agent breaks the protocol, or the store can't take more. The session ends.
    pub(super) fn apply_frames(
        &mut self,
        buffer: &mut FrameBuffer,
    ) -> Result<Outcome, IngestorError> {
        let mut outcome = Outcome::default();
        while let Some(message) = buffer.next_message()? {
            self.source.metrics.bytes.add(message.len() as u64 + 4);
            match Frame::decode(message)? {
                Frame::Lane { backfill } => self.at_backfill = backfill,
                Frame::Schema { reset, payload } => self.lane().handle_schema(reset, payload)?,
                Frame::Base { payload } => self.lane().handle_base(payload)?,
                Frame::Samples {
                    sequence,
                    timestamp_ms,
                    payload,
                } => {
                    let position = self.lane().handle_tick(sequence, timestamp_ms, payload)?;
                    let appended = match self.at_backfill {
                        false => &mut outcome.appended,
                        true => &mut outcome.backfilled,
                    };
                    *appended = Some((sequence, position));
                }
                Frame::Renew { request } => outcome.renewals.push(request.to_vec()),
                Frame::Bye => outcome.bye = true,
                other => return Err(IngestorError::Unexpected(other.name())),
            }
        }
        Ok(outcome)
    }

    fn lane(&mut self) -> &mut Lane {
        if !self.at_backfill {
            return &mut self.live;
        }
        self.backfill.get_or_insert_with(|| {
            let source = Arc::clone(&self.source);
            Box::new(Lane::new(source, LaneKind::Backfill, None))
        })
    }
}

#[cfg(test)]
mod tests;
