//! Rules, alert state and the notification pipeline.

pub mod external;
pub mod glob;
mod hash;
pub mod notify;
pub mod relabel;
pub mod rules;
pub mod store;
pub mod template;
pub mod yaml;
