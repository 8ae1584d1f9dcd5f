//! promtool as the judge of rule files, their unit tests, and templates.

use std::path::{Path, PathBuf};
use std::process::Command;

use aggregator::alerting::plan::syntax;
use aggregator::alerting::unit_test;
use tidemark_alerting::rules::file::{load, parse};
use tidemark_alerting::template::rule::{Text, data};
use tidemark_alerting::template::{Env, Notation, format_float};
use tidemark_promql::Features;

use super::peer;
use crate::alerting::shared_rules;
use crate::harness::workspace;

fn yml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yml"));
    paths.sort();
    paths
}

/// Bodies of a rule, of a group, and whole files; most are wrong, a few are right.
const RULES: &[&str] = &[
    "{record: a, expr: x}",
    "{record: a, expr: 'sum('}",
    "{record: a, expr: ''}",
    "{record: a}",
    "{record: a, expr: null}",
    "{record: a, alert: b, expr: x}",
    "{expr: x}",
    "{record: 'a b', expr: x}",
    "{record: 'a{b=\"c\"}', expr: x}",
    "{record: 'a}', expr: x}",
    "{record: '', expr: x}",
    "{record: a, expr: x, for: 1m}",
    "{record: a, expr: x, for: 0s}",
    "{record: a, expr: x, keep_firing_for: 1m}",
    "{record: a, expr: x, annotations: {s: t}}",
    "{record: a, expr: x, annotations: {}}",
    "{record: a, expr: x, labels: {__name__: y}}",
    "{record: a, expr: x, labels: {'': y}}",
    "{record: a, expr: x, labels: {'b c': y}}",
    "{record: a, expr: x, labels: [b]}",
    "{record: a, expr: x, labels: {b: [c]}}",
    "{record: a, expr: x, labels: {b: 1}}",
    "{record: a, expr: x, labels: {b: '{{ nope }}'}}",
    "{record: a, expr: x, nope: 1}",
    "{record: [a], expr: x}",
    "{record: a, expr: [x]}",
    "{record: a, expr: 1}",
    "{alert: A, expr: x}",
    "{alert: 'A b', expr: x}",
    "{alert: A, expr: 'x >'}",
    "{alert: A, expr: 'x[5m]'}",
    "{alert: A, expr: '\"text\"'}",
    "{alert: A, expr: 'rate(x)'}",
    "{alert: A, expr: 'sum by (a, x)'}",
    "{alert: A, expr: x, for: 5}",
    "{alert: A, expr: x, for: 5x}",
    "{alert: A, expr: x, for: -5m}",
    "{alert: A, expr: x, for: 1m1h}",
    "{alert: A, expr: x, for: ''}",
    "{alert: A, expr: x, for: 1.5h}",
    "{alert: A, expr: x, keep_firing_for: never}",
    "{alert: A, expr: x, labels: {__name__: y}}",
    "{alert: A, expr: x, labels: {a: '{{ $label.x }}'}}",
    "{alert: A, expr: x, annotations: {'': y}}",
    "{alert: A, expr: x, annotations: {a: '{{ $x }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{ .Foo }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{ nope 1 }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{ if true }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{ end }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{ \"x }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{ 1 | 2 }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{'}}",
    "{alert: A, expr: x, annotations: {a: '}}'}}",
    "{alert: A, expr: x, annotations: {a: '{{ }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{ break }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{ template \"x\" }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{ define \"x\" }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{ printf \"%d\" 1 | }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{ (1 }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{ $value := 1 }}{{ $value }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{ /* c */ }}'}}",
    "{alert: A, expr: x, annotations: {a: '{{/* c */}}'}}",
    "{alert: A, expr: x, record: ''}",
    "x",
    "[]",
];

