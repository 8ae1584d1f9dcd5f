//! Notifications: what Alertmanager does, with its configuration, in process.
//!
//! [`Notifier`](notifier::Notifier) is a state machine without I/O of its own but the state store: alerts and the
//! time go in, deliveries come out, their outcomes go in again. Whoever drives it does the network.

pub mod alert;
pub mod config;
mod default_templates;
pub mod inhibit;
pub mod interval;
pub mod log;
pub mod matcher;
pub mod message;
pub mod notifier;
pub mod receiver;
pub mod render;
pub mod route;
pub mod silence;
