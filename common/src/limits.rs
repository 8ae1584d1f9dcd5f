//! Bounds on input from peers, users and files. Everything that grows with input is bounded here or by a configuration
//! option whose default is here.

/// Maximum number of labels of a series (VictoriaMetrics: 40).
pub const LABELS_PER_SERIES_MAX: usize = 64;
/// Maximum length of a label name, in bytes.
pub const LABEL_NAME_BYTES_MAX: usize = 512;
/// Maximum length of a label value, in bytes.
pub const LABEL_VALUE_BYTES_MAX: usize = 4096;
/// Maximum size of a frame of the wire protocol after decompression, in bytes.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// Maximum size of a remote-write body after decompression, in bytes (Prometheus: 32 MiB).
pub const REMOTE_WRITE_BYTES_MAX: usize = 32 << 20;
/// Maximum length of a query expression, in bytes.
pub const QUERY_BYTES_MAX: usize = 64 << 10;
/// Maximum nesting depth of a query expression.
pub const QUERY_DEPTH_MAX: usize = 256;
/// Maximum number of steps of a range query (Prometheus: 11,000 points per series).
pub const QUERY_STEPS_MAX: i64 = 11_000;
/// How far in the future a sample's timestamp may be, in milliseconds.
pub const FUTURE_MS_MAX: i64 = 10 * 60 * 1000;
