//! Rules, alert state and the notification pipeline.

pub mod base64;
pub mod duration;
mod hash;
pub mod rules;
pub mod store;
pub mod template;
pub mod yaml;
