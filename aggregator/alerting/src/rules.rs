//! Rule files, their evaluation, and the state of alerts.
//!
//! **Invariant:** a state of an alert that anyone can see, by the API or by a notification, is stored already.

pub mod alert;
pub mod file;
pub mod group;
pub(crate) mod labels_serde;
pub mod manager;
mod persist;
pub mod rule;
pub mod source;
