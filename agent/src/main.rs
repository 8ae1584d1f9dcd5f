//! The binary `tidemark-agent`.

fn main() {}
