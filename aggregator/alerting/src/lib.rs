//! Rules, alert state and the notification pipeline.

pub mod base64;
pub mod duration;
pub mod template;