const FILES: &[&str] = &[
    "",
    "groups:",
    "groups: []",
    "groups: {}",
    "groups: x",
    "[]",
    "nope: 1",
    "groups: [{}]",
    "groups: [{name: ''}]",
    "groups: [{name: g}]",
    "groups: [{name: g}, {name: g}]",
    "groups: [{name: g, nope: 1}]",
    "groups: [{name: g, interval: x}]",
    "groups: [{name: g, interval: 0s}]",
    "groups: [{name: g, limit: x}]",
    "groups: [{name: g, limit: -1}]",
    "groups: [{name: g, limit: '1'}]",
    "groups: [{name: g, query_offset: 1m}]",
    "groups: [{name: g, query_offset: x}]",
    "groups: [{name: g, labels: {a: b}}]",
    "groups: [{name: g, labels: {__name__: b}}]",
    "groups: [{name: g, rules: {}}]",
    "groups: [{name: g",
    "groups: [{name: g, name: h}]",
    "groups:\n\t- name: g",
];

#[test]
fn promtool_and_we_judge_rule_files_alike() {
    let Some(promtool) = peer("PROMTOOL") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let wrapped = RULES
        .iter()
        .map(|rule| format!("groups:\n- name: g\n  rules:\n  - {rule}\n"));
    let mut paths = Vec::new();
    for (index, text) in wrapped
        .chain(FILES.iter().map(|&text| text.to_owned()))
        .enumerate()
    {
        let path = dir.path().join(format!("{index}.yml"));
        std::fs::write(&path, text).unwrap();
        paths.push(path);
    }
    if let Some(shared) = shared_rules() {
        paths.extend(yml_files(&shared.join("promtool")));
        paths.extend(yml_files(&shared.join("kube-prometheus")));
    }
    let mut wrong = Vec::new();
    let mut refused = 0;
    for path in &paths {
        let output = Command::new(promtool)
            .args(["check", "rules", "--lint=none"])
            .arg(path)
            .output()
            .unwrap();
        let ours = load(std::slice::from_ref(path), &syntax(Features::default()));
        refused += usize::from(!output.status.success());
        if ours.is_ok() != output.status.success() {
            let text = std::fs::read_to_string(path).unwrap();
            let theirs = String::from_utf8_lossy(&output.stderr).into_owned();
            wrong.push(format!(
                "{}\nours: {ours:?}\npromtool: {theirs}",
                text.chars().take(300).collect::<String>()
            ));
        }
    }
    assert!(refused >= 60, "{refused} of {} files are bad", paths.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n---\n"));
}

#[test]
fn rule_unit_tests_give_promtools_verdict() {
    let (Some(promtool), Some(shared)) = (peer("PROMTOOL"), shared_rules()) else {
        return;
    };
    for path in yml_files(&shared.join("promtool")) {
        let output = Command::new(promtool)
            .args(["test", "rules"])
            .arg(&path)
            .output()
            .unwrap();
        let ours = unit_test::run(&path);
        // Native histograms are not evaluated here, and say so.
        let is_ours = |failure: &String| !failure.contains("native histograms are not supported");
        let good = ours
            .as_ref()
            .is_ok_and(|failures| !failures.iter().any(is_ours));
        let theirs = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            good,
            output.status.success(),
            "{}: {ours:?}\npromtool: {theirs}",
            path.display()
        );
    }
}

/// promtool takes the shipped rules, and their tests pass there too.
#[test]
fn shipped_rules_pass_promtool() {
    let Some(promtool) = peer("PROMTOOL") else {
        return;
    };
    let rules = workspace().join("deploy/rules");
    for (what, folder) in [("check", rules.clone()), ("test", rules.join("tests"))] {
        let paths = yml_files(&folder);
        let output = Command::new(promtool)
            .args([what, "rules"])
            .args(&paths)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}: {text}{errors}");
    }
}

