//! A bar on a terminal; nothing elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `total` bytes.
pub(super) fn of_bytes(total: u64) -> ProgressBar {
    bar(
        total,
        "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}",
    )
}

/// A bar of `total` things.
pub(super) fn of_things(total: u64) -> ProgressBar {
    bar(total, "{bar:30} {pos}/{len} {eta} {msg}")
}

fn bar(total: u64, template: &str) -> ProgressBar {
    // Without a terminal indicatif draws nothing.
    let bar = ProgressBar::new(total);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
