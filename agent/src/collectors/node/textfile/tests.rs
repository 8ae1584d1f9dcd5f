use std::os::unix::fs::symlink;
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;
use crate::collectors::testing::Bench;

#[test]
fn files_are_added_changed_and_removed() {
    let mut bench = Bench::new();
    bench.write("root/t/a.prom", "# HELP raid_ok Disks.\n# TYPE raid_ok gauge\nraid_ok{disk=\"a\"} 1\nraid_ok{disk=\"b\"} 0\n");
    bench.write("root/t/ignored.txt", "x 1\n");
    let mut textfile = Textfile::new(bench.roots().root.join("t"));
    bench.collect(&mut textfile);
    assert_eq!(
        bench.value("raid_ok", &[("disk", "a"), ("job", "node-exporter")]),
        Some(1.0)
    );
    assert_eq!(bench.value("node_textfile_scrape_error", &[]), Some(0.0));
    assert!(bench.value("node_textfile_mtime_seconds", &[]).unwrap() > 1e9);
    bench.write("root/t/a.prom", "raid_ok{disk=\"a\"} 5\n");
    bench.collect(&mut textfile);
    assert_eq!(bench.value("raid_ok", &[]), Some(5.0));
    assert_eq!(bench.series_count(), 6);
}

#[test]
fn malformed_file_is_dropped_as_a_whole() {
    let mut bench = Bench::new();
    bench.write("root/t/bad.prom", "good 1\nbad{ 2\n");
    bench.write("root/t/old.prom", "timed 1 1700000000000\n");
    bench.write("root/t/ok.prom", "ok 1\n");
    let mut textfile = Textfile::new(bench.roots().root.join("t"));
    bench.collect(&mut textfile);
    assert_eq!(bench.value("node_textfile_scrape_error", &[]), Some(1.0));
    assert_eq!(
        (
            bench.value("ok", &[]),
            bench.value("good", &[]),
            bench.value("timed", &[])
        ),
        (Some(1.0), None, None)
    );
    let mut nowhere = Textfile::new("/nonexistent".into());
    assert_eq!(bench.collect(&mut nowhere), Outcome::NoData);
}

#[test]
fn too_many_files_and_series_are_counted() {
    let mut bench = Bench::new();
    for (file, text) in [("a", "a 1\nb 1\nc 1\n"), ("b", "d 1\n"), ("c", "e 1\n")] {
        bench.write(&format!("root/t/{file}.prom"), text);
    }
    let mut textfile = Textfile::new(bench.roots().root.join("t"));
    for (files, series, want) in [(2, 5, [1.0, 1.0]), (3, 8, [0.0, 0.0]), (1, 3, [2.0, 1.0])] {
        textfile.limits = Limits { files, series };
        textfile.series = SeriesCache::default();
        bench.collect(&mut textfile);
        let left_out = ["files", "series"].map(|what| {
            bench
                .value(&format!("agent_textfile_{what}_left_out"), &[])
                .unwrap()
        });
        assert_eq!(left_out, want, "{files} files, {series} series");
        let error = f64::from(u8::from(want != [0.0, 0.0]));
        assert_eq!(bench.value("node_textfile_scrape_error", &[]), Some(error));
    }
}

/// A bench with files that are old enough to count as unchanged.
fn settled(bench: &Bench, files: &[(&str, &str)]) -> PathBuf {
    let directory = bench.roots().root.join("t");
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for (name, text) in files {
        bench.write(&format!("root/t/{name}"), text);
        let file = fs::File::options().write(true).open(directory.join(name));
        file.unwrap().set_modified(long_ago).unwrap();
    }
    fs::File::open(&directory)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    directory
}

#[test]
fn irregular_files_do_not_block() {
    let mut bench = Bench::new();
    let directory = settled(&bench, &[("ok.prom", "ok 1\n")]);
    mkfifo(&directory.join("pipe.prom"), Mode::S_IRWXU).unwrap();
    symlink("pipe.prom", directory.join("link.prom")).unwrap();
    symlink("loop.prom", directory.join("loop.prom")).unwrap();
    symlink("/dev/zero", directory.join("zero.prom")).unwrap();
    fs::create_dir(directory.join("dir.prom")).unwrap();
    bench.write("root/t/huge.prom", &"x 1\n".repeat(2 << 20));
    fs::write(directory.join("bytes.prom"), b"x \xff\n").unwrap();
    symlink("ok.prom", directory.join("second.txt")).unwrap();
    let mut textfile = Textfile::new(directory);
    bench.collect(&mut textfile);
    assert_eq!(bench.value("ok", &[]), Some(1.0));
    assert_eq!(bench.value("node_textfile_scrape_error", &[]), Some(1.0));
    assert_eq!(textfile.unreadable.len(), 7, "{:?}", textfile.unreadable);
    let Bench {
        table,
        schema,
        errors,
        ..
    } = &mut bench;
    errors.store(table, schema);
    for (file, kind) in [
        ("pipe", "read"),
        ("link", "read"),
        ("loop", "read"),
        ("zero", "read"),
        ("dir", "read"),
        ("huge", "parse"),
        ("bytes", "parse"),
    ] {
        let file = format!("textfile/{file}.prom");
        let labels = [("file", &*file), ("kind", kind)];
        assert_eq!(
            bench.value("agent_collector_faults_total", &labels),
            Some(1.0),
            "{file}"
        );
    }
}

