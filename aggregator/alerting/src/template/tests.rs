//! Tests of the language as a whole. Unit tests next to each function cover the functions; tests/integration compares
//! output with Prometheus and Alertmanager.

use common::model::Labels;

use super::functions::Env;
use super::{Escaping, Job, Limits, Set, Value, notification, rule};

fn env() -> Env<'static> {
    Env {
        now_ms: 1_000_500,
        external_url: "http://x:9090/path",
        query: None,
        queries_left: 5,
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

#[track_caller]
fn check(source: &str, want: &str) {
    let data = rule::data(
        &labels(&[("job", "api"), ("instance", "h.example:80")]),
        &labels(&[("dc", "a")]),
        "http://x",
        0.5,
    );
    assert_eq!(
        rule::Text::new("A", source).expand(&data, &mut env()),
        want,
        "{source}"
    );
}

#[test]
fn fields_variables_and_pipelines() {
    check(
        "{{ $labels.job }} {{ .Labels.instance }} {{ $value }} {{ $externalLabels.dc }} {{ $externalURL }}",
        "api h.example:80 0.5 a http://x",
    );
    check("{{ $labels.missing }}|", "|");
    check("{{ $value | humanizePercentage }}", "50%");
    check("{{ printf \"%.2f %s\" $value $labels.job }}", "0.50 api");
    check("{{ .Labels.instance | stripPort | stripDomain }}", "h");
    check("{{ $x := 1 }}{{ $x = 2 }}{{ $x }}", "2");
    check(
        "{{ with $x := $labels.job }}{{ . }}{{ $x }}{{ else }}no{{ end }}",
        "apiapi",
    );
    check(
        "{{ (index $labels \"job\") | toUpper }} {{ len $labels }}",
        "API 2",
    );
    check(
        "{{ now }} {{ pathPrefix }} {{ externalURL }}",
        "1000.5 /path http://x:9090/path",
    );
    check("{{ parseDuration \"1h2m10ms\" }}", "3720.01");
    check("{{ (toTime $value).Format \"15:04:05\" }}", "00:00:00");
}

#[test]
fn control_flow() {
    check(
        "{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}",
        "instance=h.example:80;job=api;",
    );
    check(
        "{{ range $i := 5 }}{{ if eq $i 1 }}{{ continue }}{{ else if eq $i 3 }}{{ break }}{{ end }}{{ $i }}{{ end }}",
        "02",
    );
    check(
        "{{ if and (gt $value 0.1) (lt $value 1.0) }}in{{ else }}out{{ end }}",
        "in",
    );
    check("{{ if or false \"\" }}y{{ else }}n{{ end }}", "n");
    check(
        "{{ define \"t\" }}<{{ . }}>{{ end }}{{ template \"t\" $labels.job }}",
        "<api>",
    );
    check("{{ block \"b\" 3 }}[{{ . }}]{{ end }}", "[3]");
    check("a {{- /* gone */ -}} b", "ab");
    check("a  {{- 1 -}}  b", "a1b");
    check(
        "{{ $n := 0 }}{{ range $labels }}{{ $n = len . }}{{ end }}{{ $n }}",
        "3",
    );
    check(
        "{{ with (args 1 \"b\") }}{{ .arg0 }}{{ .arg1 }}{{ .arg2 }}{{ end }}",
        "1b<no value>",
    );
}

#[test]
fn failures_become_the_text() {
    let prefix =
        "<error expanding template: error executing template __alert_A: template: __alert_A:1:";
    check(
        "{{ .Nope }}",
        &format!(
            "{prefix}115: executing \"__alert_A\" at <.Nope>: can't evaluate field Nope in type struct {{ Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {{}} }}>"
        ),
    );
    check(
        "{{ $value | len }}",
        &format!(
            "{prefix}124: executing \"__alert_A\" at <len>: error calling len: len of type float64>"
        ),
    );
}

#[test]
fn parse_errors_name_the_line() {
    for (source, want) in [
        (
            "{{ $label.foo }}",
            "template: __alert_A:1: undefined variable \"$label\"",
        ),
        (
            "\n{{ nope 1 }}",
            "template: __alert_A:2: function \"nope\" not defined",
        ),
        ("{{ if true }}", "template: __alert_A:1: unexpected EOF"),
        ("{{ end }}", "template: __alert_A:1: unexpected {{end}}"),
        ("{{ 1", "template: __alert_A:1: unclosed action"),
        (
            "{{ \"a }}",
            "template: __alert_A:1: unterminated quoted string",
        ),
        (
            "{{ break }}",
            "template: __alert_A:1: {{break}} outside {{range}}",
        ),
        (
            "{{ 1 | 2 }}",
            "template: __alert_A:1: non executable command in pipeline stage 2",
        ),
    ] {
        assert_eq!(
            rule::check("A", source).unwrap_err().to_string(),
            want,
            "{source}"
        );
    }
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(rule::check("A", &deep).is_err());
}

#[test]
fn execution_is_bounded() {
    let run = |source: &str, limits| {
        let job = Job {
            name: "x",
            source,
            functions: rule::lookup,
            limits,
            escaping: Escaping::None,
        };
        Set::default().expand(&job, Value::Nil, &mut env())
    };
    let source = "{{ range 10 }}ab{{ end }}";
    let limits = |output_bytes, steps| Limits {
        output_bytes,
        steps,
    };
    assert_eq!(run(source, limits(20, 100)).unwrap().len(), 20);
    assert!(run(source, limits(19, 100)).is_err());
    assert!(run(source, limits(20, 15)).is_err());
    assert!(
        run(
            "{{ define \"a\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}",
            limits(20, 10_000)
        )
        .is_err()
    );
    assert!(run("{{ range 1000000000 }}{{ end }}", limits(20, 1000)).is_err());
}

fn alert(status: &'static str, pairs: &[(&str, &str)]) -> notification::AlertData {
    notification::AlertData {
        status,
        labels: labels(pairs),
        annotations: [("summary", "<b>")].into_iter().collect(),
        starts_at_ms: 1_700_000_000_123,
        ends_at_ms: None,
        generator_url: "http://p/graph".to_owned(),
        fingerprint: "0123456789abcdef".to_owned(),
    }
}

#[track_caller]
fn check_notification(escaping: Escaping, source: &str, want: &str) {
    let data = notification::Data {
        route_labels: Labels::empty(),
        receiver: "team".to_owned(),
        status: "firing",
        alerts: vec![
            alert("firing", &[("alertname", "A"), ("a", "1")]),
            alert("resolved", &[("alertname", "A"), ("a", "2")]),
        ],
        group_labels: labels(&[("alertname", "A")]),
        common_labels: labels(&[("alertname", "A"), ("Z", "z")]),
        common_annotations: [("summary", "<b>")].into_iter().collect(),
        external_url: "http://am".to_owned(),
        reason: "first notification",
        group_key: "{}:{}".to_owned(),
    };
    let job = Job {
        name: "n",
        source,
        functions: notification::lookup,
        limits: notification::LIMITS,
        escaping,
    };
    assert_eq!(
        Set::default()
            .expand(&job, data.to_value(), &mut env())
            .unwrap(),
        want,
        "{source}"
    );
}

#[test]
fn notification_data_and_methods() {
    let plain = |source, want| check_notification(Escaping::None, source, want);
    plain(
        "{{ len .Alerts.Firing }} {{ .Alerts.Resolved | len }} {{ (index .Alerts 0).Labels.a }}",
        "1 1 1",
    );
    plain("{{ .CommonLabels.SortedPairs.Values | join \",\" }}", "A,z");
    plain(
        "{{ with .CommonLabels.Remove .GroupLabels.Names }}{{ .Values | join \" \" }}{{ end }}",
        "z",
    );
    plain(
        "{{ range .CommonLabels.SortedPairs }}{{ .Name }}={{ .Value }} {{ end }}",
        "alertname=A Z=z ",
    );
    plain(
        "{{ (index .Alerts 0).StartsAt.Format \"2006-01-02T15:04:05Z07:00\" }} {{ (index .Alerts 0).EndsAt }}",
        "2023-11-14T22:13:20Z 0001-01-01 00:00:00 +0000 UTC",
    );
    plain(
        "{{ (index .Alerts 0).StartsAt | tz \"Europe/Paris\" | date \"15:04 MST\" }}",
        "23:13 CET",
    );
    plain(
        "{{ dict \"a\" 1 \"b\" (list \"x\" \"y\") | toJson }}",
        "{\"a\":1,\"b\":[\"x\",\"y\"]}",
    );
    plain(
        "{{ .Status | title }} {{ reReplaceAll \"(.)a\" \"$1-\" \"xa\" }} {{ stringSlice \"a\" \"b\" | join \"+\" }}",
        "Firing x- a+b",
    );
    check_notification(
        Escaping::Html,
        "<p>{{ .CommonAnnotations.summary }}</p>{{ safeHtml \"<i>\" }}",
        "<p>&lt;b&gt;</p><i>",
    );
}
