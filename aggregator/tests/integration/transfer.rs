//! Export, import, verification and restore with `tidemarkctl` and the real peers.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::model::STALE_NAN;

use crate::ctl::run;
use crate::harness::{Aggregator, eventually, now_ms};
use crate::http::{self, encode};
use crate::peers::peer;
use crate::process::{Process, free_port};
use crate::remote::{series, write, write_to};

/// Age of the first sample: before the current day, which VictoriaMetrics treats differently.
const AGE_MS: i64 = 30 * 3_600_000;

/// Writes series with all kinds of values; returns the number of samples.
fn fill(aggregator: &Aggregator, names: usize, samples: usize) -> usize {
    let now = now_ms() / 1000 * 1000;
    for name in 0..names {
        let list: Vec<_> = (0..samples)
            .map(|n| {
                let value = match n % 7 {
                    0 => 0.1 + n as f64,
                    1 => f64::INFINITY,
                    2 => -1.0 / 3.0,
                    _ => (n * name) as f64,
                };
                (now - AGE_MS + n as i64 * 1000, value)
            })
            .collect();
        let name = format!("moved_{name:04}");
        let labels = [
            ("__name__", name.as_str()),
            ("job", "a \"b\""),
            ("idc", "x"),
        ];
        assert_eq!(write(aggregator, vec![series(&labels, &list)]).status, 204);
    }
    names * samples
}

type Content = BTreeMap<(String, i64), u64>;

/// Every exported sample of the series that match.
fn content(aggregator: &Aggregator, matcher: &str) -> Content {
    let path = format!("/api/v1/export?match[]={}", encode(matcher));
    let answer = aggregator.get(&path);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut content = Content::new();
    for line in answer.text().lines() {
        let samples_of_line = aggregator::transfer::json_line::parse(line).unwrap();
        for sample in samples_of_line.samples {
            let key = (samples_of_line.labels.to_string(), sample.timestamp_ms);
            let before = content.insert(key, sample.value.to_bits());
            assert_eq!(before, None, "duplicate sample");
        }
    }
    content
}

const MOVED: &str = "{__name__=~\"moved_.*\"}";

fn export(url: &str, file: &Path, more: &[&str]) -> (Option<i32>, String) {
    let file = file.to_str().unwrap();
    let args = ["--url", url, "storage", "export", file, "--match", MOVED];
    let (code, _, errors) = run(&[&args[..], more].concat());
    (code, errors)
}

fn import(url: &str, file: &Path) -> (Option<i32>, String) {
    let args = ["--url", url, "storage", "import", file.to_str().unwrap()];
    let (code, _, errors) = run(&args);
    (code, errors)
}

#[test]
fn json_lines_carry_every_sample_to_another_store() {
    let (from, to) = (Aggregator::start(), Aggregator::start());
    let samples = fill(&from, 20, 100);
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let now = now_ms();
    let ended = series(
        &[("__name__", "moved_stale")],
        &[(now - 5, 1.0), (now, stale)],
    );
    assert_eq!(write(&from, vec![ended]).status, 204);
    let file = from.dir.path().join("out.jsonl");
    assert_eq!(export(&from.url(), &file, &[]), (Some(0), String::new()));
    assert_eq!(import(&to.url(), &file), (Some(0), String::new()));
    let want = content(&from, MOVED);
    assert_eq!(want.len(), samples + 2);
    assert_eq!(content(&to, MOVED), want);
    // A second import adds no duplicates.
    assert_eq!(import(&to.url(), &file), (Some(0), String::new()));
    assert_eq!(content(&to, MOVED), want);
    let (code, errors) = export(&from.url(), &file, &[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("already exists"), "{errors}");
    // The error names a malformed line, and nothing of its request is stored.
    let bad = from.dir.path().join("bad.jsonl");
    let line = "{\"metric\":{\"__name__\":\"moved_bad\"},\"values\":[1],\"timestamps\":[1000]}\n";
    std::fs::write(&bad, format!("{line}{{\"metric\":1}}\n")).unwrap();
    let (code, errors) = import(&to.url(), &bad);
    assert_eq!(code, Some(1));
    assert!(errors.contains("byte 69 of"), "{errors}");
    assert!(content(&to, "moved_bad").is_empty());
    from.stop();
    to.stop();
}

fn spawn(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tidemarkctl"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn interrupted_export_and_import_resume_without_duplicates() {
    let (from, to) = (Aggregator::start(), Aggregator::start());
    fill(&from, 300, 50);
    let (whole, broken) = (
        from.dir.path().join("whole"),
        from.dir.path().join("broken"),
    );
    assert_eq!(export(&from.url(), &whole, &[]).0, Some(0));
    for millis in [30, 60, 90, 120] {
        let url = from.url();
        let file = broken.to_str().unwrap();
        let mut child = spawn(&["--url", &url, "storage", "export", file, "--match", MOVED]);
        std::thread::sleep(Duration::from_millis(millis));
        drop(child.kill());
        child.wait().unwrap();
    }
    if !broken.try_exists().unwrap() {
        // Killed within a line: bytes after the last complete name are discarded.
        let state = from.dir.path().join("broken.part.state");
        let text = std::fs::read(&whole).unwrap();
        let names: Vec<usize> = text
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'\n')
            .map(|(at, _)| at + 1)
            .collect();
        let at = names[99];
        std::fs::write(from.dir.path().join("broken.part"), &text[..at + 17]).unwrap();
        let question = serde_json::json!([MOVED, "JsonLines", "None None"]);
        let json = serde_json::json!({"question": question, "name": "moved_0099", "bytes": at});
        std::fs::write(&state, json.to_string()).unwrap();
        assert_eq!(export(&from.url(), &broken, &[]), (Some(0), String::new()));
        assert!(!state.try_exists().unwrap());
    }
    assert_eq!(
        std::fs::read(&broken).unwrap(),
        std::fs::read(&whole).unwrap()
    );
    for millis in [20, 50, 80] {
        let url = to.url();
        let mut child = spawn(&["--url", &url, "storage", "import", broken.to_str().unwrap()]);
        std::thread::sleep(Duration::from_millis(millis));
        drop(child.kill());
        child.wait().unwrap();
    }
    assert_eq!(import(&to.url(), &broken), (Some(0), String::new()));
    assert_eq!(content(&to, MOVED), content(&from, MOVED));
    from.stop();
    to.stop();
}

