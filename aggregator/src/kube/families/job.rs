//! `kube_job_*`.

use serde::Deserialize;

use crate::kube::kind::Kind;
use crate::kube::object::{Condition, Meta, Object, or_default};
use crate::kube::series::{Describe, Description, STATUSES};

/// A job.
pub type Job = Object<Spec, Status>;

/// The desired state.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Spec {
    completions: Option<i64>,
    parallelism: Option<i64>,
}

/// The progress.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    active: i64,
    failed: i64,
    succeeded: i64,
    start_time: Option<String>,
    completion_time: Option<String>,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
}

/// The reasons with their own label value. Any other becomes the empty one.
const REASONS: [&str; 3] = ["BackoffLimitExceeded", "DeadlineExceeded", "Evicted"];

impl Describe for Job {
    const KIND: Kind = Kind::Job;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn describe(&self, out: &mut Description<'_>) {
        let Meta {
            namespace, name, ..
        } = &self.metadata;
        let id = [("namespace", namespace.as_str()), ("job_name", name)];
        let status = &self.status;
        out.add("kube_job_info", &id, 1.0);
        out.add("kube_job_status_active", &id, status.active as f64);
        out.add("kube_job_status_succeeded", &id, status.succeeded as f64);
        out.add_time(
            "kube_job_created",
            &id,
            self.metadata.creation_timestamp.as_deref(),
        );
        out.add_some("kube_job_spec_completions", &id, self.spec.completions);
        out.add_some("kube_job_spec_parallelism", &id, self.spec.parallelism);
        out.add_time(
            "kube_job_status_start_time",
            &id,
            status.start_time.as_deref(),
        );
        out.add_time(
            "kube_job_status_completion_time",
            &id,
            status.completion_time.as_deref(),
        );
        out.add_owners("kube_job_owner", &id, &self.metadata);
        self.describe_failures(&id, out);
        for condition in &status.conditions {
            let name = match condition.condition_type.as_str() {
                "Complete" => "kube_job_complete",
                "Failed" => "kube_job_failed",
                _ => continue,
            };
            // Unlike the conditions of other kinds, the status is the value of the label `condition`.
            let current = condition.status.to_ascii_lowercase();
            out.add_states(name, &id, ("condition", &STATUSES), &current);
        }
    }
}

impl Job {
    fn describe_failures(&self, id: &[(&str, &str); 2], out: &mut Description<'_>) {
        const NAME: &str = "kube_job_status_failed";
        let failed = self.status.failed as f64;
        if self.status.failed == 0 {
            return out.add(NAME, id, failed);
        }
        let condition = self
            .status
            .conditions
            .iter()
            .find(|c| c.condition_type == "Failed");
        let reason = condition.map_or("", |condition| condition.reason.as_str());
        if condition.is_some() {
            out.add_states(NAME, id, ("reason", &REASONS), reason);
        }
        if !REASONS.contains(&reason) {
            out.add(NAME, id, failed);
        }
    }
}
