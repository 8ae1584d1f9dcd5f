//! Block devices on top of others (device mapper, software RAID).
//!
//! The kernel counts a container's I/O at such a device and again at the devices below, so a sum over devices counts
//! it twice: `sum by (pod) (rate(container_fs_writes_bytes_total[5m]) unless on (node, device)
//! container_fs_stacked_device)`.

use super::{FoundSeries, names};
use crate::collectors::node::Roots;

pub(super) fn search(roots: &Roots) -> Vec<FoundSeries> {
    let directory = roots.sys.join("block");
    let is_stacked = |name: &String| !names(&directory.join(name).join("slaves")).is_empty();
    let stacked = names(&directory).into_iter().filter(is_stacked);
    let series = stacked.map(|name| {
        // Device names as in `container_fs_*`, so that the two match.
        let device = format!("/dev/{name}");
        FoundSeries::gauge(
            "container_fs_stacked_device",
            "A block device that lies on others, whose I/O the kernel counts at those too.",
            &[("device", &device)],
        )
    });
    series.collect()
}
