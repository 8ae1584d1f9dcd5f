//! Bounds on what a peer, a user or a file may ask of us. Everything that grows with input has its bound here or in
//! a configuration that starts from these.

/// Labels a series may carry (VictoriaMetrics: 40).
pub const LABELS_PER_SERIES_MAX: usize = 64;
/// Bytes of a label name.
pub const LABEL_NAME_BYTES_MAX: usize = 512;
/// Bytes of a label value.
pub const LABEL_VALUE_BYTES_MAX: usize = 4096;
/// Bytes of one frame of the wire protocol, after decompression.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// Bytes of a remote-write body, after decompression (Prometheus: 32 MiB).
pub const REMOTE_WRITE_BYTES_MAX: usize = 32 << 20;
/// Bytes of a query expression.
pub const QUERY_BYTES_MAX: usize = 64 << 10;
/// Nesting depth of a query expression.
pub const QUERY_DEPTH_MAX: usize = 256;
/// Steps of a range query (Prometheus: 11,000 points per series).
pub const QUERY_STEPS_MAX: i64 = 11_000;
/// Milliseconds by which a sample may lie in the future before it is refused.
pub const FUTURE_MS_MAX: i64 = 10 * 60 * 1000;
