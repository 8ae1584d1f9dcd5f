//! Rule files, their evaluation, and the state of alerts.
//!
//! **Invariant:** a state of an alert that anyone can see is stored: by the API, so that the process's death can't take
//! it back; by a notification, so that the machine's can't.

pub mod alert;
pub mod file;
pub mod group;
pub(crate) mod labels_serde;
pub mod manager;
mod output;
mod persist;
pub mod rule;
pub mod source;
mod written_series;
