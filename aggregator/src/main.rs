//! The binary `tidemark-aggregator`.

fn main() {}
