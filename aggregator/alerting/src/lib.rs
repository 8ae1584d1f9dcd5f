//! Rule evaluation, alert state and the notification pipeline.

pub mod annotations;
pub mod external;
mod hash;
pub mod notify;
pub mod rules;
pub mod store;
pub mod template;
