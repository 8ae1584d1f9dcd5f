//! What one query may use: time, values held at once, samples read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tidemark_storage::read::{ReadControl, ReadError};

use crate::error::{ErrorKind, QueryError};

/// Limits of a query, shared by its threads.
#[derive(Debug)]
pub(crate) struct Budget<'c> {
    pub(crate) control: &'c ReadControl,
    deadline: Option<Instant>,
    timed_out: AtomicBool,
    held: AtomicU64,
    peak: AtomicU64,
    held_max: u64,
}

impl<'c> Budget<'c> {
    pub(crate) const fn new(
        control: &'c ReadControl,
        deadline: Option<Instant>,
        held_max: u64,
    ) -> Self {
        Self {
            control,
            deadline,
            timed_out: AtomicBool::new(false),
            held: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            held_max,
        }
    }

    /// Fails once the query is to stop. Called often: at least once per series and per 10,000 values.
    pub(crate) fn check(&self) -> Result<(), ReadError> {
        if self
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
        {
            self.timed_out.store(true, Ordering::Relaxed);
            return Err(ReadError::Cancelled);
        }
        self.control.check()
    }

    /// Accounts for values about to be held.
    pub(crate) fn hold(&self, values: usize) -> Result<(), ReadError> {
        let values = values as u64;
        let held = self.held.fetch_add(values, Ordering::Relaxed) + values;
        self.peak.fetch_max(held, Ordering::Relaxed);
        if held > self.held_max {
            return Err(ReadError::TooManySamples {
                limit: self.held_max,
            });
        }
        Ok(())
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Sets what is held, once it is known which values a finished operation kept.
    pub(crate) fn set_held(&self, values: u64) {
        self.held.store(values, Ordering::Relaxed);
        self.peak.fetch_max(values, Ordering::Relaxed);
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// The error that the caller of the query sees.
    pub(crate) fn error(&self, error: ReadError) -> QueryError {
        const PLACE: &str = "in expression evaluation";
        let (kind, message) = match error {
            ReadError::Cancelled if self.timed_out.load(Ordering::Relaxed) => {
                (ErrorKind::Timeout, format!("query timed out {PLACE}"))
            }
            ReadError::Cancelled => (ErrorKind::Canceled, format!("query was canceled {PLACE}")),
            ReadError::TooManySamples { .. } => (
                ErrorKind::Execution,
                "query processing would load too many samples into memory in query execution"
                    .to_owned(),
            ),
            ReadError::TooManySeries { .. } => (ErrorKind::Execution, error.to_string()),
            // Answered as a timeout is, with 503: the same query may go through later.
            ReadError::OverBudget => (ErrorKind::Timeout, error.to_string()),
            ReadError::Io(ref source) => (
                ErrorKind::Internal,
                format!("expanding series: {error}: {source}"),
            ),
        };
        QueryError {
            kind,
            message,
            span: None,
        }
    }
}
