//! The client against a small API server of our own, on loopback.