#[test]
fn unchanged_files_are_not_read_again() {
    let mut bench = Bench::new();
    let directory = settled(&bench, &[("a.prom", "a 1\n"), ("b.prom", "b{ 1\n")]);
    let mut textfile = Textfile::new(directory.clone());
    for _ in 0..3 {
        bench.collect(&mut textfile);
        assert_eq!((textfile.series.passes(), bench.errors().total()), (1, 1));
        assert_eq!(bench.value("a", &[]), Some(1.0));
        assert_eq!(bench.value("node_textfile_scrape_error", &[]), Some(1.0));
    }
    // As many bytes, written in place.
    bench.write("root/t/a.prom", "a 2\n");
    bench.collect(&mut textfile);
    assert_eq!(bench.value("a", &[]), Some(2.0));
    bench.write("root/t/c.prom", "c 3\n");
    fs::remove_file(directory.join("b.prom")).unwrap();
    bench.collect(&mut textfile);
    assert_eq!(bench.value("c", &[]), Some(3.0));
    assert_eq!(bench.value("node_textfile_scrape_error", &[]), Some(0.0));
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(bench.collect(&mut textfile), Outcome::NoData);
    assert_eq!((bench.value("a", &[]), bench.value("c", &[])), (None, None));
}

#[test]
fn first_of_equal_series_wins_and_the_others_are_counted() {
    let mut bench = Bench::new();
    let files = [
        ("a.prom", "x{k=\"1\"} 1\nx{k=\"1\"} 2\n"),
        ("b.prom", "x{k=\"1\"} 3\nx{k=\"2\"} 4\n"),
    ];
    let directory = settled(&bench, &files);
    let mut textfile = Textfile::new(directory.clone());
    for _ in 0..2 {
        bench.collect(&mut textfile);
        assert_eq!(bench.value("x", &[("k", "1")]), Some(1.0));
        assert_eq!(bench.value("x", &[("k", "2")]), Some(4.0));
        let left_out = bench.value("agent_textfile_duplicates_left_out", &[]);
        assert_eq!(left_out, Some(2.0));
        assert_eq!(bench.value("node_textfile_scrape_error", &[]), Some(1.0));
    }
    fs::remove_file(directory.join("a.prom")).unwrap();
    bench.collect(&mut textfile);
    assert_eq!(bench.value("x", &[("k", "1")]), Some(3.0));
    let left_out = bench.value("agent_textfile_duplicates_left_out", &[]);
    assert_eq!(left_out, Some(0.0));
}

#[test]
fn names_of_the_agents_own_metrics_are_refused() {
    let mut bench = Bench::new();
    let files = [
        ("a.prom", "node_load1 77\n"),
        ("b.prom", "node_own{a=\"b\"} 1\n"),
        ("c.prom", "node_textfile_scrape_error 7\n"),
    ];
    let directory = settled(&bench, &files);
    let load = gauge("node_load1", "1m load average.");
    let id = bench
        .schema
        .series(&mut bench.table, Target::Node, &load, &[]);
    let mut textfile = Textfile::new(directory);
    for _ in 0..2 {
        bench.collect(&mut textfile);
        bench.table.set(id, 0.5);
        assert_eq!(bench.value("node_load1", &[]), Some(0.5));
        assert_eq!(bench.value("node_own", &[]), Some(1.0));
        assert_eq!(bench.value("node_textfile_scrape_error", &[]), Some(1.0));
        assert_eq!(bench.errors().total(), 2);
    }
}

#[test]
fn file_with_a_name_that_not_every_scraper_reads_is_refused() {
    let mut bench = Bench::new();
    bench.write("root/t/utf8.prom", "good 1\nweather.temp 21\n");
    bench.write("root/t/digit.prom", "0v 1\n");
    bench.write("root/t/label.prom", "a{\"b.c\"=\"1\"} 1\n");
    bench.write("root/t/ok.prom", "job:ok 1\n");
    let mut textfile = Textfile::new(bench.roots().root.join("t"));
    bench.collect(&mut textfile);
    assert_eq!(bench.value("node_textfile_scrape_error", &[]), Some(1.0));
    assert_eq!(bench.value("job:ok", &[]), Some(1.0));
    for name in ["good", "weather.temp", "0v", "a"] {
        assert_eq!(bench.value(name, &[]), None, "{name}");
    }
}
