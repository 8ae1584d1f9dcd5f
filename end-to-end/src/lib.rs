//! Nothing but tests: what holds only when agent and aggregator work together.
