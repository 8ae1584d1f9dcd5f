//! Sensors, frequencies and special file systems: a made-up machine, read by the agent and by the real node_exporter.

use std::fs;
use std::path::Path;

use crate::node_exporter::{node_exporter, start_with};
use crate::support::{Agent, Scrape, eventually, name_of, scrape, skip};

/// Collectors and the prefixes of their series.
const COLLECTORS: [(&str, &[&str]); 11] = [
    ("cpufreq", &["node_cpu_frequency_", "node_cpu_scaling_"]),
    (
        "thermal_zone",
        &["node_thermal_zone_", "node_cooling_device_"],
    ),
    ("dmi", &["node_dmi_"]),
    ("hwmon", &["node_hwmon_"]),
    ("selinux", &["node_selinux_"]),
    ("xfs", &["node_xfs_"]),
    ("btrfs", &["node_btrfs_"]),
    ("zfs", &["node_zfs_"]),
    ("mdadm", &["node_md_"]),
    ("bonding", &["node_bonding_"]),
    ("kernel_hung", &["node_kernel_hung_"]),
];

/// Directories, and their files with contents.
const FILES: &[(&str, &[(&str, &str)])] = &[
    (
        "sys/devices/platform/coretemp.0/hwmon/hwmon0",
        &[
            ("name", "coretemp"),
            ("temp1_input", "55000"),
            ("temp1_label", "Package id 0"),
            ("temp1_crit", "100000"),
            ("temp1_crit_alarm", "0"),
            ("temp1_max", "84500"),
            ("temp2_input", "53000"),
            ("temp2_type", "4"),
        ],
    ),
    (
        "sys/devices/pci0000:00/0000:00:1f.0/nct6775.656/hwmon/hwmon1",
        &[
            ("name", "nct6779"),
            ("fan1_input", "1098"),
            ("fan1_min", "0"),
            ("fan1_alarm", "0"),
            ("fan1_beep", "0"),
            ("fan1_pulses", "2"),
            ("fan2_target", "700"),
            ("in0_input", "792"),
            ("in0_max", "1744"),
            ("in0_alarm", "1"),
            ("pwm1", "168"),
            ("pwm1_mode", "1"),
            ("beep_enable", "1"),
            ("intrusion0_alarm", "1"),
            ("update_interval", "1000"),
            ("cpu0_vid", "1200"),
            ("vrm", "90"),
            ("curr1_input", "1200"),
            ("curr1_average", "1100"),
            ("power1_average", "15000000"),
            ("power1_average_interval", "1000"),
            ("power1_average_interval_max", "2000"),
            ("power1_accuracy", "50000000"),
            ("power2_input", "7000000"),
            ("power2_cap", "8000000"),
            ("energy1_input", "123456789"),
            ("humidity1_input", "45000"),
            ("humidity1_label", "room"),
            ("freq1_input", "1500000000"),
            ("freq1_label", "sclk"),
            ("freq2_input", "1500000000"),
            ("temp1_input", "1000"),
            ("temp1_label", "a \"b\" é"),
            ("temp7_fault", "1"),
            ("temp7_offset", "bad"),
            ("temp8", "5"),
            ("temp8_input", "6000"),
            ("uevent", ""),
            ("in_x", "1"),
        ],
    ),
    (
        "sys/devices/virtual/hwmon/hwmon2",
        &[("name", "acpi-Tz@1"), ("temp1_input", "27800")],
    ),
    (
        "sys/devices/virtual/hwmon/hwmon3",
        &[("temp1_input", "27800")],
    ),
    (
        "sys/devices/virtual/thermal/thermal_zone0",
        &[
            ("type", "x86_pkg_temp"),
            ("temp", "49925"),
            ("policy", "step_wise"),
            ("mode", "enabled"),
            ("passive", "0"),
        ],
    ),
    (
        "sys/devices/virtual/thermal/thermal_zone1",
        &[
            ("type", "acpitz"),
            ("temp", "-44000"),
            ("policy", "step_wise"),
        ],
    ),
    (
        "sys/devices/virtual/thermal/cooling_device0",
        &[
            ("type", "Processor"),
            ("cur_state", "1"),
            ("max_state", "3"),
        ],
    ),
    (
        "sys/class/dmi/id",
        &[
            ("bios_date", "04/12/2021"),
            ("bios_release", "2.2"),
            ("bios_vendor", "Dell Inc."),
            ("bios_version", "2.2.4"),
            ("board_name", "07PXPY"),
            ("chassis_asset_tag", ""),
            ("chassis_vendor", "Dell Inc."),
            ("product_name", "PowerEdge R6515"),
            ("product_serial", "7N62AI2"),
            ("product_sku", "SKU=1"),
            ("product_uuid", "83340ca8"),
            ("sys_vendor", "Dell Inc."),
            ("modalias", "dmi:x"),
            ("chassis_type", "23"),
        ],
    ),
    ("sys/devices/system/cpu", &[("offline", "")]),
    ("proc/sys/kernel", &[("hung_task_detect_count", "7")]),
    (
        "proc",
        &[(
            "mdstat",
            "Personalities : [raid0] [raid1] [raid6] [raid5] [raid4] [linear]\n\
             md3 : active raid6 sda1[8] sdh1[7] sdg1[6] sdf1[5] sde1[11] sdd1[3] sdc1[10] sdb1[9] sdd1[10](S)\n\
             \x20     5853468288 blocks super 1.2 level 6, 64k chunk, algorithm 2 [8/8] [UUUUUUUU]\n\n\
             md127 : active raid1 sdi2[0] sdj2[1](F)\n      312319552 blocks [2/1] [U_]\n\
             \x20     bitmap: 2/3 pages [8KB], 65536KB chunk\n\n\
             md0 : active (auto-read-only) raid1 sdi1[0] sdj1[1]\n      248896 blocks [2/2] [UU]\n\n\
             md4 : inactive raid1 sda3[0](F) sdb3[1](S)\n      4883648 blocks [2/2] [UU]\n\n\
             md6 : active raid1 sdb2[2](F) sdc[1](S) sda2[0]\n      195310144 blocks [2/1] [U_]\n\
             \x20     [=>...................]  recovery =  8.5% (16775552/195310144) finish=17.0min speed=259783K/sec\n\n\
             md8 : active raid1 sdb1[1] sda1[0] sdc[2](S) sde[3](S)\n      195310144 blocks [2/2] [UU]\n\
             \x20     [=>...................]  resync =  8.5% (16775552/195310144) finish=17.0min speed=259783K/sec\n\n\
             md201 : active raid1 sda3[0] sdb3[1]\n      1993728 blocks super 1.2 [2/2] [UU]\n\
             \x20     [=>...................]  check =  5.7% (114176/1993728) finish=0.2min speed=114176K/sec\n\n\
             md7 : active raid6 sdb1[0] sde1[3] sdd1[2] sdc1[1](F)\n      7813735424 blocks super 1.2 level 6, 512k chunk, algorithm 2 [4/3] [U_UU]\n\
             \x20     bitmap: 0/30 pages [0KB], 65536KB chunk\n\n\
             md9 : active raid1 sdc2[2] sdd2[3] sdb2[1] sda2[0] sde[4](F) sdf[5](F) sdg[6](S)\n      523968 blocks super 1.2 [4/4] [UUUU]\n\
             \x20     resync=DELAYED\n\n\
             md10 : active raid0 sda1[0] sdb1[1]\n      314159265 blocks 64k chunks\n\n\
             md11 : active (auto-read-only) raid1 sdb2[0] sdc2[1] sdc3[2](F) hda[4](S) ssdc2[3](S)\n      4190208 blocks super 1.2 [2/2] [UU]\n\
             \x20     resync=PENDING\n\n\
             md12 : active raid0 sdc2[0] sdd2[1]\n      3886394368 blocks super 1.2 512k chunks\n\n\
             md126 : active raid0 sdb[1] sdc[0]\n      1855870976 blocks super external:/md127/0 128k chunks\n\n\
             md219 : inactive sdb[2](S) sdc[1](S) sda[0](S)\n      7932 blocks super external:imsm\n\n\
             md00 : active raid0 xvdb[0]\n      4186624 blocks super 1.2 256k chunks\n\n\
             md120 : active linear sda1[1] sdb1[0]\n      2095104 blocks super 1.2 0k rounding\n\n\
             md42 : active raid5 sda1[0] sdb1[1] sdc1[3]\n      2095104 blocks super 1.2 level 5, 64k chunk, algorithm 2 [3/3] [UUU]\n\
             \x20     [=====>...............]  reshape = 25.0% (523776/2095104) finish=0.5min speed=261888K/sec\n\n\
             unused devices: <none>\n",
        )],
    ),
    ("sys/class/net", &[("bonding_masters", "bond0 dmz int")]),
    ("sys/class/net/bond0/bonding", &[("slaves", "")]),
    ("sys/class/net/dmz/bonding", &[("slaves", "eth0 eth4")]),
    (
        "sys/class/net/dmz/lower_eth0/bonding_slave",
        &[("mii_status", "up")],
    ),
    (
        "sys/class/net/dmz/lower_eth4/bonding_slave",
        &[("mii_status", "up")],
    ),
    ("sys/class/net/int/bonding", &[("slaves", "eth5 eth1")]),
    (
        "sys/class/net/int/lower_eth1/bonding_slave",
        &[("mii_status", "down")],
    ),
    (
        "sys/class/net/int/lower_eth5/bonding_slave",
        &[("mii_status", "up")],
    ),
    (
        "sys/devices/system/cpu/cpu0/cpufreq",
        &[
            ("scaling_cur_freq", "1219917"),
            ("scaling_min_freq", "800000"),
            ("scaling_max_freq", "2400000"),
            ("scaling_governor", "powersave"),
            ("scaling_available_governors", "performance powersave"),
            ("scaling_driver", "intel_pstate"),
            ("scaling_setspeed", "<unsupported>"),
            ("related_cpus", "0"),
            ("cpuinfo_transition_latency", "0"),
            ("cpuinfo_cur_freq", "1600123"),
            ("cpuinfo_min_freq", "800000"),
            ("cpuinfo_max_freq", "3700000"),
        ],
    ),
    (
        "sys/devices/system/cpu/cpu1/cpufreq",
        &[
            ("scaling_cur_freq", "1219917"),
            ("scaling_min_freq", "800000"),
            ("scaling_max_freq", "2400000"),
            ("scaling_governor", "performance"),
            ("scaling_available_governors", "performance powersave"),
            ("scaling_driver", "intel_pstate"),
            ("scaling_setspeed", "<unsupported>"),
            ("related_cpus", "1"),
            ("cpuinfo_transition_latency", "0"),
            ("cpuinfo_min_freq", "800000"),
            ("cpuinfo_max_freq", "3700000"),
        ],
    ),
    (
        "sys/fs/xfs/sda1/stats",
        &[(
            "stats",
            "extent_alloc 1 2 3 4\nabt 5 6 7 8\nblk_map 9 10 11 12 13 14 15\nbmbt 16 17 18 19\ndir 20 21 22 23\ntrans 24 25 26\n\
             ig 27 28 29 30 31 32 33\nlog 34 35 36 37 38\npush_ail 39 40 41 42 43 44 45 46 47 48\nxstrat 49 50\nrw 51 52\n\
             attr 53 54 55 56\nicluster 57 58 59\nvnodes 60 61 62 63 64 65 66 67\nbuf 68 69 70 71 72 73 74 75 76\n\
             xpc 399724544 92823103 86219234\n",
        )],
    ),
    (
        "sys/fs/btrfs/0abb23a9-579b-43e6-ad30-227ef47fcb9d",
        &[
            ("label", "fixture"),
            ("metadata_uuid", "0abb23a9-579b-43e6-ad30-227ef47fcb9d"),
            ("nodesize", "16384"),
            ("sectorsize", "4096"),
            ("quota_override", "0"),
            ("clone_alignment", "4096"),
            (
                "commit_stats",
                "commits 10\nlast_commit_ms 1\nmax_commit_ms 21\ntotal_commit_ms 400\n",
            ),
        ],
    ),
    ("sys/fs/btrfs/features", &[("big", "1")]),
    (
        "sys/fs/btrfs/0abb23a9-579b-43e6-ad30-227ef47fcb9d/features",
        &[("big", "1")],
    ),
    (
        "sys/fs/btrfs/0abb23a9-579b-43e6-ad30-227ef47fcb9d/devices/sda",
        &[("size", "20971520")],
    ),
    (
        "sys/fs/btrfs/0abb23a9-579b-43e6-ad30-227ef47fcb9d/devices/sdb",
        &[("size", "20971520")],
    ),
    (
        "sys/fs/btrfs/0abb23a9-579b-43e6-ad30-227ef47fcb9d/devices/sdc",
        &[("size", "20971520")],
    ),
    (
        "sys/fs/btrfs/0abb23a9-579b-43e6-ad30-227ef47fcb9d/allocation",
        &[
            ("global_rsv_reserved", "16777216"),
            ("global_rsv_size", "16777217"),
        ],
    ),
    (
        "proc",
        &[(
            "stat",
            "cpu  1 1 1 1 1 1 1 1 1 1\ncpu0 1 1 1 1 1 1 1 1 1 1\nctxt 1\nbtime 1\nprocesses 1\n",
        )],
    ),
    (
        "proc/spl/kstat/zfs/pool1",
        &[
            (
                "objset-0x36",
                "23 1 0x01 7 2160 221578688875 6665999035587\nname  type data\ndataset_name  7  pool1/a b\nwrites  4  0\nnwritten  4  5\n",
            ),
            ("state", "ONLINE"),
            (
                "io",
                "12 3 0x00 1 80 79205351707403 395818011156865\nnread    nwritten reads    writes   wtime    wlentime wupdate  rtime    rlentime rupdate  wcnt     rcnt\n1884160  3206144  22       132      7155162  104112268 79210489694949 24168078 104112268 79210489849220 0        0\n",
            ),
        ],
    ),
];

