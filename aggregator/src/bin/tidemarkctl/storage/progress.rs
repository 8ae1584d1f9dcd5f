//! Progress bars on a terminal; nothing elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `total` bytes.
pub(super) fn of_bytes(total: u64) -> ProgressBar {
    bar(
        total,
        "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}",
    )
}

/// A bar of `total` items.
pub(super) fn of_items(total: u64) -> ProgressBar {
    bar(total, "{bar:30} {pos}/{len} {eta} {msg}")
}

fn bar(total: u64, template: &str) -> ProgressBar {
    // indicatif draws nothing without a terminal.
    let bar = ProgressBar::new(total);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
