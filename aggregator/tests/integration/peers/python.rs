//! PyPI's `prometheus-api-client`, an independent client of the API.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Aggregator, now_ms};
use crate::remote::{series, write};

const SCRIPT: &str = r#"
import sys
from datetime import datetime, timedelta
from prometheus_api_client import PrometheusConnect
prom = PrometheusConnect(url=sys.argv[1])
assert prom.check_prometheus_connection()
assert "py_total" in prom.all_metrics()
assert "job" in prom.get_label_names()
assert prom.get_label_values("job", params={"match[]": "py_total"}) == ["a", "b"]
assert len(prom.get_series(datetime.now() - timedelta(minutes=5), datetime.now(), params={"match[]": "py_total"})) == 2
now = prom.get_current_metric_value(metric_name="py_total", label_config={"job": "a"})
assert len(now) == 1 and now[0]["metric"]["job"] == "a", now
answer = prom.custom_query("sum(py_total) by (job)")
assert sorted(one["metric"]["job"] for one in answer) == ["a", "b"], answer
end = datetime.fromtimestamp(float(sys.argv[2]))
rows = prom.custom_query_range("py_total", start_time=end - timedelta(minutes=2), end_time=end, step="15")
assert len(rows) == 2 and len(rows[0]["values"]) >= 7, rows
data = prom.get_metric_range_data("py_total", start_time=end - timedelta(minutes=2), end_time=end)
assert sum(len(one["values"]) for one in data) >= 20, data
print("client is content")
"#;

/// A Python in the cache with the PyPI package `package`, which provides `module`. Prints a message and returns `None`
/// if it can't be installed.
pub(super) fn python(package: &str, module: &str) -> Option<PathBuf> {
    if std::env::var_os("TIDEMARK_NO_PEERS").is_some() {
        eprintln!("SKIPPED: {package}, because TIDEMARK_NO_PEERS is set");
        return None;
    }
    let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    let cache =
        std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    // One environment per package, so that parallel tests do not share one.
    let dir = cache.join("tidemark/python").join(package);
    let python = dir.join("bin/python");
    let works = || {
        Command::new(&python)
            .args(["-c", &format!("import {module}")])
            .output()
            .is_ok_and(|o| o.status.success())
    };
    if !works() {
        let installed = [
            Command::new("python3")
                .args(["-m", "venv"])
                .arg(&dir)
                .output(),
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", package])
                .output(),
        ];
        if !works() {
            eprintln!("SKIPPED: {package} can't be installed: {installed:?}");
            return None;
        }
    }
    Some(python)
}

#[test]
fn prometheus_api_client_works() {
    let Some(python) = python("prometheus-api-client", "prometheus_api_client") else {
        return;
    };
    let aggregator = Aggregator::start();
    let now = now_ms();
    let samples: Vec<_> = (0..30)
        .map(|n| (now - 290_000 + n * 10_000, n as f64))
        .collect();
    let one = |job| series(&[("__name__", "py_total"), ("job", job)], &samples);
    assert_eq!(write(&aggregator, vec![one("a"), one("b")]).status, 204);
    let output = Command::new(python)
        .args(["-c", SCRIPT, &aggregator.url()])
        .arg((now / 1000).to_string())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    aggregator.stop();
}
