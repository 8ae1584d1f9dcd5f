//! Rule files, rule evaluation and alert state.
//!
//! **Invariant:** visible alert state is stored first. State shown by the API survives a crash of the process. State
//! sent in a notification also survives a crash of the machine.

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
