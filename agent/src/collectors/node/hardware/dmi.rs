//! The machine as its firmware describes it.

use super::{FoundSeries, read};
use crate::collectors::node::Roots;

/// Files, named like their labels except `sys_vendor`. Only root can read serial numbers.
const FIELDS: [&str; 20] = [
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_asset_tag",
    "board_name",
    "board_serial",
    "board_vendor",
    "board_version",
    "chassis_asset_tag",
    "chassis_serial",
    "chassis_vendor",
    "chassis_version",
    "product_family",
    "product_name",
    "product_serial",
    "product_sku",
    "product_uuid",
    "product_version",
    "system_vendor",
];

pub(super) fn search(roots: &Roots) -> Vec<FoundSeries> {
    let directory = roots.sys.join("class/dmi/id");
    let mut labels = Vec::new();
    for label in FIELDS {
        let file = if label == "system_vendor" {
            "sys_vendor"
        } else {
            label
        };
        labels.extend(read(&directory.join(file)).map(|value| (label, value)));
    }
    if labels.is_empty() {
        return Vec::new();
    }
    let help =
        "A metric with a constant '1' value labeled by the firmware's fields, if provided by DMI.";
    let mut series = FoundSeries::gauge("node_dmi_info", help, &[]);
    series.labels = labels;
    vec![series]
}