/// Templates without single quotes; each is run with each value.
const TEMPLATES: &[&str] = &[
    "{{ $value }}",
    "{{ .Value }}",
    "{{ $labels.job }}",
    "{{ $labels.missing }}|",
    "{{ $value | humanize }}",
    "{{ $value | humanize1024 }}",
    "{{ $value | humanizeDuration }}",
    "{{ $value | humanizePercentage }}",
    "{{ $value | humanizeTimestamp }}",
    "{{ printf \"%.2f\" $value }}",
    "{{ printf \"%.0f\" $value }}",
    "{{ printf \"%0.0f\" $value }}",
    "{{ printf \"%.1f\" $value }}",
    "{{ printf \"%.4g\" $value }}",
    "{{ printf \"%g\" $value }}",
    "{{ printf \"%e\" $value }}",
    "{{ printf \"%v\" $value }}",
    "{{ printf \"%d\" $value }}",
    "{{ printf \"%s\" $value }}",
    "{{ printf \"%8.3f|%-8.3f|%08.3f|%+.1f\" $value $value $value $value }}",
    "{{ printf \"%q %x %5s|%-5s|%.1s\" $labels.job $labels.job $labels.job $labels.job $labels.job }}",
    "{{ printf \"%d %5d %x %o %b %c %U\" 42 42 42 42 42 65 65 }}",
    "{{ printf \"%t %v\" true nil }}",
    "{{ printf \"%d\" }}",
    "{{ printf \"x\" 1 }}",
    "{{ if gt $value 1.0 }}big{{ else if lt $value 0.0 }}negative{{ else }}small{{ end }}",
    "{{ if eq $labels.job \"api\" }}y{{ else }}n{{ end }}",
    "{{ with $labels.job }}<{{ . }}>{{ end }}",
    "{{ with $labels.missing }}a{{ else }}b{{ end }}",
    "{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}",
    "{{ range $labels }}{{ . }},{{ else }}none{{ end }}",
    "{{ len $labels }} {{ len $labels.job }}",
    "{{ index $labels \"job\" }}",
    "{{ $labels.instance | stripPort }} {{ stripDomain $labels.instance }}",
    "{{ toUpper $labels.job }} {{ toLower \"ABC\" }} {{ title \"ab cd-ef g_h\" }}",
    "{{ match \"a.*\" $labels.job }} {{ reReplaceAll \"(a)(p)\" \"$2$1\" $labels.job }}",
    "{{ graphLink \"up == 0\" }} {{ tableLink \"a+b\" }}",
    "{{ safeHtml \"<b>\" }} {{ html \"<b>\" }} {{ js \"it = <\" }} {{ urlquery \"a b&c\" }}",
    "{{ parseDuration \"1h2m10ms\" }}",
    "{{ define \"t\" }}[{{ . }}]{{ end }}{{ template \"t\" $labels.job }}",
    "{{ block \"b\" 3 }}[{{ . }}]{{ end }}",
    "a {{- /* x */ -}} b",
    "  {{- $value -}}  x",
    "{{ $x := 1 }}{{ $x = 2 }}{{ $x }}",
    "{{ and 1 0 }} {{ or 0 2 }} {{ not 0 }}",
    "{{ eq 1 1 }} {{ ne 1 2 }} {{ le 1 1 }} {{ ge \"b\" \"a\" }} {{ eq 1 2 3 1 }}",
    "{{ eq 1 1.0 }}",
    "{{ print 1 2 \"a\" 3 }} {{ slice \"abcdef\" 1 3 }}",
    "{{ args 1 \"b\" }}",
    "{{ (args 1 2).arg1 }}",
    "{{ .Nope }}",
    "{{ $labels.x.y }}",
    "{{ len $value }}",
    "{{ humanize $labels.job }}",
    "{{ humanize \"12345.6\" }}",
    "{{ first (query \"nothing_there\") }}",
    "{{ with query \"sort(up)\" }}{{ . | first | value }} {{ . | first | label \"instance\" }}{{ end }}",
    "{{ range query \"up\" | sortByLabel \"instance\" }}{{ .Labels.instance }}={{ .Value }};{{ end }}",
    "{{ toTime $value }}",
    "{{ $externalLabels.dc }} {{ $externalURL }}",
];