/// Block group types of btrfs, and their profiles in the tree.
const GROUPS: [(&str, &str); 3] = [
    ("data", "raid5"),
    ("metadata", "raid1c3"),
    ("system", "dup"),
];
const KSTAT: [&str; 10] = [
    "abdstats",
    "arcstats",
    "dmu_tx",
    "dnodestats",
    "fm",
    "vdev_cache_stats",
    "vdev_mirror_stats",
    "xuio_stats",
    "zfetchstats",
    "zil",
];
const LINKS: [(&str, &str); 9] = [
    (
        "sys/devices/platform/coretemp.0/hwmon/hwmon0/device",
        "../..",
    ),
    (
        "sys/devices/pci0000:00/0000:00:1f.0/nct6775.656/hwmon/hwmon1/device",
        "../..",
    ),
    (
        "sys/class/hwmon/hwmon0",
        "../../devices/platform/coretemp.0/hwmon/hwmon0",
    ),
    (
        "sys/class/hwmon/hwmon1",
        "../../devices/pci0000:00/0000:00:1f.0/nct6775.656/hwmon/hwmon1",
    ),
    (
        "sys/class/hwmon/hwmon2",
        "../../devices/virtual/hwmon/hwmon2",
    ),
    (
        "sys/class/hwmon/hwmon3",
        "../../devices/virtual/hwmon/hwmon3",
    ),
    (
        "sys/class/thermal/thermal_zone0",
        "../../devices/virtual/thermal/thermal_zone0",
    ),
    (
        "sys/class/thermal/thermal_zone1",
        "../../devices/virtual/thermal/thermal_zone1",
    ),
    (
        "sys/class/thermal/cooling_device0",
        "../../devices/virtual/thermal/cooling_device0",
    ),
];

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{}\n", text.trim_end())).unwrap();
}

