//! Sensors of /sys/class/hwmon: temperatures, voltages, fans, power.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::model::MetricType;

use super::{AS_IS, FoundSeries, Scale, names, number, read};
use crate::collectors::node::Roots;

/// Prefixes of a sensor's files (Documentation/hwmon/sysfs-interface.rst of the kernel).
const SENSORS: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];
const MILLI: Scale = Scale::Times(0.001);
const MICRO: Scale = Scale::Over(1_000_000.0);

/// A sensor's files by the suffix after its name, `""` for none.
type Elements = BTreeMap<String, PathBuf>;

pub(super) fn search(roots: &Roots) -> Vec<FoundSeries> {
    let class = roots.sys.join("class/hwmon");
    let mut found = Vec::new();
    for name in names(&class) {
        search_chip(&class.join(name), &mut found);
    }
    found
}

fn search_chip(directory: &Path, found: &mut Vec<FoundSeries>) {
    let Some(chip) = chip_of(directory) else {
        return;
    };
    if let Some(name) = read(&directory.join("name")).map(|name| clean(&name)) {
        let labels = [("chip", &*chip), ("chip_name", &*name)];
        let help = "Annotation metric for human-readable chip names";
        found.push(FoundSeries::gauge("node_hwmon_chip_names", help, &labels));
    }
    let mut sensors: BTreeMap<(String, &str), Elements> = BTreeMap::new();
    for directory in [directory.to_owned(), directory.join("device")] {
        for file in names(&directory) {
            if let Some((kind, number, element)) = split_name(&file) {
                let elements = sensors
                    .entry((format!("{kind}{number}"), kind))
                    .or_default();
                elements.insert(element.to_owned(), directory.join(&file));
            }
        }
    }
    for ((sensor, kind), elements) in &sensors {
        search_sensor((&chip, sensor), kind, elements, found);
    }
}

fn search_sensor(
    (chip, sensor): (&str, &str),
    kind: &str,
    elements: &Elements,
    found: &mut Vec<FoundSeries>,
) {
    let labels = [("chip", chip), ("sensor", sensor)];
    let label = elements.get("label").and_then(|path| read(path));
    if let Some(label) = &label {
        let labels = [labels[0], labels[1], ("label", label)];
        found.push(FoundSeries::gauge(
            "node_hwmon_sensor_label",
            "Label for given chip and sensor",
            &labels,
        ));
    }
    let alone = match kind {
        "beep_enable" => Some(("node_hwmon_beep_enabled", "Hardware beep enabled", AS_IS)),
        "vrm" => Some((
            "node_hwmon_voltage_regulator_version",
            "Hardware voltage regulator",
            AS_IS,
        )),
        "update_interval" => Some((
            "node_hwmon_update_interval_seconds",
            "Hardware monitor update interval",
            MILLI,
        )),
        _ => None,
    };
    if let Some((name, help, scale)) = alone {
        let path = elements.get("").cloned();
        found.extend(path.map(|path| FoundSeries::gauge(name, help, &labels).number(path, scale)));
        return;
    }
    for (element, path) in elements.iter().filter(|(element, _)| *element != "label") {
        // A file without a number now is of another kind.
        if read(path).as_deref().and_then(number).is_none() {
            continue;
        }
        if kind == "freq" && element == "input" {
            let Some(label) = &label else { continue };
            let label = clean(label);
            let labels = [("chip", chip), ("sensor", &*label)];
            let series = FoundSeries::gauge(
                "node_hwmon_freq_freq_mhz",
                "Hardware monitor for GPU frequency in MHz",
                &labels,
            );
            found.push(series.number(path.clone(), MICRO));
            continue;
        }
        let has_plain = elements.contains_key("");
        let (suffix, scale) = unit(kind, element);
        let mut name = format!("node_hwmon_{kind}");
        if !element.is_empty() && (element != "input" || has_plain) && element != "beep" {
            name.push('_');
            name.push_str(&clean(element));
        }
        name.push_str(suffix);
        let series =
            FoundSeries::gauge(name, "Hardware monitor value", &labels).number(path.clone(), scale);
        found.push(match kind {
            "energy" if suffix == "_joule_total" => series.of_type(MetricType::Counter),
            _ => series,
        });
    }
}

/// The unit for the end of a value's name, and the factor to get there.
fn unit(kind: &str, element: &str) -> (&'static str, Scale) {
    match (kind, element) {
        (_, "fault" | "alarm") => ("", AS_IS),
        (_, "beep") => ("_beep_enabled", AS_IS),
        ("in" | "cpu", _) => ("_volts", MILLI),
        ("temp", "type") => ("", AS_IS),
        ("temp", _) => ("_celsius", MILLI),
        ("curr", _) => ("_amps", MILLI),
        ("energy", _) => ("_joule_total", MICRO),
        ("power", "accuracy") | ("humidity", _) => ("", MICRO),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            ("_seconds", MILLI)
        }
        ("power", _) => ("_watt", MICRO),
        ("fan", "input" | "min" | "max" | "target") => ("_rpm", AS_IS),
        _ => ("", AS_IS),
    }
}

/// A chip is named after its bus and device, else by its own name, else by its index.
fn chip_of(directory: &Path) -> Option<String> {
    if let Ok(device) = directory.join("device").canonicalize() {
        let part = |path: &Path| Some(clean(path.file_name()?.to_str()?));
        let name = part(&device)?;
        let bus = device.parent().and_then(part).filter(|bus| !bus.is_empty());
        return Some(bus.map_or_else(|| name.clone(), |bus| format!("{bus}_{name}")));
    }
    if let Some(name) = read(&directory.join("name")) {
        return Some(clean(&name));
    }
    let place = directory.canonicalize().ok()?;
    Some(clean(place.file_name()?.to_str()?))
}

/// Lower case, with `_` for everything that a metric name may not contain.
fn clean(name: &str) -> String {
    let lower = name.to_lowercase();
    let replaced = lower.chars().map(|c| match c {
        'a'..='z' | '0'..='9' | ':' | '_' => c,
        _ => '_',
    });
    let replaced: String = replaced.collect();
    replaced.trim_matches('_').to_owned()
}

/// Splits `temp1_crit` into type `temp`, number 1 and element `crit`. A missing number is 0.
fn split_name(file: &str) -> Option<(&'static str, &str, &str)> {
    let digits = file.find(|c: char| c.is_ascii_digit());
    let (word, rest) = match digits {
        Some(at) => file.split_at_checked(at)?,
        None => {
            let kind = SENSORS.into_iter().find(|kind| *kind == file)?;
            return Some((kind, "0", ""));
        }
    };
    let kind = SENSORS.into_iter().find(|kind| *kind == word)?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (number, element) = rest.split_at_checked(end)?;
    match element {
        "" => Some((kind, number, "")),
        _ => Some((kind, number, element.strip_prefix('_')?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_split_into_sensor_number_and_element() {
        assert_eq!(
            split_name("temp1_crit_alarm"),
            Some(("temp", "1", "crit_alarm"))
        );
        assert_eq!(split_name("pwm1"), Some(("pwm", "1", "")));
        assert_eq!(split_name("beep_enable"), Some(("beep_enable", "0", "")));
        for other in ["name", "temp1x", "temp", "", "uevent", "0", "é1"] {
            assert!(
                split_name(other).is_none_or(|(kind, ..)| kind == other),
                "{other}"
            );
        }
    }
}
