//! Limits of one query: time, values held at once, samples read.

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

    /// Fails once the query must stop. Called at least once per series and per 100,000 samples.
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

    /// Accounts for values that are about to be held.
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

    /// Sets the number of values held, once an operation has finished and dropped its operands.
    pub(crate) fn set_held(&self, values: u64) {
        self.held.store(values, Ordering::Relaxed);
        self.peak.fetch_max(values, Ordering::Relaxed);
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Converts a read error to the one that the query returns.
    pub(crate) fn error(&self, error: ReadError) -> QueryError {
        const WHERE: &str = "in expression evaluation";
        let (kind, message) = match error {
            ReadError::Cancelled if self.timed_out.load(Ordering::Relaxed) => {
                (ErrorKind::Timeout, format!("query timed out {WHERE}"))
            }
            ReadError::Cancelled => (ErrorKind::Canceled, format!("query was canceled {WHERE}")),
            ReadError::TooManySamples { .. } => (
                ErrorKind::Execution,
                "query processing would load too many samples into memory in query execution"
                    .to_owned(),
            ),
            ReadError::TooManySeries { .. } => (ErrorKind::Execution, error.to_string()),
            // Like a timeout this becomes a 503: the same query may succeed later.
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
