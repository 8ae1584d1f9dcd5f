//! Frequencies of CPUs, and their governors.

use super::{FoundSeries, Pick, Scale, names, read};
use crate::collectors::node::Roots;

/// File, family, help.
const FREQUENCIES: [(&str, &str, &str); 6] = [
    (
        "cpuinfo_cur_freq",
        "node_cpu_frequency_hertz",
        "Current CPU thread frequency in hertz.",
    ),
    (
        "cpuinfo_min_freq",
        "node_cpu_frequency_min_hertz",
        "Minimum CPU thread frequency in hertz.",
    ),
    (
        "cpuinfo_max_freq",
        "node_cpu_frequency_max_hertz",
        "Maximum CPU thread frequency in hertz.",
    ),
    (
        "scaling_cur_freq",
        "node_cpu_scaling_frequency_hertz",
        "Current scaled CPU thread frequency in hertz.",
    ),
    (
        "scaling_min_freq",
        "node_cpu_scaling_frequency_min_hertz",
        "Minimum scaled CPU thread frequency in hertz.",
    ),
    (
        "scaling_max_freq",
        "node_cpu_scaling_frequency_max_hertz",
        "Maximum scaled CPU thread frequency in hertz.",
    ),
];

pub(super) fn search(roots: &Roots) -> Vec<FoundSeries> {
    let directory = roots.sys.join("devices/system/cpu");
    let mut found = Vec::new();
    for name in names(&directory) {
        let Some(cpu) = name
            .strip_prefix("cpu")
            .filter(|cpu| cpu.parse::<u32>().is_ok())
        else {
            continue;
        };
        let directory = directory.join(&name).join("cpufreq");
        for (file, family, help) in FREQUENCIES {
            let path = directory.join(file);
            // Only root can read cpuinfo_cur_freq. Files that can't be read are skipped.
            if read(&path).is_some() {
                let series = FoundSeries::gauge(family, help, &[("cpu", cpu)]);
                found.push(series.number(path, Scale::Times(1000.0)));
            }
        }
        let governors = read(&directory.join("scaling_available_governors"));
        for governor in governors.iter().flat_map(|all| all.split_whitespace()) {
            let labels = [("cpu", cpu), ("governor", governor)];
            let series = FoundSeries::gauge(
                "node_cpu_scaling_governor",
                "Current enabled CPU frequency governor.",
                &labels,
            );
            let path = directory.join("scaling_governor");
            found.push(series.in_file(path, Pick::Is(governor.to_owned())));
        }
    }
    found
}
