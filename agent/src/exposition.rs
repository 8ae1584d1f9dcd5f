//! Renders collected series in the text exposition format 0.0.4.

use std::fmt::Write as _;

use common::model::label::METRIC_NAME;
use common::model::{Labels, MetricType};

use crate::collectors::up::UP;
use crate::schema::Schema;
use crate::table::{FamilyId, SeriesId, SeriesTable};

/// Prefixes of metrics that every process has. Without target labels, the kubelet's would look like the agent's own.
const PROCESS_PREFIXES: [&str; 2] = ["go_", "process_"];

/// Appends the current tick's values to `out`, sorted by family, with help and type.
///
/// Target labels are omitted, because the scraper adds them itself and would rename ours to `exported_job`. Labels that a text file
/// set itself appear as in the file.
pub fn render(table: &SeriesTable, schema: &Schema, out: &mut String) {
    // The scraper creates `up` itself.
    let is_shown = |family: &FamilyId| table.family(*family).name != UP;
    let family = |(id, value)| {
        let family = table.family_of(id).filter(is_shown)?;
        let name = &*table.family(family).name;
        let is_of_process = PROCESS_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if is_of_process && table.def(id)?.labels.get("job") == Some("kubelet") {
            return None;
        }
        Some((family, id, value))
    };
    let mut rows: Vec<(FamilyId, SeriesId, f64)> = table.current().filter_map(family).collect();
    // A stable sort keeps the order of series within a family.
    rows.sort_by(|a, b| table.family(a.0).name.cmp(&table.family(b.0).name));
    let mut last = None;
    for (family, id, value) in rows {
        if last != Some(family) {
            head(table, family, out);
            last = Some(family);
        }
        if let Some(def) = table.def(id) {
            sample(schema, &def.labels, value, out);
        }
    }
}

fn head(table: &SeriesTable, family: FamilyId, out: &mut String) {
    let family = table.family(family);
    let metric_type = match family.metadata.metric_type {
        MetricType::Counter => "counter",
        MetricType::Gauge | MetricType::Info | MetricType::StateSet => "gauge",
        MetricType::Histogram => "histogram",
        MetricType::Summary => "summary",
        MetricType::Unknown | MetricType::GaugeHistogram => "untyped",
    };
    let help = family
        .metadata
        .help
        .replace('\\', r"\\")
        .replace('\n', r"\n");
    // Writing to a String cannot fail.
    let (Ok(()) | Err(_)) = write!(
        out,
        "# HELP {0} {help}\n# TYPE {0} {metric_type}\n",
        family.name
    );
}

fn sample(schema: &Schema, labels: &Labels, value: f64, out: &mut String) {
    out.push_str(labels.metric_name().unwrap_or_default());
    let job = labels.get("job");
    let mut separator = '{';
    for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
        let Some(name) = schema.exposed_name(job, name) else {
            continue;
        };
        out.push(separator);
        out.push_str(name);
        out.push_str("=\"");
        escape(value, out);
        out.push('"');
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
    out.push(' ');
    push_value(value, out);
    out.push('\n');
}

fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str(r"\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str(r"\n"),
            c => out.push(c),
        }
    }
}

fn push_value(value: f64, out: &mut String) {
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        let (Ok(()) | Err(_)) = write!(out, "{value}");
    }
}

#[cfg(test)]
mod tests {
    use common::model::Metadata;

    use super::*;
    use crate::schema::{NodeIdentity, Schema, Target, counter, gauge};

    #[test]
    fn families_are_sorted_and_target_labels_omitted() {
        let identity = NodeIdentity {
            node: "n".to_owned(),
            pod: Some(("ns".to_owned(), "p".to_owned())),
            cluster: "c1".to_owned(),
        };
        let (mut table, mut schema) = (SeriesTable::default(), Schema::new(identity));
        let (b, a) = (counter("b_total", "B\nb."), gauge("container_a", r"A\."));
        let one = schema.series(&mut table, Target::Node, &b, &[("x", "q\"\\\n")]);
        let two = schema.series(&mut table, Target::Cadvisor, &a, &[("pod", "w")]);
        let old = schema.series(&mut table, Target::Node, &b, &[("x", "old")]);
        table.begin_tick(1);
        table.set(old, 1.0);
        table.begin_tick(2);
        table.set(one, 0.5);
        table.set(two, f64::INFINITY);
        let mut out = String::new();
        render(&table, &schema, &mut out);
        let want = "# HELP b_total B\\nb.\n# TYPE b_total counter\nb_total{x=\"q\\\"\\\\\\n\"} 0.5\n\
                    # HELP container_a A\\\\.\n# TYPE container_a gauge\ncontainer_a{pod=\"w\"} +Inf\n";
        assert_eq!(out, want);
    }

    #[test]
    fn process_metrics_of_the_kubelet_are_not_shown_as_the_agents() {
        let (mut table, mut schema) = (SeriesTable::default(), Schema::for_node("n"));
        table.begin_tick(1);
        let cpu = counter("process_cpu_seconds_total", "CPU.");
        for (target, want) in [
            (Target::Kubelet, ""),
            (
                Target::Agent,
                "# HELP process_cpu_seconds_total CPU.\n# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1\n",
            ),
        ] {
            let id = schema.series(&mut table, target, &cpu, &[]);
            table.set(id, 1.0);
            let mut out = String::new();
            render(&table, &schema, &mut out);
            assert_eq!(out, want);
        }
    }

    #[test]
    fn labels_of_a_text_file_are_exported_to_the_store_and_shown_as_written() {
        let identity = NodeIdentity {
            node: "n".to_owned(),
            pod: None,
            cluster: "c1".to_owned(),
        };
        let (mut table, mut schema) = (SeriesTable::default(), Schema::new(identity));
        table.begin_tick(1);
        let mut add = |labels: &[(&str, &str)]| {
            let family = ("backup_ok", Metadata::default());
            let id = schema.scraped_series(&mut table, Target::Node, family, "backup_ok", labels);
            table.set(id, 1.0);
            table.def(id).unwrap().labels.to_string()
        };
        let labels = add(&[("instance", "1"), ("pod", "p"), ("metrics_path", "/x")]);
        assert_eq!(
            labels,
            r#"{__name__="backup_ok", cluster="c1", exported_instance="1", instance="n", job="node-exporter", metrics_path="/x", pod="p"}"#
        );
        add(&[("cluster", "c2"), ("exported_job", "j")]);
        let mut out = String::new();
        render(&table, &schema, &mut out);
        let samples: Vec<&str> = out.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                r#"backup_ok{instance="1",metrics_path="/x",pod="p"} 1"#,
                r#"backup_ok{cluster="c2",exported_job="j"} 1"#,
            ]
        );
    }
}
