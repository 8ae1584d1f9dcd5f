//! The binary `tidemarkctl`.

fn main() {}
