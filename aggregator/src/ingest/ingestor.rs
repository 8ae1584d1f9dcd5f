//! Applies the frames of one session to the store. Does no network I/O.

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
use super::role::SenderPolicy;

/// Why a session can't continue.
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
    /// Returns whether the agent broke the protocol, as opposed to a failure of the store.
    pub(super) const fn is_protocol(&self) -> bool {
        !matches!(self, Self::Store(error) if !matches!(error, AppendError::UndefinedColumn { .. }))
    }
}

/// The result of some frames.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The last tick appended to the live lane: its sequence, and its position in the log.
    pub(super) appended: Option<(u64, LogPosition)>,
    /// The same for the backfill lane.
    pub(super) backfilled: Option<(u64, LogPosition)>,
    /// Requests for a certificate, in order.
    pub(super) renewals: Vec<Vec<u8>>,
    /// The agent sent Bye.
    pub(super) bye: bool,
}

/// Who sends the frames, and within which limits.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) store: Store,
    pub(super) stream_name: String,
    pub(super) identity: Identity,
    pub(super) policy: SenderPolicy,
    pub(super) limits: SeriesLimits,
    /// Holds the allowance of new series.
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
    /// Created when it is first used.
    backfill: Option<Box<Lane>>,
    /// Whether frames belong to the backfill lane.
    at_backfill: bool,
}

impl Ingestor {
    pub(super) fn new(source: Source, previous: Vec<AgentSeries>) -> Self {
        let source = Arc::new(source);
        Self {
            live: Lane::new(Arc::clone(&source), LaneKind::Live, previous),
            source,
            backfill: None,
            at_backfill: false,
        }
    }

    pub(super) fn durable_sequence(&self) -> Option<u64> {
        self.live.durable_sequence()
    }

    /// Returns the time of the live lane's last tick.
    pub(super) const fn last_tick_ms(&self) -> Option<i64> {
        self.live.last_tick_ms()
    }

    /// Returns the number of stored series of the live lane.
    pub(super) const fn series(&self) -> u64 {
        self.live.series()
    }

    /// Returns how many series are refused now.
    pub(super) fn refused(&self) -> u64 {
        self.live.refused()
    }

    /// Returns what ends if the agent does not return. A session without a tick returns what it took over.
    pub(super) fn into_series(self) -> Vec<AgentSeries> {
        self.live.into_series()
    }

    /// Applies every complete frame of `buffer`.
    ///
    /// # Errors
    /// The agent broke the protocol, or the store failed. The session ends.
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
            Box::new(Lane::new(source, LaneKind::Backfill, Vec::new()))
        })
    }
}

#[cfg(test)]
mod tests;