pub(crate) fn make_machine(root: &Path) {
    for (folder, files) in FILES {
        for (name, text) in *files {
            write(root, &format!("{folder}/{name}"), text);
        }
    }
    for (group, mode) in GROUPS {
        let folder =
            format!("sys/fs/btrfs/0abb23a9-579b-43e6-ad30-227ef47fcb9d/allocation/{group}");
        for name in [
            "bytes_may_use",
            "bytes_pinned",
            "bytes_readonly",
            "bytes_used",
            "disk_total",
            "disk_used",
            "flags",
            "total_bytes",
            "total_bytes_pinned",
        ] {
            write(root, &format!("{folder}/{name}"), "2147483648");
        }
        write(root, &format!("{folder}/bytes_reserved"), "7");
        write(root, &format!("{folder}/{mode}/total_bytes"), "2147483648");
        write(root, &format!("{folder}/{mode}/used_bytes"), "808189952");
    }
    for file in KSTAT {
        let text = "6 1 0x01 91 4368 5266997922 97951858082072\nname  type data\nhits_x-y  4  8772612\nneg  3 -5\nother  7 text\n";
        write(root, &format!("proc/spl/kstat/zfs/{file}"), text);
    }
    for (link, target) in LINKS {
        let link = root.join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, link).unwrap();
    }
}

