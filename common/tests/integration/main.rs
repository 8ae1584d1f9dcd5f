//! Tests that see the whole workspace from outside.
#![expect(clippy::print_stderr, reason = "a skipped test says so")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod dependencies;
mod documents;
mod error_reports;
mod licences;
mod metrics_page;
mod prose;
mod tidy;
mod workspace;
