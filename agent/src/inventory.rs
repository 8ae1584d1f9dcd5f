//! What this machine is made of, for `tidemark-agent --inventory`.
//!
//! The crate `sysinfo` reads CPU, memory, operating system, disks and sensors; `procfs` adds the topology from
//! /proc/cpuinfo. Both always read the /proc and /sys of their own process. In a container without the host's mounts
//! the disks are therefore those of the container; all other values are the machine's.

use std::collections::BTreeSet;
use std::fmt;

use clap::ValueEnum;
use procfs::{CpuInfo, Current as _};
use serde::Serialize;
use sysinfo::{Components, CpuRefreshKind, Disks, MemoryRefreshKind, Product, RefreshKind, System};

/// How the inventory is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InventoryFormat {
    /// Aligned text for people.
    Text,
    /// One JSON object.
    Json,
}

/// Why the inventory could not be read or printed.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// CPU and memory.
    #[error("read CPU and memory")]
    System(#[source] sysinfo::Error),
    /// The list of mounts.
    #[error("list disks")]
    Disks(#[source] sysinfo::Error),
    /// The list of sensors.
    #[error("list sensors")]
    Sensors(#[source] sysinfo::Error),
    /// Encoding as JSON.
    #[error("encode inventory")]
    Encode(#[source] serde_json::Error),
}

/// The machine and its operating system. A value that the machine does not report is `None`.
#[derive(Debug, Serialize)]
pub struct Inventory {
    host: Option<String>,
    os: Option<String>,
    kernel: Option<String>,
    machine: Option<String>,
    cpu: CpuModel,
    memory_bytes: u64,
    swap_bytes: u64,
    disks: Vec<DiskModel>,
    sensors: Vec<Sensor>,
}

#[derive(Debug, Serialize)]
struct CpuModel {
    model: Option<String>,
    architecture: String,
    sockets: Option<usize>,
    cores: Option<usize>,
    threads: usize,
}

#[derive(Debug, Serialize)]
struct DiskModel {
    device: String,
    kind: String,
    file_system: String,
    mountpoint: String,
    size_bytes: u64,
    available_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Sensor {
    label: String,
    celsius: Option<f32>,
    critical_celsius: Option<f32>,
}

impl Inventory {
    /// Reads the inventory of this machine. Takes some milliseconds; a hung FUSE mount blocks it.
    ///
    /// # Errors
    /// This platform does not list CPUs, disks or sensors.
    pub fn read() -> Result<Self, InventoryError> {
        let wanted = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::everything());
        let system = System::new_with_specifics(wanted).map_err(InventoryError::System)?;
        let vendor_and_name = [Product::vendor_name(), Product::name()];
        let machine: Vec<String> = vendor_and_name.into_iter().filter_map(reported).collect();
        Ok(Self {
            host: reported(System::host_name()),
            os: reported(System::long_os_version()),
            kernel: reported(System::kernel_version()),
            machine: Some(machine.join(" ")).filter(|text| !text.is_empty()),
            cpu: CpuModel::read(&system),
            memory_bytes: system.total_memory(),
            swap_bytes: system.total_swap(),
            disks: disks()?,
            sensors: sensors()?,
        })
    }

    /// The inventory in `format`, with a final line feed.
    ///
    /// # Errors
    /// The JSON encoder failed.
    pub fn render(&self, format: InventoryFormat) -> Result<String, InventoryError> {
        match format {
            InventoryFormat::Text => Ok(self.to_string()),
            InventoryFormat::Json => serde_json::to_string_pretty(self)
                .map(|text| text + "\n")
                .map_err(InventoryError::Encode),
        }
    }
}

/// A text that the machine reports. Firmware leaves fields empty or unreadable; neither is worth more than a debug line.
fn reported(text: Result<String, sysinfo::Error>) -> Option<String> {
    let text = text
        .inspect_err(|error| tracing::debug!(error = common::report::chain(error), "not reported"));
    text.ok()
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}

impl CpuModel {
    fn read(system: &System) -> Self {
        let brand = system
            .cpus()
            .first()
            .map(|cpu| cpu.brand().trim().to_owned());
        let topology = CpuInfo::current()
            .inspect_err(|error| {
                tracing::debug!(error = common::report::chain(error), "no topology");
            })
            .ok();
        Self {
            model: brand.filter(|text| !text.is_empty()),
            architecture: System::cpu_arch(),
            sockets: topology.as_ref().and_then(sockets),
            cores: System::physical_core_count()
                .inspect_err(|error| {
                    tracing::debug!(
                        error = common::report::chain(error),
                        "no count of physical cores"
                    );
                })
                .ok(),
            threads: system.cpus().len(),
        }
    }
}

/// Distinct `physical id`s. `None` where the architecture has no such line.
fn sockets(cpus: &CpuInfo) -> Option<usize> {
    let ids: BTreeSet<u32> = (0..cpus.num_cores())
        .filter_map(|cpu| cpus.physical_id(cpu))
        .collect();
    Some(ids.len()).filter(|&count| count > 0)
}

fn disks() -> Result<Vec<DiskModel>, InventoryError> {
    let disks = Disks::new_with_refreshed_list().map_err(InventoryError::Disks)?;
    let mut models: Vec<DiskModel> = disks
        .iter()
        .map(|disk| DiskModel {
            device: disk.name().to_string_lossy().into_owned(),
            kind: disk.kind().to_string(),
            file_system: disk.file_system().to_string_lossy().into_owned(),
            mountpoint: disk.mount_point().display().to_string(),
            size_bytes: disk.total_space(),
            available_bytes: disk.available_space(),
        })
        .collect();
    models.sort_by(|a, b| a.mountpoint.cmp(&b.mountpoint));
    Ok(models)
}

fn sensors() -> Result<Vec<Sensor>, InventoryError> {
    let components = Components::new_with_refreshed_list().map_err(InventoryError::Sensors)?;
    let mut sensors: Vec<Sensor> = components
        .iter()
        .map(|component| Sensor {
            label: component.label().to_owned(),
            celsius: component
                .temperature()
                .filter(|celsius| celsius.is_finite()),
            critical_celsius: component.critical(),
        })
        .collect();
    sensors.sort_by(|a, b| a.label.cmp(&b.label));
    Ok(sensors)
}

const UNKNOWN: &str = "unknown";

impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| UNKNOWN.to_owned());
        let count =
            |value: Option<usize>| value.map_or_else(|| UNKNOWN.to_owned(), |n| n.to_string());
        let cpu = &self.cpu;
        for (name, value) in [
            ("host", text(&self.host)),
            ("os", text(&self.os)),
            ("kernel", text(&self.kernel)),
            ("machine", text(&self.machine)),
            ("cpu", text(&cpu.model)),
            ("architecture", cpu.architecture.clone()),
            ("sockets", count(cpu.sockets)),
            ("cores", count(cpu.cores)),
            ("threads", cpu.threads.to_string()),
            ("memory", gibibytes(self.memory_bytes)),
            ("swap", gibibytes(self.swap_bytes)),
        ] {
            writeln!(f, "{name:<14}{value}")?;
        }
        let disks = self.disks.iter().map(|disk| {
            [
                disk.mountpoint.clone(),
                disk.device.clone(),
                disk.kind.clone(),
                disk.file_system.clone(),
                gibibytes(disk.size_bytes),
                gibibytes(disk.available_bytes),
            ]
        });
        table(
            f,
            ["MOUNTPOINT", "DEVICE", "KIND", "TYPE", "SIZE", "AVAILABLE"],
            disks.collect(),
        )?;
        let celsius =
            |value: Option<f32>| value.map_or_else(|| "-".to_owned(), |n| format!("{n:.1} °C"));
        let sensors = self.sensors.iter().map(|sensor| {
            [
                sensor.label.clone(),
                celsius(sensor.celsius),
                celsius(sensor.critical_celsius),
            ]
        });
        table(f, ["SENSOR", "TEMPERATURE", "CRITICAL"], sensors.collect())
    }
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Writes an empty line, the header and the rows; nothing without rows.
fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    header: [&str; N],
    rows: Vec<[String; N]>,
) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    let rows: Vec<[String; N]> = [header.map(str::to_owned)]
        .into_iter()
        .chain(rows)
        .collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    });
    writeln!(f)?;
    for row in &rows {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inventory_of_this_machine_agrees_with_proc() {
        let inventory = Inventory::read().unwrap();
        assert_eq!(
            inventory.cpu.threads,
            CpuInfo::current().unwrap().num_cores()
        );
        let total = procfs::Meminfo::current().unwrap().mem_total;
        assert_eq!(inventory.memory_bytes, total);
        let release = nix::sys::utsname::uname().unwrap();
        assert_eq!(inventory.kernel.as_deref(), release.release().to_str());
    }

    #[test]
    fn both_formats_name_every_disk() {
        let mut inventory = Inventory::read().unwrap();
        inventory.disks = vec![DiskModel {
            device: "/dev/vda".to_owned(),
            kind: "SSD".to_owned(),
            file_system: "ext4".to_owned(),
            mountpoint: "/data".to_owned(),
            size_bytes: 3 << 30,
            available_bytes: 1 << 30,
        }];
        let text = inventory.render(InventoryFormat::Text).unwrap();
        assert!(
            text.contains("MOUNTPOINT  DEVICE    KIND  TYPE  SIZE     AVAILABLE\n"),
            "{text}"
        );
        assert!(
            text.contains("/data       /dev/vda  SSD   ext4  3.0 GiB  1.0 GiB\n"),
            "{text}"
        );
        let json = inventory.render(InventoryFormat::Json).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["disks"][0]["mountpoint"], "/data");
    }
}