fn of_hardware(scrape: &Scrape) -> Scrape {
    let prefixes: Vec<&str> = COLLECTORS
        .iter()
        .flat_map(|(_, prefixes)| *prefixes)
        .copied()
        .collect();
    let is_ours = |series: &str| {
        prefixes
            .iter()
            .any(|prefix| name_of(series).starts_with(prefix))
    };
    let ours = scrape.iter().filter(|(series, _)| is_ours(series));
    ours.map(|(series, value)| (series.clone(), *value))
        .collect()
}

#[test]
fn agent_and_node_exporter_agree_on_a_made_up_machine() {
    let Some(program) = node_exporter() else {
        return skip(
            "hardware of node_exporter",
            "the package can't be had (scripts/peers)",
        );
    };
    let dir = tempfile::tempdir().unwrap();
    make_machine(dir.path());
    let paths = ["proc", "sys"].map(|name| {
        let flag = if name == "proc" { "procfs" } else { "sysfs" };
        format!("--path.{flag}={}", dir.path().join(name).display())
    });
    let mut flags = vec!["--collector.disable-defaults".to_owned()];
    flags.extend(
        COLLECTORS
            .iter()
            .map(|(name, _)| format!("--collector.{name}")),
    );
    flags.extend(paths.clone());
    let (_peer, peer) = start_with(&program, &flags);
    let agent = Agent::start(dir.path(), &["--interval=10m", &paths[0], &paths[1]], None);
    let theirs = of_hardware(&scrape(&peer));
    assert!(
        theirs.len() > 130,
        "only {} series of node_exporter",
        theirs.len()
    );
    let ours = eventually("hardware", || {
        let ours = of_hardware(&agent.scrape());
        (!ours.is_empty()).then_some(ours)
    });
    let missing: Vec<_> = theirs
        .iter()
        .filter(|(series, _)| !ours.contains_key(*series))
        .collect();
    let extra: Vec<_> = ours
        .iter()
        .filter(|(series, _)| !theirs.contains_key(*series))
        .collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing {missing:#?}, too many {extra:#?}"
    );
    for (series, value) in &theirs {
        assert!(
            (ours[series] - value).abs() <= value.abs() * 1e-12,
            "{series}: {} for {value}",
            ours[series]
        );
    }
}
