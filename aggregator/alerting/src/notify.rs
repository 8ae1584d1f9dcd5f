//! Notifications: an in-process Alertmanager that reads Alertmanager's configuration.
//!
//! [`Notifier`](notifier::Notifier) is a state machine whose only I/O is the state store. The caller passes alerts and
//! the time, sends the returned deliveries, and reports their outcomes.

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