#[test]
fn verify_reports_file_and_offset_and_restore_copies_a_snapshot() {
    let aggregator = Aggregator::start_with(&["--web.enable-admin-api"]);
    fill(&aggregator, 10, 50);
    let want = content(&aggregator, MOVED);
    let made = aggregator
        .post_form("/api/v1/admin/tsdb/snapshot", "")
        .data();
    let name = made["name"].as_str().unwrap().to_owned();
    let data = aggregator.dir.path().join("data");
    let (code, _, errors) = run(&["storage", "verify", data.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("is in use"), "{errors}");
    let dir = aggregator.stop();
    let data = dir.path().join("data");
    let (code, out, errors) = run(&["storage", "verify", data.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{out}{errors}");
    assert!(
        out.contains(" 500 samples") || out.contains("samples"),
        "{out}"
    );

    let alerts = data.join("alerting/state.log");
    let whole = std::fs::read(&alerts).unwrap();
    std::fs::write(&alerts, [&whole[..], b"?"].concat()).unwrap();
    let (code, out, _) = run(&["storage", "verify", data.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{out}");
    let place = format!("state.log: offset {}: incomplete record", whole.len());
    assert!(out.contains(&place), "{out}");
    std::fs::write(&alerts, whole).unwrap();

    let snapshot = data.join("snapshots").join(&name);
    let restored = tempfile::tempdir().unwrap();
    let target = restored.path().join("data");
    let restore = |snapshot: &Path| {
        let paths = [snapshot.to_str().unwrap(), target.to_str().unwrap()];
        run(&["storage", "restore", paths[0], paths[1]])
    };
    assert_eq!(restore(&snapshot).0, Some(0));
    let (code, _, errors) = restore(&snapshot);
    assert_eq!(code, Some(1));
    assert!(errors.contains("is not empty"), "{errors}");
    let again = Aggregator::start_in(restored, &[]);
    assert_eq!(content(&again, MOVED), want);
    again.stop();

    let mut blocks = std::fs::read_dir(data.join("blocks")).unwrap();
    let block = blocks.next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&block).unwrap();
    bytes[40] ^= 4;
    std::fs::write(&block, bytes).unwrap();
    let (code, out, errors) = run(&["storage", "verify", data.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains(".blk: offset 8: chunk of "), "{out}");
    assert!(errors.contains("1 places are damaged"), "{errors}");
    // The snapshot's blocks are hard links, so they are damaged too.
    std::fs::remove_dir_all(target).unwrap_or_default();
    let other = tempfile::tempdir().unwrap();
    let args = [snapshot.to_str().unwrap(), other.path().to_str().unwrap()];
    let (code, _, errors) = run(&["storage", "restore", args[0], args[1]]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("nothing was restored"), "{errors}");
}

/// promtool creates blocks from our OpenMetrics text, and the real Prometheus returns our samples.
#[test]
fn promtool_creates_blocks_from_an_open_metrics_export() {
    let Some(promtool) = peer("PROMTOOL") else {
        return;
    };
    let aggregator = Aggregator::start();
    fill(&aggregator, 5, 40);
    let dir = aggregator.dir.path().to_owned();
    let file = dir.join("out.om");
    let form = ["--form", "openmetrics"];
    assert_eq!(
        export(&aggregator.url(), &file, &form),
        (Some(0), String::new())
    );
    let blocks = dir.join("blocks");
    let made = Command::new(promtool)
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([&file, &blocks])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    // promtool opens it as a database, which needs a log.
    std::fs::create_dir(blocks.join("wal")).unwrap();
    let dumped = Command::new(promtool)
        .args(["tsdb", "dump"])
        .arg(&blocks)
        .output()
        .unwrap();
    let text = String::from_utf8(dumped.stdout).unwrap();
    let samples = text.lines().filter(|line| line.contains("moved_")).count();
    assert_eq!(samples, 200, "{text}");
    // Import it into an empty store.
    let other = Aggregator::start();
    assert_eq!(import(&other.url(), &file), (Some(0), String::new()));
    assert_eq!(content(&other, MOVED), content(&aggregator, MOVED));
    aggregator.stop();
    other.stop();
}

/// VictoriaMetrics exports staleness markers as `null`.
#[test]
fn null_in_an_import_ends_the_series() {
    let aggregator = Aggregator::start();
    let end = now_ms();
    let (before, middle) = (end - 120_000, end - 60_000);
    let lines = format!(
        "{{\"metric\":{{\"__name__\":\"vmx\",\"i\":\"b\"}},\"values\":[1,2,3],\"timestamps\":[{before},{middle},{end}]}}\n\
         {{\"metric\":{{\"__name__\":\"vmx\",\"i\":\"a\"}},\"values\":[1,2,null],\"timestamps\":[{before},{middle},{end}]}}\n"
    );
    let address = &aggregator.address;
    let answer = http::request(address, "POST", "/api/v1/import", &[], lines.as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
    for (query, want) in [("sum(vmx)", "3"), ("count(vmx)", "1")] {
        let at = end / 1000 + 10;
        let path = format!("/api/v1/query?query={}&time={at}", encode(query));
        let data = aggregator.get(&path).data();
        assert_eq!(data["result"][0]["value"][1], want, "{query}");
    }
    aggregator.stop();
}

/// The real VictoriaMetrics imports our file, and we import its file.
#[test]
fn victoria_metrics_imports_our_export_and_we_import_its() {
    let Some(victoria) = peer("VICTORIA_METRICS") else {
        return;
    };
    let aggregator = Aggregator::start();
    fill(&aggregator, 5, 40);
    let want = content(&aggregator, MOVED);
    let data = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let _process = Process::start(
        Command::new(victoria)
            .arg(format!("-httpListenAddr={address}"))
            .arg(format!("-storageDataPath={}", data.path().display()))
            .arg("-loggerLevel=ERROR")
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    eventually("VictoriaMetrics", || {
        std::net::TcpStream::connect(&address).ok()
    });
    let url = format!("http://{address}");
    let dir = aggregator.dir.path().to_owned();
    let file = dir.join("ours.jsonl");
    assert_eq!(
        export(&aggregator.url(), &file, &[]),
        (Some(0), String::new())
    );
    assert_eq!(import(&url, &file), (Some(0), String::new()));
    // VictoriaMetrics also gets a series that has ended.
    let start = now_ms() - AGE_MS;
    let ended = [(start, 1.0), (start + 10_000, STALE_NAN)];
    let ended = series(&[("__name__", "moved_ended")], &ended);
    assert_eq!(write_to(&address, vec![ended]).status, 204);
    let flush = http::request(&address, "GET", "/internal/force_flush", &[], b"");
    assert_eq!(flush.status, 200);
    let theirs = dir.join("theirs.jsonl");
    assert_eq!(export(&url, &theirs, &[]), (Some(0), String::new()));
    let other = Aggregator::start();
    assert_eq!(import(&other.url(), &theirs), (Some(0), String::new()));
    let mut got = content(&other, MOVED);
    let ended = content(&other, "moved_ended");
    got.retain(|key, _| !ended.contains_key(key));
    let mut values = ended.into_values();
    assert_eq!(values.next(), Some(1_f64.to_bits()));
    assert_eq!(values.next(), Some(STALE_NAN.to_bits()));
    assert_eq!(got.len(), want.len());
    for (key, bits) in &want {
        let (want, got) = (f64::from_bits(*bits), f64::from_bits(got[key]));
        // VictoriaMetrics keeps about 15 significant digits.
        let close = want == got || (want - got).abs() <= want.abs() * 1e-12;
        assert!(close, "{key:?}: {want} and {got}");
    }
    aggregator.stop();
    other.stop();
}