const VALUES: &[f64] = &[
    0.5,
    12_345_678.0,
    0.000_012_34,
    1_000_000.0,
    135.3563,
    -5.0,
    1.0,
    1e21,
    99.999,
];

#[test]
fn templates_give_what_promtool_gives() {
    let Some(promtool) = peer("PROMTOOL") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut rules = String::from("groups:\n- name: g\n  rules:\n");
    for (index, value) in VALUES.iter().enumerate() {
        let value = format_float(*value, Notation::General, None);
        rules.push_str(&format!("  - alert: A{index}\n    expr: up{{instance=\"a.b:80\"}} * 0 + {value}\n    annotations:\n"));
        for (index, template) in TEMPLATES.iter().enumerate() {
            rules.push_str(&format!("      t{index:02}: '{template}'\n"));
        }
    }
    parse(&rules, &syntax(Features::default())).unwrap();
    let mut tests = String::from(
        "rule_files: [r.yml]\ntests:\n- interval: 1m\n  external_labels: {dc: a}\n  external_url: http://e/p\n  input_series:\n  - {series: 'up{job=\"api\",instance=\"a.b:80\"}', values: '1'}\n  - {series: 'up{job=\"api\",instance=\"c:80\"}', values: '2'}\n  alert_rule_test:\n",
    );
    for index in 0..VALUES.len() {
        tests.push_str(&format!(
            "  - {{eval_time: 0s, alertname: A{index}, exp_alerts: []}}\n"
        ));
    }
    std::fs::write(dir.path().join("r.yml"), rules).unwrap();
    std::fs::write(dir.path().join("t.yml"), tests).unwrap();
    let output = Command::new(promtool)
        .args(["test", "rules"])
        .arg(dir.path().join("t.yml"))
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let mut compared = 0;
    let mut wrong = Vec::new();
    for (index, value) in VALUES.iter().enumerate() {
        let part = text
            .split(&format!("alertname: A{index},"))
            .nth(1)
            .unwrap_or_else(|| panic!("no A{index} in {text}"));
        let line = part
            .lines()
            .find(|line| line.trim().starts_with("Annotations:{t00"))
            .unwrap();
        let list = line.trim().strip_prefix("Annotations:").unwrap();
        let want = tidemark_alerting::notify::matcher::parse(list).unwrap();
        for (template, want) in TEMPLATES.iter().zip(&want) {
            let got = expand(&format!("A{index}"), template, *value);
            compared += 1;
            if got != want.value() {
                wrong.push(format!(
                    "{template} with {value}\n  ours:     {got}\n  promtool: {}",
                    want.value()
                ));
            }
        }
    }
    assert!(compared >= 500, "{compared}");
    assert!(
        wrong.is_empty(),
        "{} of {compared}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn expand(alert: &str, template: &str, value: f64) -> String {
    let labels =
        |pairs: &[(&str, &str)]| common::model::Labels::from_pairs(pairs.iter().copied()).unwrap();
    let element = labels(&[("job", "api"), ("instance", "a.b:80")]);
    let mut query = |expr: &str| {
        let up = |instance: &str, value: f64| {
            (
                labels(&[("__name__", "up"), ("job", "api"), ("instance", instance)]),
                value,
            )
        };
        Ok(if matches!(expr, "up" | "sort(up)") {
            vec![up("a.b:80", 1.0), up("c:80", 2.0)]
        } else {
            Vec::new()
        })
    };
    let mut env = Env {
        now_ms: 0,
        external_url: "http://e/p",
        query: Some(&mut query),
        queries_left: 5,
    };
    let data = data(&element, &labels(&[("dc", "a")]), "http://e/p", value);
    Text::new(alert, template).expand(&data, &mut env)
}
