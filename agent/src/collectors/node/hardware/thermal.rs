//! Thermal zones and cooling devices.

use super::{AS_IS, FoundSeries, Scale, names, read};
use crate::collectors::node::Roots;

pub(super) fn search(roots: &Roots) -> Vec<FoundSeries> {
    let directory = roots.sys.join("class/thermal");
    let mut found = Vec::new();
    for name in names(&directory) {
        let device = directory.join(&name);
        let Some(kind) = read(&device.join("type")) else {
            continue;
        };
        if let Some(zone) = name.strip_prefix("thermal_zone") {
            let labels = [("zone", zone), ("type", &*kind)];
            let series = FoundSeries::gauge(
                "node_thermal_zone_temp",
                "Zone temperature in Celsius",
                &labels,
            );
            found.push(series.number(device.join("temp"), Scale::Over(1000.0)));
        } else if let Some(number) = name.strip_prefix("cooling_device") {
            let labels = [("name", number), ("type", &*kind)];
            for (file, family, help) in [
                (
                    "cur_state",
                    "node_cooling_device_cur_state",
                    "Current throttle state of the cooling device",
                ),
                (
                    "max_state",
                    "node_cooling_device_max_state",
                    "Maximum throttle state of the cooling device",
                ),
            ] {
                found.push(
                    FoundSeries::gauge(family, help, &labels).number(device.join(file), AS_IS),
                );
            }
        }
    }
    found
}
