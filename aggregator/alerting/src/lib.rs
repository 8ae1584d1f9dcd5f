//! Rules, alert state and the notification pipeline.
