//! What was collected, in the text exposition format 0.0.4.

use std::fmt::Write as _;

use common::model::label::METRIC_NAME;
use common::model::{Labels, MetricType};

use crate::collectors::up::UP;
use crate::schema::NODE_JOB;
use crate::table::{FamilyId, SeriesId, SeriesTable};

/// What every process says of itself. Without the target's labels the kubelet's would be taken for the agent's own.
const OF_A_PROCESS: [&str; 2] = ["go_", "process_"];

/// Labels that a scraper sets itself; exported they would come back as `exported_job`.
const TARGET_LABELS: [&str; 4] = ["job", "instance", "metrics_path", "cluster"];

/// Appends the current tick's values to `out`, families by name, with help and type.
pub fn render(table: &SeriesTable, out: &mut String) {
    // A scraper makes `up` itself.
    let is_shown = |family: &FamilyId| table.family(*family).name != UP;
    let family = |(id, value)| {
        let family = table.family_of(id).filter(is_shown)?;
        let name = &*table.family(family).name;
        let is_of_a_process = OF_A_PROCESS.iter().any(|prefix| name.starts_with(prefix));
        if is_of_a_process && table.def(id)?.labels.get("job") == Some("kubelet") {
            return None;
        }
        Some((family, id, value))
    };
    let mut rows: Vec<(FamilyId, SeriesId, f64)> = table.current().filter_map(family).collect();
    // Stable: within a family by number.
    rows.sort_by(|a, b| table.family(a.0).name.cmp(&table.family(b.0).name));
    let mut last = None;
    for (family, id, value) in rows {
        if last != Some(family) {
            head(table, family, out);
            last = Some(family);
        }
        if let Some(def) = table.def(id) {
            sample(&def.labels, value, out);
        }
    }
}

fn head(table: &SeriesTable, family: FamilyId, out: &mut String) {
    let family = table.family(family);
    let kind = match family.metadata.metric_type {
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
    // Writing to a String can't fail.
    let (Ok(()) | Err(_)) = write!(out, "# HELP {0} {help}\n# TYPE {0} {kind}\n", family.name);
}

fn sample(labels: &Labels, value: f64, out: &mut String) {
    out.push_str(labels.metric_name().unwrap_or_default());
    // The agent's own pod is a target label on the node's series, but names the pod on those of containers.
    let is_node = labels.get("job") == Some(NODE_JOB);
    let is_target = |name: &str| {
        name == METRIC_NAME
            || TARGET_LABELS.contains(&name)
            || is_node && matches!(name, "namespace" | "pod")
    };
    let mut separator = '{';
    for (name, value) in labels.iter().filter(|(name, _)| !is_target(name)) {
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
    use super::*;
    use crate::schema::{NodeIdentity, Schema, Target, counter, gauge};

    #[test]
    fn families_are_sorted_and_target_labels_left_out() {
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
        render(&table, &mut out);
        let want = "# HELP b_total B\\nb.\n# TYPE b_total counter\nb_total{x=\"q\\\"\\\\\\n\"} 0.5\n\
                    # HELP container_a A\\\\.\n# TYPE container_a gauge\ncontainer_a{pod=\"w\"} +Inf\n";
        assert_eq!(out, want);
    }

    #[test]
    fn process_of_the_kubelet_is_not_taken_for_the_agents() {
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
            render(&table, &mut out);
            assert_eq!(out, want);
        }
    }
}
